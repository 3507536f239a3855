"""Lists of jobs: pages newest first for people, chunks oldest first for work on many.

Each page is one walk along an index in id order that stops after `limit` rows; none counts, none has an
offset. The statements are put together from constants, so that each has only the conditions that it needs;
a status is written into the text, because the planner uses a partial index only for a condition that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.jobs import MAX_JOB_ID, Job, JobStatus
from goqueue.store.rows import FINGERPRINT, JOB_COLUMNS, array, fetch_all, fetch_one, job_from_row

__all__ = ["Attempt", "JobFilter", "attempts_of", "chunk", "count", "newest_id", "page"]

#: A page stops after this much JSON, so that a thousand jobs of a MiB do not become an answer of a GiB.
PAGE_MAX_BYTES = 8 * 1024 * 1024

#: Ids are given out in the order of time, except that a transaction gives its rows the time of its start.
#: The rows of one that stayed open for longer than this may be missed by the filters on `created_at`.
LONGEST_TRANSACTION = "interval '1 hour'"


class _Range(NamedTuple):
    """A condition on ids, and the order in which its index has them."""

    condition: str
    newest_first: str
    oldest_first: str


# The first id whose row, and so every later one, was created at a time or later: about twenty steps down the
# primary key instead of an index that every insert would pay for.
_FIRST_ID_SINCE = """
    WITH RECURSIVE bisection (low, high) AS (
        SELECT coalesce(min(id), 0), coalesce(max(id), 0) + 1 FROM jobs
        UNION ALL
        SELECT CASE WHEN probe.created_at < {moment} THEN probe.id + 1 ELSE low END,
               CASE WHEN probe.created_at < {moment} THEN high ELSE low + (high - low) / 2 END
        FROM bisection CROSS JOIN LATERAL (
            SELECT id, created_at FROM jobs WHERE id >= low + (high - low) / 2 ORDER BY id LIMIT 1
        ) AS probe
        WHERE low < high
    )
    SELECT max(low) FROM bisection
"""

# What is too much for one page is cut where PostgreSQL has the rows in its hands anyway.
_PAGE = f"""
    SELECT {JOB_COLUMNS}, found FROM (
        SELECT *, count(*) OVER () AS found,
               sum(octet_length(payload::text) + coalesce(octet_length(result::text), 0))
                   OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_above
        FROM (SELECT * FROM jobs WHERE {{conditions}} ORDER BY {{newest_first}} LIMIT %(limit)s) AS newest
    ) AS sized
    WHERE coalesce(bytes_above, 0) <= %(bytes)s ORDER BY id DESC
"""

_CHUNK = "SELECT id FROM jobs WHERE {conditions} ORDER BY {oldest_first} LIMIT %(limit)s"

_COUNT = "SELECT count(*) FROM jobs WHERE {conditions}"

# Ids in a range, in their order: by the primary key, or inside one queue by jobs_queue_id_idx. To say it as
# rows is to insist on that index. With `queue = …` the planner often walks the primary key and expects a job
# of the queue every few steps; a million newer jobs of other queues would stand before the first.
_BY_ID = _Range("id > %(above)s AND id < %(below)s", "id DESC", "id")
_BY_QUEUE_AND_ID = _Range(
    "(queue, id) > (%(queue)s, %(above)s) AND (queue, id) < (%(queue)s, %(below)s)",
    "queue DESC, id DESC",
    "queue, id",
)

# One group of dead letters, in the order of ids.
_BY_FINGERPRINT_AND_ID = _Range(
    f"({FINGERPRINT}, id) > (%(fingerprint)s, %(above)s) "
    f"AND ({FINGERPRINT}, id) < (%(fingerprint)s, %(below)s)",
    f"{FINGERPRINT} DESC, id DESC",
    f"{FINGERPRINT}, id",
)

# These have indexes of their own, and are rare.
_INDEXED_STATUSES = frozenset(
    {JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.BLOCKED, JobStatus.RUNNING}
)

_ATTEMPTS = """
    SELECT attempt, fence, outcome, worker_id, error, traceback, started_at, finished_at, run_seconds,
           (SELECT progress FROM attempt_progress AS said
            WHERE said.job_id = attempts.job_id AND said.fence = attempts.fence)
    FROM attempts WHERE job_id = %(id)s ORDER BY fence
