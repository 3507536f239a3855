"""The history of one job, in rows of a bounded number and size: its attempts and its edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import begin_of
from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.engine.listing.listing_rows import Attempt, attempt_of_row

__all__ = ["Edit", "JobHistory", "attempt_of", "history_of", "worker_names"]

#: Of the error of an attempt in a list, so many characters are read.
ERROR_CHARACTERS = 2_000

# A job may snooze for years: only its newest attempts, by the primary key, and none of their tracebacks.
_ATTEMPTS = f"""
    SELECT attempt, fence, outcome, worker_id, {begin_of("error", ERROR_CHARACTERS)}, NULL, started_at,
           finished_at, run_seconds, NULL
    FROM attempts WHERE job_id = %(id)s ORDER BY fence DESC LIMIT %(limit)s
"""

_ATTEMPT = """
    SELECT attempt, fence, outcome, worker_id, error, traceback, started_at, finished_at, run_seconds,
           (SELECT progress FROM attempt_progress AS said
            WHERE said.job_id = attempts.job_id AND said.fence = attempts.fence)
    FROM attempts WHERE job_id = %(id)s AND fence = %(fence)s
"""

# Not the payloads, which may have a MiB each; the store keeps fifty at most.
_EDITS = """
    SELECT version + 1, replaced_at, replaced_by FROM job_versions WHERE job_id = %(id)s ORDER BY version
"""

_WORKERS = "SELECT id, hostname, pid FROM workers WHERE id = ANY(%(ids)s::bigint[])"


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a job.

    Attributes:
        version: the number of the version that the edit made.
        author: who edited it, by their own account.
    """

    version: int
    at: datetime
    author: str | None


@dataclass(frozen=True, slots=True)
class JobHistory:
    """The history of a job: its attempts and edits.

    Attributes:
        attempts: the newest that have ended, in their order, without tracebacks and progress.
        has_more: there were attempts before these.
        edits: in their order.
    """

    attempts: list[Attempt]
    has_more: bool
    edits: list[Edit]


def history_of(connection: Connection, job_id: int, *, limit: int) -> JobHistory:
    """Read the newest attempts of a job, at most so many, and its edits."""
    rows = fetch_all(connection, _ATTEMPTS, {"id": job_id, "limit": limit + 1})
    attempts = [_shortened(attempt_of_row(connection, job_id, row)) for row in reversed(rows[:limit])]
    edits = [Edit(*row) for row in fetch_all(connection, _EDITS, {"id": job_id})]
    return JobHistory(attempts, len(rows) > limit, edits)


def _shortened(attempt: Attempt) -> Attempt:
    if attempt.error is None or len(attempt.error) <= ERROR_CHARACTERS:
        return attempt
    return replace(attempt, error=attempt.error[:ERROR_CHARACTERS])


def attempt_of(connection: Connection, job_id: int, fence: int) -> Attempt | None:
    """Read the attempt of a job with this fence, with all that is kept of it; None: it has not ended."""
    row = fetch_one(connection, _ATTEMPT, {"id": job_id, "fence": fence})
    return None if row is None else attempt_of_row(connection, job_id, row)


def worker_names(connection: Connection, worker_ids: Iterable[int]) -> dict[int, str]:
    """Read the host and the process of those of the workers that are remembered."""
    rows = fetch_all(connection, _WORKERS, {"ids": array(worker_ids)})
    return {row[0]: f"{row[1]}, process {row[2]}" for row in rows}
