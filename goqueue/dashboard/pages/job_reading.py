"""What the page of a job shows, read in one go, and bounded whatever the job has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from goqueue.api.context import Context
from goqueue.dashboard.charts.timeline_words import OUTCOMES
from goqueue.dashboard.parts.errors import Headline, Traceback, headline, parsed
from goqueue.db import bounded_reads
from goqueue.db.database import Connection
from goqueue.db.statements import current_time
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine import report_rows as reports
from goqueue.engine.dependency_rows import Link
from goqueue.engine.report_rows import LoggedLine
from goqueue.engine.transitions import jobs as job_store
from goqueue.insight import job_history_rows as job_history
from goqueue.insight.explain import Explanation
from goqueue.insight.explain import fact_rows as explanation
from goqueue.insight.job_history_rows import JobHistory
from goqueue.jobs import FINAL_STATUSES, Job, JobStatus

__all__ = ["ATTEMPTS_SHOWN", "LINES_SHOWN", "LINKS_SHOWN", "AttemptView", "JobView", "pretty", "read"]

#: Of a job that was run more often, or that has more relatives or lines, the others are left out.
ATTEMPTS_SHOWN = 50
LINKS_SHOWN = 50
LINES_SHOWN = 200


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt, as it is looked at.

    Attributes:
        outcome: in words; None: it runs.
        progress: how far it said that it has come, 0 to 1; with its message, and when it said so.
        has_more_lines: its log has more lines before these.
    """

    number: int
    fence: int
    outcome: str | None
    tone: str
    worker_id: int | None
    started_at: datetime | None
    finished_at: datetime | None
    run_seconds: float | None
    progress: float | None
    message: str | None
    said_at: datetime | None
    error: Headline | None
    traceback: Traceback | None
    traceback_text: str | None
    lines: list[LoggedLine]
    has_more_lines: bool


@dataclass(frozen=True, slots=True)
class JobView:
    """Everything about a job but its versions.

    Attributes:
        now: PostgreSQL's time.
        attempt: the attempt that is looked at; None: there is none.
        workers: of those that are remembered, host and process.
        explanation: why it does not run; None: it has ended.
        parents: all of them.
        children: one more than is shown, where there are more.
    """

    job: Job
    now: datetime
    history: JobHistory
    parents: list[Link]
    children: list[Link]
    attempt: AttemptView | None
    workers: dict[int, str]
    explanation: Explanation | None = None


def read(context: Context, job_id: int, fence: int | None = None) -> JobView:
    """A job, and of its attempts the one with this fence, or else the latest.

    Raises:
        JobNotFoundError: there is no such job.
    """
    with context.database.transaction() as connection:
        # An attempt that ends between two questions would be told twice: as what runs, and as what ended.
        bounded_reads.begin(connection)
        job = job_store.get(connection, job_id)
        history = job_history.history_of(connection, job_id, limit=ATTEMPTS_SHOWN)
        parents = dependency_lists.parents_of(connection, job_id)
        children = (
            dependency_lists.children_of(connection, job_id, limit=LINKS_SHOWN + 1)
            if job.has_dependants
            else []
        )
        attempt = _attempt(connection, job, history, fence)
        why = _explanation(context, connection, job)
        ids = {job.worker_id, *(one.worker_id for one in history.attempts)}
        workers = job_history.worker_names(connection, [one for one in ids if one is not None])
        now = current_time(connection)
        return JobView(job, now, history, parents, children, attempt, workers, why)


def _explanation(context: Context, connection: Connection, job: Job) -> Explanation | None:
    if job.status in FINAL_STATUSES:
        return None
    settings = context.settings
    return explanation.explain_here(
        connection, job.id, lease_seconds=settings.lease_seconds, max_deaths=settings.max_deaths
    )


def pretty(value: Any) -> str:
    """A JSON value as people write it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _attempt(connection: Connection, job: Job, history: JobHistory, fence: int | None) -> AttemptView | None:
    """The attempt with this fence; where there is none, the one that runs, or the last that has ended."""
    wanted = None if fence is None else _ended(connection, job, fence)
    if wanted is not None:
        return wanted
    last = history.attempts[-1].fence if history.attempts else 0
    if job.status is JobStatus.RUNNING and job.fence > last:
        return _running(connection, job)
    return _ended(connection, job, last) if last else None


def _running(connection: Connection, job: Job) -> AttemptView:
    said = reports.progress_of(connection, job.id)
    is_same = said is not None and said.fence == job.fence
    lines = _lines(connection, job.id, job.fence)
    return AttemptView(
        number=job.attempts,
        fence=job.fence,
        outcome=None,
        tone="info",
        worker_id=job.worker_id,
        started_at=job.started_at,
        finished_at=None,
        run_seconds=None,
        progress=said.progress if said and is_same else None,
        message=said.message if said and is_same else None,
        said_at=said.updated_at if said and is_same else None,
        error=None,
        traceback=None,
        traceback_text=None,
        lines=lines[-LINES_SHOWN:],
        has_more_lines=len(lines) > LINES_SHOWN,
    )


def _ended(connection: Connection, job: Job, fence: int) -> AttemptView | None:
    attempt = job_history.attempt_of(connection, job.id, fence)
    if attempt is None:
        return None
    said = reports.progress_of(connection, job.id) if fence == job.fence else None
    lines = _lines(connection, job.id, fence)
    outcome, tone = OUTCOMES.get(attempt.outcome, (attempt.outcome, "quiet"))
    return AttemptView(
        number=attempt.attempt,
        fence=fence,
        outcome=outcome,
        tone=tone,
        worker_id=attempt.worker_id,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        run_seconds=attempt.run_seconds,
        progress=attempt.progress,
        message=said.message if said else None,
        said_at=said.updated_at if said else None,
        error=headline(attempt.error) if attempt.error else None,
        traceback=parsed(attempt.traceback) if attempt.traceback else None,
        traceback_text=attempt.traceback,
        lines=lines[-LINES_SHOWN:],
        has_more_lines=len(lines) > LINES_SHOWN,
    )


def _lines(connection: Connection, job_id: int, fence: int) -> list[LoggedLine]:
    return reports.last_lines_of(connection, job_id, fence=fence, limit=LINES_SHOWN + 1)
