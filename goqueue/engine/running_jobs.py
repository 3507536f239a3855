"""What an application does with jobs that may be running: stopping them, and looking at how far they are."""

from __future__ import annotations

from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as reports
from goqueue.engine.options.arguments import expect_whole_number
from goqueue.engine.report_rows import LoggedLine, ProgressOfJob
from goqueue.engine.submit import current_broker
from goqueue.engine.transitions.cancel import cancel
from goqueue.errors import IllegalTransitionError, InvalidJobError, JobNotFoundError
from goqueue.jobs import MAX_JOB_ID, Job, JobStatus

__all__ = ["cancel_job", "job_log", "job_progress"]

#: The most that the number of a line, or a fence, can be.
MAX_INTEGER = 2**31 - 1


def cancel_job(job_id: int) -> Job:
    """Cancel an unfinished job; the job as it is now.

    A job that no worker runs is `cancelled` when this returns, and never starts. Of a running one its worker
    is asked to stop it: its `cancel_requested_at` is set. A cancelled job stays as it is.

    Raises:
        JobNotFoundError: there is no such job.
        IllegalTransitionError: it ended otherwise.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    _expect_id(job_id)
    broker = current_broker()
    with broker.database.autocommit() as connection:
        cancelled = cancel(connection, [job_id])
        job = job_store.get(connection, job_id)
    if not any(cancelled) and job.status is not JobStatus.CANCELLED:
        raise IllegalTransitionError(job_id, job.status, JobStatus.CANCELLED)
    return job


def job_progress(job_id: int) -> ProgressOfJob:
    """How far the latest attempt of a job has come, by its own account.

    Raises:
        JobNotFoundError: there is no such job.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    _expect_id(job_id)
    with current_broker().database.autocommit() as connection:
        progress = reports.progress_of(connection, job_id)
    if progress is None:
        raise JobNotFoundError(job_id)
    return progress


def job_log(job_id: int, *, after: int = 0, fence: int | None = None, limit: int = 1000) -> list[LoggedLine]:
    """What an attempt of a job logged, in order.

    Args:
        job_id: the job.
        after: only lines behind the one of this number.
        fence: of the attempt with this fence, instead of the latest.
        limit: the most lines.

    Raises:
        InvalidJobError: a number that no line, no fence or no limit can be.
        JobNotFoundError: there is no such job.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    _expect_id(job_id)
    for name, number in {"after": after, "fence": 0 if fence is None else fence, "limit": limit}.items():
        expect_whole_number(name, number)
        if not 0 <= number <= MAX_INTEGER:
            raise InvalidJobError({name: f"expected 0 to {MAX_INTEGER}"})
    with current_broker().database.autocommit() as connection:
        lines = reports.lines_of(connection, job_id, fence=fence, after=after, limit=limit)
        if not lines:
            job_store.get(connection, job_id)
    return lines


def _expect_id(job_id: int) -> None:
    expect_whole_number("job_id", job_id)
    if not 0 < job_id <= MAX_JOB_ID:
        raise JobNotFoundError(job_id)
