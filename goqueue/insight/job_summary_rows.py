"""Jobs in short, as a list shows them, and how many there are of each status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from goqueue.contents.contents import JobContents, of_job, of_payload
from goqueue.contents.payload_keys import is_encrypted
from goqueue.db.fragments import LATER, MAX_RETRIES, SUSPECT, begin_of
from goqueue.db.statements import Values, array, contents_of, fetch_all, fetch_one, text_array
from goqueue.jobs import JobStatus

__all__ = ["COUNTED_UP_TO", "JobSummary", "count_by_status", "of"]

#: Counting stops here: a count of this number means "this many or more". It is a few tenths of a millisecond.
COUNTED_UP_TO = 1000

#: Of a payload and of an error, as much as fits into a row.
TEXT_MAX_CHARACTERS = 240

#: A payload that takes more bytes than this, as it is kept, is not opened for a list.
PAYLOAD_MAX_BYTES = 65_536

_SUMMARIES = f"""
    SELECT id, queue, type, status,
           CASE WHEN pg_column_size(payload) <= {PAYLOAD_MAX_BYTES}
               THEN CASE WHEN payload_key IS NULL AND type <> ALL (%(redacted)s::text[])
                   THEN left(payload::text, {TEXT_MAX_CHARACTERS}) ELSE payload::text END END,
           coalesce(tags, ARRAY[]::text[]), priority, attempts, {MAX_RETRIES},
           {begin_of("error", TEXT_MAX_CHARACTERS)}, reason, created_at, available_at,
           started_at, finished_at, cancel_requested_at IS NOT NULL,
           status = 'running' AND worker_id IS NOT NULL AND begun_at IS NULL
    FROM jobs WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id DESC
"""

#: Completed jobs, which no index tells from others, are looked for among so many.
_LOOKED_AT = 10_000

# Each part reads a table or a partial index of the rows of its state: no other leaves the rest alone.
# Completed jobs are most of the oldest jobs, and of the newest attempts.
_STATES = {
    JobStatus.QUEUED: ("ready_jobs", f"jobs WHERE {SUSPECT}", f"jobs WHERE {LATER}"),
    JobStatus.BLOCKED: ("jobs WHERE rare_state = 'blocked'",),
    JobStatus.RUNNING: ("running_jobs",),
    JobStatus.COMPLETED: (
        f"(SELECT status FROM jobs ORDER BY id LIMIT {_LOOKED_AT}) AS oldest WHERE status = 'completed'",
    ),
    JobStatus.FAILED: ("jobs WHERE rare_state = 'failed'",),
    JobStatus.CANCELLED: ("jobs WHERE rare_state = 'cancelled'",),
    JobStatus.EXPIRED: ("jobs WHERE rare_state = 'expired'",),
}


def _count(rows: str) -> str:
    return f"(SELECT count(*)::int FROM (SELECT FROM {rows} LIMIT {COUNTED_UP_TO}) AS counted)"


_COUNTS = "SELECT " + ", ".join(
    f"least({COUNTED_UP_TO}, {' + '.join(map(_count, rows))})" for rows in _STATES.values()
)


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in short.

    Attributes:
        payload: the begin of its text; None: it is too large to be opened for this.
        error: the begin of it.
        is_stopping: someone wants it stopped.
        is_claimed: a worker has it, and has not begun it as far as is known.
    """

    id: int
    queue: str
    type: str
    status: str
    payload: str | None
    tags: list[str]
    priority: int
    attempts: int
    max_retries: int
    error: str | None
    reason: str | None
    created_at: datetime
    available_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    is_stopping: bool
    is_claimed: bool


def of(connection: Connection, job_ids: Iterable[int]) -> list[JobSummary]:
    """Read those of the jobs that exist, newest first."""
    contents = contents_of(connection)
    parameters = {"ids": array(job_ids), "redacted": text_array(tuple(contents.redacted))}
    return [_summary(contents, row) for row in fetch_all(connection, _SUMMARIES, parameters)]


def _summary(contents: JobContents, row: Values) -> JobSummary:
    summary = JobSummary(*row)
    text, error = summary.payload, summary.error
    is_plain = (text is None or not is_encrypted(text)) and (error is None or not is_encrypted(error))
    if is_plain and summary.type not in contents.redacted:
        return summary
    shown = contents.shown_begin(text, of_payload(summary.type), summary.type, TEXT_MAX_CHARACTERS)
    error = contents.shown(error, of_job("error", summary.id))
    return replace(summary, payload=shown, error=None if error is None else error[:TEXT_MAX_CHARACTERS])


def count_by_status(connection: Connection) -> dict[JobStatus, int]:
    """Tell how many jobs there are of each status, up to COUNTED_UP_TO."""
    row = fetch_one(connection, _COUNTS, {})
    assert row is not None
    return dict(zip(_STATES, row, strict=True))
