"""Cancelling: jobs end at once, or, where a worker runs them, by a request that the worker acknowledges.

How a job ended that its worker stopped is recorded like any attempt (`record.py`); where the worker does not
stop it in time, `force.py` ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import RUNNING_JOBS
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import (
    array,
    atomic,
    fetch_all,
)
from goqueue.engine.transitions.release import settle

__all__ = ["Cancelled", "acknowledge", "cancel"]

# What a worker holds is only asked for: the worker stops it and records how it ended. A row that was claimed,
# or given back, between the snapshot and the lock is looked at again as it is now. The array keeps the
# planner from reading the table.
_CANCEL = """
    WITH chosen AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[])
        AND status IN ('queued', 'blocked', 'running') ORDER BY id FOR UPDATE
    )
    UPDATE jobs
    SET status = CASE WHEN worker_id IS NULL THEN 'cancelled' ELSE status END,
        reason = CASE WHEN worker_id IS NULL THEN 'cancelled' ELSE reason END,
        finished_at = CASE WHEN worker_id IS NULL THEN now() END,
        admitted = false,
        cancel_requested_at = CASE WHEN worker_id IS NULL THEN cancel_requested_at
                                   ELSE coalesce(cancel_requested_at, now()) END,
        updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
    WHERE id = ANY (ARRAY (SELECT id FROM chosen)) AND status IN ('queued', 'blocked', 'running')
    RETURNING id, status = 'running'
"""


# One walk along the few entries of running_jobs_to_stop_idx. A row that somebody else has locked (its outcome
# is just recorded) is left for the next time. What was acknowledged before comes back as well: the answer to
# that may have been lost.
_ACKNOWLEDGE = f"""
    WITH requested AS MATERIALIZED (
        SELECT job.* FROM running_jobs CROSS JOIN LATERAL (
            SELECT id FROM jobs
            WHERE jobs.id = running_jobs.job_id AND status = 'running' AND cancel_requested_at IS NOT NULL
              AND worker_id = %(worker_id)s AND cancel_acknowledged_at IS NULL
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
        WHERE holder = %(worker_id)s AND to_stop
    ), acknowledged AS (
        UPDATE jobs SET cancel_acknowledged_at = now(), updated_at = now()
        WHERE {rows_of("requested")}
        RETURNING id, fence
    )
    SELECT id, fence FROM acknowledged
    UNION ALL
    SELECT id, fence FROM {RUNNING_JOBS}
    WHERE holder = %(worker_id)s AND to_stop AND status = 'running' AND cancel_acknowledged_at IS NOT NULL
"""


class Cancelled(NamedTuple):
    """The result of a cancel, by the ids of the jobs.

    Attributes:
        ended: they are cancelled.
        requested: a worker runs them, and was asked to stop them.
    """

    ended: list[int]
    requested: list[int]


@retry_on_conflict
def cancel(connection: Connection, job_ids: Iterable[int]) -> Cancelled:
    """Cancel unfinished jobs: at once, or, where a worker runs it, by a request that the worker acknowledges.

    The first request of a job counts; asking again changes nothing. What waits for those that ended is
    settled in the same transaction.
    """
    cancelled = Cancelled([], [])
    with atomic(connection):
        for job_id, held in fetch_all(connection, _CANCEL, {"ids": array(job_ids)}):
            (cancelled.requested if held else cancelled.ended).append(job_id)
        settle(connection, cancelled.ended)
    return cancelled


@retry_on_conflict
def acknowledge(connection: Connection, worker_id: int) -> set[tuple[int, int]]:
    """Acknowledge the requests to stop what this worker runs; the (id, fence) of all that it shall stop."""
    return {(row[0], row[1]) for row in fetch_all(connection, _ACKNOWLEDGE, {"worker_id": worker_id})}