"""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; what is None does not matter.

    Attributes:
        created_after, created_before: the first belongs to the range, the second does not.
        fingerprint: the group of dead letters; it implies the status failed.
        ids: only these.
    """

    queue: str | None = None
    type: str | None = None
    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    fingerprint: str | None = None
    ids: tuple[int, ...] | None = None


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


def page(
    connection: Connection, wanted: JobFilter, *, limit: int, before_id: int | None = None
) -> tuple[list[Job], bool]:
    """The newest jobs below an id, newest first, and whether there are more below them."""
    sql, parameters = _statement(connection, _PAGE, wanted, above=0, below=before_id or MAX_JOB_ID)
    rows = fetch_all(connection, sql, parameters | {"limit": limit + 1, "bytes": PAGE_MAX_BYTES})
    jobs = [job_from_row(row[:-1]) for row in rows[:limit]]
    return jobs, bool(rows) and rows[0][-1] > len(jobs)


def newest_id(connection: Connection) -> int:
    """The id of the newest job, or 0."""
    row = fetch_one(connection, "SELECT coalesce(max(id), 0) FROM jobs", {})
    assert row is not None
    return int(row[0])


def chunk(
    connection: Connection, wanted: JobFilter, *, after_id: int, up_to_id: int, limit: int
) -> list[int]:
    """The next ids of the jobs above an id, oldest first."""
    sql, parameters = _statement(connection, _CHUNK, wanted, above=after_id, below=up_to_id + 1)
    return [row[0] for row in fetch_all(connection, sql, parameters | {"limit": limit})]


def count(connection: Connection, wanted: JobFilter, *, up_to_id: int) -> int:
    """How many jobs there are, up to an id."""
    sql, parameters = _statement(connection, _COUNT, wanted, above=0, below=up_to_id + 1)
    row = fetch_one(connection, sql, parameters)
    assert row is not None
    return int(row[0])


def attempts_of(connection: Connection, job_id: int) -> list[Attempt]:
    """The attempts of a job that have ended, in their order."""
    return [Attempt(*row) for row in fetch_all(connection, _ATTEMPTS, {"id": job_id})]


def _statement(
    connection: Connection, template: str, wanted: JobFilter, *, above: int, below: int
) -> tuple[str, dict[str, Any]]:
    status = wanted.status if wanted.fingerprint is None else JobStatus.FAILED
    ids = _range_of(wanted, status)
    conditions = [ids.condition, *_conditions_beside(ids, wanted, status)]
    if wanted.created_after is not None:
        conditions.append("created_at >= %(after)s")
        above = max(above, _first_id(connection, wanted.created_after, f"- {LONGEST_TRANSACTION}") - 1)
    if wanted.created_before is not None:
        conditions.append("created_at < %(before)s")
        below = min(below, _first_id(connection, wanted.created_before, f"+ {LONGEST_TRANSACTION}"))
    sql = template.format(
        conditions=" AND ".join(conditions), newest_first=ids.newest_first, oldest_first=ids.oldest_first
    )
    return sql, {
        "queue": wanted.queue,
        "type": wanted.type,
        "fingerprint": wanted.fingerprint,
        "ids": array(wanted.ids or ()),
        "after": wanted.created_after,
        "before": wanted.created_before,
        "above": above,
        "below": below,
    }


def _conditions_beside(ids: _Range, wanted: JobFilter, status: JobStatus | None) -> Iterator[str]:
    """What a filter says beside the range of ids and the times."""
    if wanted.queue is not None and ids is not _BY_QUEUE_AND_ID:
        yield "queue = %(queue)s"
    if wanted.type is not None:
        yield "type = %(type)s"
    if wanted.ids is not None:
        yield "id = ANY(%(ids)s::bigint[])"
    if status is not None:
        yield f"status = '{status.value}'"


def _range_of(wanted: JobFilter, status: JobStatus | None) -> _Range:
    """The index to walk: the one that leaves the least to be filtered."""
    if wanted.fingerprint is not None:
        return _BY_FINGERPRINT_AND_ID
    by_queue = wanted.queue is not None and wanted.ids is None and status not in _INDEXED_STATUSES
    return _BY_QUEUE_AND_ID if by_queue else _BY_ID


def _first_id(connection: Connection, moment: datetime, shift: str) -> int:
    """The first id since a moment that is shifted by an interval."""
    sql = _FIRST_ID_SINCE.format(moment=f"(%(moment)s::timestamptz {shift})")
    row = fetch_one(connection, sql, {"moment": moment})
    assert row is not None
    return int(row[0])
