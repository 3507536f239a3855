"""Rows of `ready_jobs` and `running_jobs` whose job is not there any more: deleted, a few at a time.

There are none as long as every writer goes through the trigger or the statements that take its place. One
that was left behind would be looked at with every look at its queue, so the first of each queue are looked
through now and then.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import READY_ORDER, ready_between
from goqueue.db.statements import Values, atomic, fetch_all, text_array

__all__ = ["delete_stale"]

# Scalars, and no EXISTS, which the planner makes a join of: of all jobs, where there are not many.
_IS_READY = """
    (SELECT fence = job_fence AND rank = ready_rank AND queue = queue_name AND place = 'ready'
     FROM jobs WHERE id = job_id LIMIT 1) IS TRUE
"""
_RUNS = """
    (SELECT place = 'running' AND coalesce(worker_id, -1) = holder
     FROM jobs WHERE id = job_id LIMIT 1) IS TRUE
"""

_READY_OF_NOBODY = f"""
    SELECT place::text FROM queues CROSS JOIN LATERAL (
        SELECT ctid AS place, * FROM ready_jobs
        WHERE {ready_between("queues.name")} ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS ready
    WHERE NOT {_IS_READY}
"""
_RUNNING_OF_NOBODY = f"""
    SELECT place::text FROM (
        SELECT ctid AS place, * FROM running_jobs ORDER BY holder, job_id LIMIT %(limit)s
    ) AS running
    WHERE NOT {_RUNS}
"""

# Whoever puts a job back to where such a row still stands waits for the lock; and the statement that deletes
# sees what was committed before it. A row that somebody else has locked is just put back, or taken.
_LOCK = "SELECT ctid::text FROM {table} WHERE ctid = ANY (%(places)s::tid[]) FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM {table} WHERE ctid = ANY (%(places)s::tid[]) AND NOT {has_job} RETURNING job_id"


@retry_on_conflict
def delete_stale(connection: Connection, *, limit: int) -> int:
    """Delete rows without a job among the first `limit` of each queue, and of those that run; how many."""
    return sum(
        _delete(connection, table, find, has_job, limit)
        for table, find, has_job in (
            ("ready_jobs", _READY_OF_NOBODY, _IS_READY),
            ("running_jobs", _RUNNING_OF_NOBODY, _RUNS),
        )
    )


def _delete(connection: Connection, table: str, find: str, has_job: str, limit: int) -> int:
    found = fetch_all(connection, find, {"limit": limit})
    if not found:
        return 0
    with atomic(connection):
        locked = fetch_all(connection, _LOCK.format(table=table), _places(found))
        return len(fetch_all(connection, _DELETE.format(table=table, has_job=has_job), _places(locked)))


def _places(rows: Sequence[Values]) -> dict[str, str]:
    return {"places": text_array(tuple(row[0] for row in rows))}
