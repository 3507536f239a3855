"""Lists of jobs: pages newest first for people, chunks oldest first for work on many.

Each page is one walk along an index in id order that stops after `limit` rows, or after a bounded number of
rows that do not fit; none counts, none has an offset. What has to be opened for it (a payload, an error) is
looked for in steps: `engine/listing/walk_rows.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.contents.payload_keys import is_encrypted
from goqueue.db.statements import JOB_COLUMNS, Values, contents_of, fetch_all, fetch_one, job_from_row
from goqueue.engine.listing import walk_rows as job_walks
from goqueue.engine.listing.filters import JobFilter, terms_of
from goqueue.jobs import MAX_JOB_ID, Job, JobStatus

__all__ = [
    "Attempt",
    "Chunk",
    "Found",
    "attempt_of_row",
    "attempts_of",
    "chunk",
    "count",
    "newest_id",
    "page",
    "search",
]

#: Nearly all jobs are completed, and a backlog may stand before the newest of them: of these states a page
#: looks further, so that it is not empty behind a hundred thousand jobs that wait.
DENSE_LOOK_MAX = 200_000
_DENSE = frozenset({JobStatus.COMPLETED, JobStatus.QUEUED})

#: A page stops after this much JSON, so that a thousand jobs of a MiB do not become an answer of a GiB.
PAGE_MAX_BYTES = 8 * 1024 * 1024

# What is too much for one page is cut where PostgreSQL has the rows in its hands anyway.
_PAGE = f"""
    SELECT {JOB_COLUMNS}, found FROM (
        SELECT *, count(*) OVER () AS found,
               sum(octet_length(payload::text) + coalesce(octet_length(result::text), 0))
                   OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_above
        FROM ({{rows}}) AS newest
    ) AS sized
    WHERE coalesce(bytes_above, 0) <= %(bytes)s ORDER BY id DESC
"""

_NEWEST = "SELECT jobs.* FROM {source} WHERE {conditions} ORDER BY {newest_first} LIMIT %(limit)s"

# The inner LIMIT bounds what is looked at, the outer one ends the walk as soon as enough was found. The rows
# come in the order of the inner one, which nothing between them changes.
_NEWEST_OF_LOOK = """
    SELECT * FROM (
        SELECT jobs.* FROM {source} WHERE {range} ORDER BY {newest_first} LIMIT %(look)s
    ) AS jobs
    WHERE {fits} LIMIT %(limit)s
"""

# How far the walk of _NEWEST_OF_LOOK came, asked only where it did not find enough: by the index alone.
_REACHED = """
    SELECT count(*), min(id) FROM (
        SELECT jobs.id FROM {source} WHERE {range} ORDER BY {newest_first} LIMIT %(look)s
    ) AS looked_at
