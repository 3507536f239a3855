"""Setting aside what cannot be dispatched: queued jobs with a moment that no reader can hold.

No door accepts such a moment and a constraint refuses it, so there are none, unless somebody took the
constraint away, or typed a statement into a database without it. They are dead letters then, which say why;
running one again gives it a new time.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import LATER, READY_JOBS, READY_ORDER, SUSPECT, ready_between
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import FIRST, LAST, array, atomic, fetch_all
from goqueue.engine.transitions.release import settle
from goqueue.errors import DatabaseRefusedError

__all__ = ["REASON", "SetAside", "is_of_a_row", "set_aside", "set_aside_unreadable"]

#: The reason of such a dead letter.
REASON = "unreadable"

#: Of the rows that are first in the order of a queue, so many are looked at more closely.
_HEAD = 100

_BEYOND = "({column} < " + FIRST + " OR {column} > " + LAST + ")"

# The ends of jobs_later_idx, where nothing else lies; and the head of each queue's part of `ready_jobs`, and
# of jobs_suspect_idx: a row whose rank was computed from such a moment is the first there.
_FIND = f"""
    (SELECT id FROM jobs WHERE {LATER} AND available_at < {FIRST}
     ORDER BY available_at LIMIT %(limit)s)
    UNION ALL
    (SELECT id FROM jobs WHERE {LATER} AND available_at > {LAST}
     ORDER BY available_at LIMIT %(limit)s)
    UNION ALL
    (SELECT ready.id FROM queues CROSS JOIN LATERAL (
        SELECT job_id AS id FROM ready_jobs
        WHERE {ready_between("queues.name", before=f"{FIRST}, 0")}
        ORDER BY {READY_ORDER} LIMIT %(limit)s) AS ready)
    UNION ALL
    (SELECT ready.id FROM queues CROSS JOIN LATERAL (
        SELECT id, rank, available_at FROM {READY_JOBS}
        WHERE {ready_between("queues.name")}
        ORDER BY {READY_ORDER} LIMIT {_HEAD}) AS ready
     WHERE {_BEYOND.format(column="rank")} OR {_BEYOND.format(column="available_at")})
    UNION ALL
    (SELECT id FROM (
        SELECT id, rank, available_at FROM jobs
        WHERE {SUSPECT}
        ORDER BY deaths, rank, id LIMIT {_HEAD}) AS suspect
     WHERE {_BEYOND.format(column="rank")} OR {_BEYOND.format(column="available_at")})
"""


def _moved(column: str) -> str:
    """The nearest moment that can be stored, where there is one."""
    return f"{column} = CASE WHEN {column} IS NOT NULL THEN LEAST(GREATEST({column}, {FIRST}), {LAST}) END"


# All of it that the constraint looks at is moved within its bounds: it is refused otherwise.
_SET_ASIDE = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status = 'queued'
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs
    SET status = 'failed', reason = '{REASON}', fingerprint = NULL, finished_at = now(), updated_at = now(),
        error = coalesce(%(error)s, 'its available_at is ' || available_at
                         || coalesce(', its rank ' || rank, '') || ', which not every reader can hold'),
        admitted = false, rank = NULL,
        {_moved("available_at")}, {_moved("expires_at")}, {_moved("deadline_at")},
        time_limit_seconds = CASE WHEN time_limit_seconds BETWEEN 0 AND 86400 THEN time_limit_seconds END
    WHERE {rows_of("chosen")} AND jobs.status = 'queued'
    RETURNING jobs.id, jobs.queue, jobs.error
"""


class SetAside(NamedTuple):
    """A job that was set aside, and what is wrong with it."""

    job_id: int
    queue: str
    error: str


def is_of_a_row(error: DatabaseRefusedError) -> bool:
    """Say whether PostgreSQL refused a value (a constraint, a number out of range), and not the statement."""
    cause = error.__cause__
    if isinstance(cause, DBAPIError):
        cause = cause.orig
    return isinstance(cause, psycopg.errors.IntegrityError | psycopg.errors.DataError)


def set_aside_unreadable(connection: Connection, *, limit: int) -> list[SetAside]:
    """Set aside queued jobs that cannot be dispatched: → failed, with the reason `unreadable`.

    And what follows for the jobs that wait for them, in one transaction.
    """
    ids = {row[0] for row in fetch_all(connection, _FIND, {"limit": limit})}
    if not ids:
        return []
    return set_aside(connection, sorted(ids))


@retry_on_conflict
def set_aside(connection: Connection, job_ids: list[int], *, error: str | None = None) -> list[SetAside]:
    """Set these of the queued jobs aside; `error` says why, where it is not one of their moments."""
    with atomic(connection):
        rows = fetch_all(connection, _SET_ASIDE, {"ids": array(job_ids), "error": error})
        found = [SetAside(*row) for row in rows]
        ended = [job.job_id for job in found]
        settle(connection, ended)
    return found
