"""Reads of what running jobs have told of themselves: how far they are, and what they logged."""

from __future__ import annotations

from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as report_store
from goqueue.engine.options.arguments import expect_id, expect_whole_number
from goqueue.engine.report_rows import LoggedLine, ProgressOfJob
from goqueue.errors import InvalidJobError, JobNotFoundError

__all__ = ["log_of_job", "progress_of_job"]

#: The most that the number of a line, or a fence, can be.
MAX_INTEGER = 2**31 - 1


def progress_of_job(database: Database, job_id: int) -> ProgressOfJob:
    """Read how far the latest attempt of a job has come; see `GoQueue.progress`."""
    expect_id("job_id", job_id, JobNotFoundError)
    with database.autocommit() as connection:
        progress = report_store.progress_of(connection, job_id)
    if progress is None:
        raise JobNotFoundError(job_id)
    return progress


def log_of_job(
    database: Database, job_id: int, *, after: int, fence: int | None, limit: int
) -> list[LoggedLine]:
    """Read what an attempt of a job logged; see `GoQueue.log`."""
    expect_id("job_id", job_id, JobNotFoundError)
    for name, number in {"after": after, "fence": 0 if fence is None else fence, "limit": limit}.items():
        expect_whole_number(name, number)
        if not 0 <= number <= MAX_INTEGER:
            raise InvalidJobError({name: f"expected 0 to {MAX_INTEGER}"})
    with database.autocommit() as connection:
        lines = report_store.lines_of(connection, job_id, fence=fence, after=after, limit=limit)
        if not lines:
            job_store.get(connection, job_id)
    return lines