"""

_CHUNK = "SELECT jobs.id FROM {source} WHERE {conditions} ORDER BY {oldest_first} LIMIT %(limit)s"

_COUNT = "SELECT count(*) FROM {source} WHERE {conditions}"

_ATTEMPTS = """
    SELECT attempt, fence, outcome, worker_id, error, traceback, started_at, finished_at, run_seconds,
           (SELECT progress FROM attempt_progress AS said
            WHERE said.job_id = attempts.job_id AND said.fence = attempts.fence)
    FROM attempts WHERE job_id = %(id)s ORDER BY fence
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of `attempts`."""

    attempt: int
    fence: int
    outcome: str
    worker_id: int | None
    error: str | None
    traceback: str | None
    started_at: datetime
    finished_at: datetime
    run_seconds: float
    progress: float | None


class Found(NamedTuple):
    """The jobs that a search found.

    Attributes:
        jobs: in the order of their ids, newest first.
        looked: how many rows were looked at; None: the index led to all of them, or enough were found.
        next_before: nothing at or above this id is left; None: the search came to the end.
    """

    jobs: list[Job]
    looked: int | None
    next_before: int | None


class Chunk(NamedTuple):
    """The next jobs of many.

    Attributes:
        ids: oldest first.
        up_to: every job up to this id was looked at.
    """

    ids: list[int]
    up_to: int


def page(
    connection: Connection, wanted: JobFilter, *, limit: int, before_id: int | None = None
) -> tuple[list[Job], bool]:
    """Read the newest jobs below an id, newest first, and whether there are more below them.

    Not for a filter that searches: it may have to read the whole table for its next job.
    """
    terms = terms_of(connection, wanted)
    parameters = terms.between(0, before_id or MAX_JOB_ID) | {"limit": limit + 1}
    return _jobs_of(connection, terms.format(_NEWEST), parameters, limit)


def search(connection: Connection, wanted: JobFilter, *, limit: int, before_id: int | None = None) -> Found:
    """Read the newest jobs below an id that a bounded look finds, newest first, and where to look on."""
    if wanted.searches:
        walk = job_walks.walk(connection, wanted, limit=limit, below=before_id or MAX_JOB_ID)
        if not walk.ids:
            return Found([], walk.looked, walk.reached)
        jobs, more = page(connection, JobFilter(ids=tuple(walk.ids)), limit=limit)
        return Found(jobs, walk.looked, jobs[-1].id if more else walk.reached)
    terms = terms_of(connection, wanted, longest=job_walks.LONGEST_TRANSACTION)
    look = DENSE_LOOK_MAX if wanted.status in _DENSE else job_walks.LOOK_MAX
    parameters = terms.between(0, before_id or MAX_JOB_ID) | {"limit": limit + 1, "look": look}
    jobs, more = _jobs_of(connection, terms.format(_NEWEST_OF_LOOK), parameters, limit)
    if more:
        return Found(jobs, None, jobs[-1].id)
    if not terms.conditions:
        return Found(jobs, None, None)
    looked, reached = fetch_all(connection, terms.format(_REACHED), parameters)[0]
    return Found(jobs, looked, reached if looked == look else None)


def newest_id(connection: Connection) -> int:
    """Read the id of the newest job, or 0."""
    row = fetch_one(connection, "SELECT coalesce(max(id), 0) FROM jobs", {})
    assert row is not None
    return int(row[0])


def chunk(connection: Connection, wanted: JobFilter, *, after_id: int, up_to_id: int, limit: int) -> Chunk:
    """Read the next jobs above an id, oldest first; of a filter that searches, as a bounded look finds."""
    if wanted.searches:
        walk = job_walks.walk(
            connection, wanted, limit=limit, above=after_id, below=up_to_id + 1, newest_first=False
        )
        return Chunk(walk.ids, up_to_id if walk.reached is None else walk.reached)
    terms = terms_of(connection, wanted)
    parameters = terms.between(after_id, up_to_id + 1) | {"limit": limit}
    ids = [row[0] for row in fetch_all(connection, terms.format(_CHUNK), parameters)]
    return Chunk(ids, ids[-1] if len(ids) == limit else up_to_id)


def count(connection: Connection, wanted: JobFilter, *, up_to_id: int) -> int:
    """Count the jobs up to an id, however many; of a search, those that a bounded look finds."""
    if wanted.searches:
        walk = job_walks.walk(
            connection, wanted, limit=job_walks.LOOK_MAX, below=up_to_id + 1, newest_first=False
        )
        return len(walk.ids)
    terms = terms_of(connection, wanted)
    row = fetch_one(connection, terms.format(_COUNT), terms.between(0, up_to_id + 1))
    assert row is not None
    return int(row[0])


def _jobs_of(
    connection: Connection, rows: str, parameters: dict[str, Any], limit: int
) -> tuple[list[Job], bool]:
    """The jobs of a statement of one more than `limit`, as many as fit on a page; whether there are more."""
    found = fetch_all(connection, _PAGE.format(rows=rows), parameters | {"bytes": PAGE_MAX_BYTES})
    jobs = [job_from_row(connection, row[:-1]) for row in found[:limit]]
    return jobs, bool(found) and found[0][-1] > len(jobs)


def attempts_of(connection: Connection, job_id: int) -> list[Attempt]:
    """Read the attempts of a job that have ended, in their order."""
    rows = fetch_all(connection, _ATTEMPTS, {"id": job_id})
    return [attempt_of_row(connection, job_id, row) for row in rows]


def attempt_of_row(connection: Connection, job_id: int, row: Values) -> Attempt:
    """Return an attempt of a job, with its error and its traceback decrypted."""
    attempt = Attempt(*row)
    if attempt.error is None or not is_encrypted(attempt.error):
        return attempt
    contents = contents_of(connection)
    return replace(
        attempt,
        error=contents.shown(attempt.error, of_job("error", job_id)),
        traceback=contents.shown(attempt.traceback, of_job("traceback", job_id)),
    )
