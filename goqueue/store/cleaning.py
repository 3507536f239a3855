"""Deleting by age, a bounded batch at a time."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.jobs import JobStatus
from goqueue.store.rows import fetch_all

# Rows that another transaction works on (a replay, a cancel) are left for the next round.
_DELETE_JOBS = """
    WITH old AS (
        SELECT id FROM jobs
        WHERE status = %(status)s AND finished_at IS NOT NULL
          AND finished_at < now() - make_interval(secs => %(age)s)
        ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM jobs USING old WHERE jobs.id = old.id RETURNING jobs.id
    ), gone_attempts AS (
        DELETE FROM attempts USING gone WHERE attempts.job_id = gone.id
    )
    SELECT id FROM gone
"""

_DELETE_KEYS = """
    DELETE FROM idempotency_keys WHERE key IN (
        SELECT key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => %(age)s)
        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING key
"""

_DELETE_WORKERS = """
    DELETE FROM workers WHERE id IN (
        SELECT id FROM workers WHERE stopped_at < now() - make_interval(secs => %(age)s)
        AND NOT EXISTS (SELECT FROM jobs WHERE jobs.worker_id = workers.id AND jobs.status = 'running')
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id
"""


@retry_on_conflict
def delete_jobs(connection: Connection, status: JobStatus, *, age_seconds: float, limit: int) -> int:
    """Delete the oldest final jobs of a status that finished longer ago than the age; how many."""
    parameters = {"status": status.value, "age": age_seconds, "limit": limit}
    return len(fetch_all(connection, _DELETE_JOBS, parameters))


def delete_idempotency_keys(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget keys older than the age; how many."""
    return len(fetch_all(connection, _DELETE_KEYS, {"age": age_seconds, "limit": limit}))


def delete_workers(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget workers that stopped longer ago than the age; how many."""
    return len(fetch_all(connection, _DELETE_WORKERS, {"age": age_seconds, "limit": limit}))
