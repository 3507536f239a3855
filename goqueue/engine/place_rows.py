"""Rows of `ready_jobs` and `running_jobs` whose job is not there any more: deleted, a few at a time.

There are none as long as every writer goes through the trigger or the statements that take its place. One
that was left behind would be looked at with every look at its queue, so the first of each queue are looked
through now and then.
"""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import READY_ORDER, ready_between
from goqueue.db.statements import array, atomic, fetch_all

__all__ = ["delete_stale"]

_IS_READY = """
    EXISTS (SELECT FROM jobs WHERE id = job_id AND fence = job_fence
            AND rank = ready_rank AND queue = queue_name AND place = 'ready')
"""
_RUNS = (
    "EXISTS (SELECT FROM jobs WHERE id = job_id AND place = 'running' AND coalesce(worker_id, -1) = holder)"
)

_READY_OF_NOBODY = f"""
    SELECT job_id FROM queues CROSS JOIN LATERAL (
        SELECT * FROM ready_jobs WHERE {ready_between("queues.name")} ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS ready
    WHERE NOT {_IS_READY}
"""
_RUNNING_OF_NOBODY = f"""
    SELECT job_id FROM (SELECT * FROM running_jobs ORDER BY holder, job_id LIMIT %(limit)s) AS running
    WHERE NOT {_RUNS}
"""

# Whoever puts a job back to where such a row still stands waits for the lock; and the statement that deletes
# sees what was committed before it.
_LOCK = "SELECT FROM {table} WHERE job_id = ANY (%(ids)s::bigint[]) FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM {table} WHERE job_id = ANY (%(ids)s::bigint[]) AND NOT {has_job} RETURNING job_id"


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
    ids = sorted({row[0] for row in fetch_all(connection, find, {"limit": limit})})
    if not ids:
        return 0
    parameters = {"ids": array(ids)}
    with atomic(connection):
        fetch_all(connection, _LOCK.format(table=table), parameters)
        return len(fetch_all(connection, _DELETE.format(table=table, has_job=has_job), parameters))
