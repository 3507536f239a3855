"""Cancelling: requested, acknowledged by the worker that runs the job, and forced where it does not stop it.

How a job ended that its worker stopped is recorded like any attempt (`engine/transitions/attempts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import FIRST, atomic, fetch_all
from goqueue.engine.transitions import dependencies, jobs
from goqueue.engine.transitions.jobs import Cancelled

__all__ = ["Cancelled", "Forced", "acknowledge", "cancel", "force"]

# One walk along the few entries of jobs_cancelling_idx. A row that somebody else has locked (its outcome is
# just recorded) is left for the next time. What was acknowledged before comes back as well: the answer to
# that may have been lost.
_ACKNOWLEDGE = """
    WITH requested AS MATERIALIZED (
        SELECT ctid AS place FROM jobs
        WHERE status = 'running' AND cancel_requested_at IS NOT NULL AND worker_id = %(worker_id)s
          AND cancel_acknowledged_at IS NULL
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), acknowledged AS (
        UPDATE jobs SET cancel_acknowledged_at = now(), updated_at = now()
        WHERE jobs.ctid = ANY (ARRAY (SELECT place FROM requested))
        RETURNING id, fence
    )
    SELECT id, fence FROM acknowledged
    UNION ALL
    SELECT id, fence FROM jobs
    WHERE status = 'running' AND cancel_requested_at IS NOT NULL AND worker_id = %(worker_id)s
      AND cancel_acknowledged_at IS NOT NULL
"""

# The attempt row is written here: what the worker still says about the job is refused.
_FORCE = f"""
    WITH overdue AS MATERIALIZED (
        SELECT id, worker_id FROM jobs
        WHERE status = 'running' AND cancel_requested_at IS NOT NULL AND worker_id IS NOT NULL
          AND coalesce(cancel_acknowledged_at, cancel_requested_at)
              <= now() - make_interval(secs => %(grace)s)
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), forced AS (
        UPDATE jobs SET status = 'cancelled', reason = 'cancel_forced', worker_id = NULL,
                        finished_at = now(), updated_at = now()
        WHERE id = ANY (ARRAY (SELECT id FROM overdue)) AND status = 'running'
        RETURNING id, fence, attempts, started_at, cancel_acknowledged_at
    ), attempt AS (
        INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, started_at, run_seconds)
        SELECT id, fence, attempts, worker_id, 'cancelled', 'its worker did not stop it in time', started_at,
               extract(epoch FROM now() - LEAST(GREATEST(started_at, {FIRST}), now()))
        FROM forced JOIN overdue USING (id)
        ON CONFLICT DO NOTHING
    )
    SELECT id, worker_id, cancel_acknowledged_at IS NOT NULL FROM forced JOIN overdue USING (id)
"""


class Forced(NamedTuple):
    """A job that was cancelled without its worker.

    Attributes:
        acknowledged: its worker knew, and did not stop it in time.
    """

    job_id: int
    worker_id: int
    acknowledged: bool


@retry_on_conflict
def cancel(connection: Connection, job_ids: Sequence[int]) -> Cancelled:
    """Cancel unfinished jobs as `jobs.cancel` does, and settle what waits for them, in one transaction."""
    with atomic(connection):
        cancelled = jobs.cancel(connection, job_ids)
        dependencies.settle(connection, cancelled.ended)
    return cancelled


@retry_on_conflict
def acknowledge(connection: Connection, worker_id: int) -> set[tuple[int, int]]:
    """Acknowledge the requests to stop what this worker runs; the (id, fence) of all that it shall stop."""
    return {(row[0], row[1]) for row in fetch_all(connection, _ACKNOWLEDGE, {"worker_id": worker_id})}


@retry_on_conflict
def force(connection: Connection, *, grace_seconds: float, limit: int = 1000) -> list[Forced]:
    """Cancel what was to be stopped and was not acknowledged, or then not stopped, for the grace period.

    running → cancelled, with the reason `cancel_forced`; and what follows for the jobs that wait for it, in
    one transaction.
    """
    with atomic(connection):
        rows = fetch_all(connection, _FORCE, {"grace": grace_seconds, "limit": limit})
        forced = [Forced(*row) for row in rows]
        ended = [job.job_id for job in forced]
        dependencies.settle(connection, ended)
    return forced
