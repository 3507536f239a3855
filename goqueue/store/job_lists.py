"""Lists of jobs: pages newest first for people, chunks oldest first for work on many.

Each page is one walk along an index in id order that stops after `limit` rows; none counts, none has an
offset. The statements are put together from constants, so that each has only the conditions that it needs;
a status is written into the text, because the planner uses a partial index only for a condition that it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from goqueue.jobs import MAX_JOB_ID, Job, JobStatus
from goqueue.store.rows import JOB_COLUMNS, Values, fetch_all, fetch_one, job_from_row

__all__ = ["Attempt", "JobFilter", "attempts_of", "chunk", "newest_id", "page"]

#: A page stops after this much JSON, so that a thousand jobs of a MiB do not become an answer of a GiB.
PAGE_MAX_BYTES = 8 * 1024 * 1024

#: Ids are given out in the order of time, except that a transaction gives its rows the time of its start.
#: The rows of one that stayed open for longer than this may be missed by the filters on `created_at`.
LONGEST_TRANSACTION = "interval '1 hour'"

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

_ATTEMPTS = """
    SELECT attempt, fence, outcome, worker_id, error, traceback, started_at, finished_at, run_seconds
    FROM attempts WHERE job_id = %(id)s ORDER BY fence
"""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; what is None does not matter.

    Attributes:
        created_after, created_before: the first belongs to the range, the second does not.
    """

    queue: str | None = None
    type: str | None = None
    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


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


def page(
    connection: Connection, wanted: JobFilter, *, limit: int, before_id: int | None = None
) -> tuple[list[Job], bool]:
    """The newest jobs below an id, newest first, and whether there are more below them."""
    conditions, parameters = _conditions(connection, wanted)
    parameters |= {"before": before_id or MAX_JOB_ID, "limit": limit + 1, "bytes": PAGE_MAX_BYTES}
    # The page is cut before it is sent, where PostgreSQL has each row in its hands anyway.
    rows = fetch_all(
        connection,
        f"SELECT * FROM (SELECT {JOB_COLUMNS}, coalesce(sum(octet_length(payload::text) "
        "+ coalesce(octet_length(result::text), 0)) OVER above, 0) AS bytes_before "
        f"FROM (SELECT * FROM jobs WHERE {conditions} AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s) AS newest "
        "WINDOW above AS (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS sized "
        "ORDER BY id DESC",
        parameters,
    )
    kept = _within_bytes(rows)[:limit]
    return [job_from_row(row[:-1]) for row in kept], len(kept) < len(rows)


def newest_id(connection: Connection) -> int:
    """The id of the newest job, or 0."""
    row = fetch_one(connection, "SELECT coalesce(max(id), 0) FROM jobs", {})
    assert row is not None
    return int(row[0])


def chunk(
    connection: Connection, wanted: JobFilter, *, after_id: int, up_to_id: int, limit: int
) -> list[int]:
    """The next ids of the jobs above an id, oldest first."""
    conditions, parameters = _conditions(connection, wanted)
    parameters |= {"after": after_id, "up_to": up_to_id, "limit": limit}
    rows = fetch_all(
        connection,
        f"SELECT id FROM jobs WHERE {conditions} AND id > %(after)s AND id <= %(up_to)s ORDER BY id LIMIT %(limit)s",
        parameters,
    )
    return [row[0] for row in rows]


def attempts_of(connection: Connection, job_id: int) -> list[Attempt]:
    """The attempts of a job that have ended, in their order."""
    return [Attempt(*row) for row in fetch_all(connection, _ATTEMPTS, {"id": job_id})]


def _within_bytes(rows: Sequence[Values]) -> Sequence[Values]:
    return [row for row in rows if row[-1] <= PAGE_MAX_BYTES]


def _conditions(connection: Connection, wanted: JobFilter) -> tuple[str, dict[str, Any]]:
    conditions, parameters = ["true"], dict[str, Any]()
    if wanted.status is not None:
        conditions.append(f"status = '{wanted.status.value}'")
    for column in ("queue", "type"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(f"{column} = %({column})s")
            parameters[column] = value
    if wanted.created_after is not None:
        conditions.append("created_at >= %(created_after)s AND id >= %(first_id)s")
        parameters["created_after"] = wanted.created_after
        parameters["first_id"] = _first_id(
            connection, wanted.created_after, f"%(moment)s - {LONGEST_TRANSACTION}"
        )
    if wanted.created_before is not None:
        conditions.append("created_at < %(created_before)s AND id < %(end_id)s")
        parameters["created_before"] = wanted.created_before
        parameters["end_id"] = _first_id(
            connection, wanted.created_before, f"%(moment)s + {LONGEST_TRANSACTION}"
        )
    return " AND ".join(conditions), parameters


def _first_id(connection: Connection, moment: datetime, expression: str) -> int:
    row = fetch_one(connection, _FIRST_ID_SINCE.format(moment=f"({expression})"), {"moment": moment})
    assert row is not None
    return int(row[0])
