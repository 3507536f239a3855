"""One job: its life, what it says while it runs, what it was given and returned, and why it does not run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import falcon

from goqueue.dashboard.charts.timeline import timeline
from goqueue.dashboard.page import Page
from goqueue.dashboard.pages.job_again import curl_of, python_of
from goqueue.dashboard.pages.job_reading import LINKS_SHOWN, JobView, read
from goqueue.dashboard.parts.errors import headline
from goqueue.dashboard.parts.evidence import Fact, facts_of
from goqueue.dashboard.parts.json_tree import literal, tree
from goqueue.dashboard.polls import is_poll
from goqueue.engine.edit_rows import REPLAYABLE, WAITING
from goqueue.engine.edits import EditedVersion, Editor
from goqueue.engine.json_diff import ABSENT
from goqueue.insight.explain import Explanation
from goqueue.jobs import FINAL_STATUSES, JobStatus
from goqueue.observability.tracing.context import trace_id_of

__all__ = ["JobPage"]

#: A command or a program that is longer is not shown, and can be downloaded.
AGAIN_MAX_CHARACTERS = 20_000

#: Changes of a version that are shown, and characters of a value in them.
CHANGES_SHOWN = 50
CHANGE_MAX_CHARACTERS = 300

MAX_FENCE = 2**31 - 1


class JobPage(Page):
    """Everything about one job."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """The page; `attempt` is the fence of the attempt to look at."""
        view = read(self._context, job_id, _fence_of(request))
        values = _values(view)
        explanation = view.explanation
        values["explanation"] = explanation
        values["evidence"] = {} if explanation is None else _evidence(explanation)
        # What stands outside of the live part is not made for it: it may be large.
        if not is_poll(request):
            values |= self._below(request, view)
        self._renderer.page(request, response, "job.html", **values)

    def _below(self, request: falcon.Request, view: JobView) -> dict[str, Any]:
        context = self._context
        curl, python = curl_of(context, request, view), python_of(context, request, view)
        versions = []
        if view.history.edits:
            editor = Editor(context.settings, context.database, context.broker, context.submitter)
            versions = [_version(version) for version in reversed(editor.versions(view.job.id))]
        return {
            "curl": curl if len(curl) <= AGAIN_MAX_CHARACTERS else None,
            "python": python if len(python) <= AGAIN_MAX_CHARACTERS else None,
            "versions": versions,
        }


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
