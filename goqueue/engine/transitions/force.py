"""Forced cancels: what a worker was asked to stop, and did not stop in time."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import FIRST, atomic, fetch_all
from goqueue.engine.transitions.release import settle

__all__ = ["Forced", "force"]

# The attempt row is written here: what the worker still says about the job is refused.
_FORCE = f"""
    WITH overdue AS MATERIALIZED (
        SELECT job.* FROM running_jobs CROSS JOIN LATERAL (
            SELECT id, worker_id FROM jobs
            WHERE jobs.id = running_jobs.job_id AND status = 'running' AND cancel_requested_at IS NOT NULL
              AND worker_id IS NOT NULL AND coalesce(cancel_acknowledged_at, cancel_requested_at)
                  <= now() - make_interval(secs => %(grace)s)
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
        WHERE to_stop LIMIT %(limit)s
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
def force(connection: Connection, *, grace_seconds: float, limit: int = 1000) -> list[Forced]:
    """Cancel what was to be stopped and was not acknowledged, or then not stopped, for the grace period.

    running → cancelled, with the reason `cancel_forced`; and what follows for the jobs that wait for it, in
    one transaction.
    """
    with atomic(connection):
        rows = fetch_all(connection, _FORCE, {"grace": grace_seconds, "limit": limit})
        forced = [Forced(*row) for row in rows]
        ended = [job.job_id for job in forced]
        settle(connection, ended)
    return forced
