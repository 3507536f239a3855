"""One job: its life, what it says while it runs, what it was given and returned, and why it does not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import falcon

from goqueue.api.frame.security import principal_of
from goqueue.dashboard.access.withholding import WITHHELD, without_contents
from goqueue.dashboard.charts.timeline import timeline
from goqueue.dashboard.charts.timeline_words import OUTCOMES
from goqueue.dashboard.page import Page
from goqueue.dashboard.parts.errors import Headline, Traceback, headline, parsed
from goqueue.dashboard.parts.evidence import Fact, facts_of
from goqueue.dashboard.parts.json_tree import literal, tree
from goqueue.dashboard.parts.recreate import curl_of, python_of, request_document
from goqueue.dashboard.polls import is_poll
from goqueue.db import bounded_reads
from goqueue.db.database import Connection
from goqueue.db.statements import current_time
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as reports
from goqueue.engine.dependency_rows import Link
from goqueue.engine.edit_rows import REPLAYABLE, WAITING
from goqueue.engine.edits import EditedVersion
from goqueue.engine.json_diff import ABSENT
from goqueue.engine.report_rows import LoggedLine
from goqueue.insight import job_history_rows as job_history
from goqueue.insight.explain import Explanation
from goqueue.insight.explain import fact_rows as explanation
from goqueue.insight.job_history_rows import JobHistory
from goqueue.instance import GoQueue
from goqueue.jobs import FINAL_STATUSES, Job, JobStatus
from goqueue.observability.tracing.context import trace_id_of

__all__ = ["JobPage", "JobView", "read"]

#: Of a job that was run more often, or that has more relatives or lines, the others are left out.
ATTEMPTS_SHOWN = 50
LINKS_SHOWN = 50
LINES_SHOWN = 200

#: A command or a program that is longer is not shown, and can be downloaded.
AGAIN_MAX_CHARACTERS = 20_000

#: Changes of a version that are shown, and characters of a value in them.
CHANGES_SHOWN = 50
CHANGE_MAX_CHARACTERS = 300

MAX_FENCE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt of a job, as it is looked at.

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
    progress: float | None
    message: str | None
    said_at: datetime | None
    lines: list[LoggedLine]
    has_more_lines: bool
    finished_at: datetime | None = None
    run_seconds: float | None = None
    error: Headline | None = None
    traceback: Traceback | None = None
    traceback_text: str | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with everything about it but its versions.

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


class JobPage(Page):
    """The page of everything about one job."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Show a job; `attempt` is the fence of the attempt to look at."""
        reads_contents = principal_of(request).reads_contents
        view = read(self._goqueue, job_id, _fence_of(request), with_errors=reads_contents)
        if not reads_contents:
            view = _without_contents(view)
        values = _values(view)
        explanation = view.explanation
        values["explanation"] = explanation
        values["evidence"] = {} if explanation is None else _evidence(explanation)
        values["collecting"] = None if explanation is None else _collecting(explanation)
        # What stands outside of the live part is not made for it: it may be large.
        if not is_poll(request):
            values |= self._below(request, view)
        self._renderer.page(request, response, "job.html", **values)

    def _below(self, request: falcon.Request, view: JobView) -> dict[str, Any]:
        if not principal_of(request).reads_contents:
            return {"curl": None, "python": None, "versions": []}
        goqueue = self._goqueue
        document = request_document(goqueue, view.job, view.parents, view.now)
        curl, python = curl_of(goqueue, request, document), python_of(goqueue, request, document)
        versions = []
        if view.history.edits:
            versions = [_version(version) for version in reversed(goqueue.versions(view.job.id))]
        return {
            "curl": curl if len(curl) <= AGAIN_MAX_CHARACTERS else None,
            "python": python if len(python) <= AGAIN_MAX_CHARACTERS else None,
            "versions": versions,
        }


def _without_contents(view: JobView) -> JobView:
    """The view for a key that may not read what jobs hold."""
    attempt = view.attempt
    if attempt is not None:
        attempt = replace(
            attempt,
            message=None,
            lines=[],
            has_more_lines=False,
            error=None if attempt.error is None else headline(WITHHELD),
            traceback=None,
            traceback_text=None,
        )
    return replace(without_contents(view), attempt=attempt)


