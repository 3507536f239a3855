"""Cancelling jobs, one or many."""

from __future__ import annotations

from collections.abc import Sequence

from goqueue.audit import audit_rows as audit
from goqueue.db.database import Connection, Database, retry_on_conflict
from goqueue.db.statements import atomic
from goqueue.engine import job_rows as job_store
from goqueue.engine.options.arguments import expect_id
from goqueue.engine.transitions.cancel import Cancelled, cancel
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import Job, JobStatus

__all__ = ["cancel_job", "cancel_jobs"]


def cancel_job(database: Database, job_id: int) -> Job:
    """Cancel an unfinished job, and return it as it is now; see `GoQueue.cancel`."""
    expect_id("job_id", job_id, JobNotFoundError)
    cancelled = cancel_jobs(database, [job_id])
    with database.autocommit() as connection:
        job = job_store.get(connection, job_id)
    if not any(cancelled) and job.status is not JobStatus.CANCELLED:
        raise IllegalTransitionError(job_id, job.status, JobStatus.CANCELLED)
    return job


def cancel_jobs(database: Database, ids: Sequence[int]) -> Cancelled:
    """Cancel those of the jobs that have not ended, in one transaction."""
    with database.autocommit() as connection:
        return _cancel(connection, ids)


@retry_on_conflict
def _cancel(connection: Connection, ids: Sequence[int]) -> Cancelled:
    with atomic(connection):
        cancelled = cancel(connection, ids)
        audit.record_of_jobs(connection, "job.cancel", [*cancelled.ended, *cancelled.requested])
        return cancelled