def read(goqueue: GoQueue, job_id: int, fence: int | None = None, *, with_errors: bool = True) -> JobView:
    """Read a job, and of its attempts the one with this fence, or else the latest.

    With `with_errors=False` the explanation quotes no text of an error.

    Raises:
        JobNotFoundError: there is no such job.
    """
    with goqueue.database.transaction() as connection:
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
        why = _explanation(goqueue, connection, job, with_errors=with_errors)
        ids = {job.worker_id, *(one.worker_id for one in history.attempts)}
        workers = job_history.worker_names(connection, [one for one in ids if one is not None])
        now = current_time(connection)
        return JobView(job, now, history, parents, children, attempt, workers, why)


def _explanation(
    goqueue: GoQueue, connection: Connection, job: Job, *, with_errors: bool
) -> Explanation | None:
    if job.status in FINAL_STATUSES:
        return None
    settings = goqueue.settings
    return explanation.explain_here(
        connection,
        job.id,
        lease_seconds=settings.lease_seconds,
        max_deaths=settings.max_deaths,
        batch_of=goqueue.broker.types.batch_of,
        with_errors=with_errors,
    )


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
    said = said if said and said.fence == job.fence else None
    lines = _lines(connection, job.id, job.fence)
    return AttemptView(
        number=job.attempts,
        fence=job.fence,
        outcome=None,
        tone="info",
        worker_id=job.worker_id,
        started_at=job.started_at,
        progress=said.progress if said else None,
        message=said.message if said else None,
        said_at=said.updated_at if said else None,
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


def _values(view: JobView) -> dict[str, Any]:
    job, attempt = view.job, view.attempt
    shown = attempt is not None and attempt.error is not None
    return {
        "view": view,
        "job": job,
        "trace_id": trace_id_of(job.traceparent),
        "timeline": timeline(job, view.history, parents=view.parents, children=view.children, now=view.now),
        "payload": tree(job.payload),
        "result": None if job.result is None else tree(job.result),
        # An error that no attempt has: a parent failed, or a client of the REST API wrote it.
        "error": headline(job.error) if job.error and not shown else None,
        "parents": view.parents[:LINKS_SHOWN],
        "children": view.children[:LINKS_SHOWN],
        "more_parents": len(view.parents) > LINKS_SHOWN,
        "more_children": len(view.children) > LINKS_SHOWN,
        "can": {
            "cancel": job.status not in FINAL_STATUSES and job.cancel_requested_at is None,
            "edit": job.status in WAITING,
            "retry": job.status in REPLAYABLE,
            "delete": job.status in FINAL_STATUSES,
        },
        "is_running": job.status is JobStatus.RUNNING,
    }


def _fence_of(request: falcon.Request) -> int | None:
    text = request.get_param("attempt") or ""
    return int(text) if text.isascii() and text.isdigit() and int(text[:12]) <= MAX_FENCE else None


def _collecting(explanation: Explanation) -> Mapping[str, Any] | None:
    """What a job has collected that waits for more; None: it does not."""
    found = (reason.evidence for reason in explanation.reasons)
    return next((evidence for evidence in found if evidence.get("kind") == "collecting"), None)


def _evidence(explanation: Explanation) -> dict[int, list[Fact]]:
    """What each reason was concluded from, by its place."""
    return {position: list(facts_of(reason.evidence)) for position, reason in enumerate(explanation.reasons)}


def _version(edited: EditedVersion) -> dict[str, Any]:
    """A version with its changes as texts."""
    version, changes = edited
    return {
        "number": version.version,
        "author": version.author,
        "edited_at": version.edited_at,
        "is_known": changes is not None,
        "more": len(changes or ()) > CHANGES_SHOWN,
        "changes": [
            (change.path or "/", _changed(change.before), _changed(change.after))
            for change in (changes or ())[:CHANGES_SHOWN]
        ],
    }


def _changed(value: Any) -> str | None:
    if value is ABSENT:
        return None
    text = f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else literal(value)
    return text if len(text) <= CHANGE_MAX_CHARACTERS else f"{text[:CHANGE_MAX_CHARACTERS]}…"
