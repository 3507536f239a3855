"""Editing jobs, running failed ones again, and what they were before."""

from __future__ import annotations

from typing import Any

import falcon

from goqueue.api.bodies import read_document
from goqueue.api.context import Context
from goqueue.api.documents import as_json, job_document
from goqueue.api.edit_models import EditAndRetry, EditJob, version_document
from goqueue.api.jobs import JobResource
from goqueue.api.schemas import validate
from goqueue.engine.edits import Editor


class EditableJobResource(JobResource):
    """One job: a GET reads it, a PATCH edits it."""

    def on_patch(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Edit a job that waits."""
        wanted = validate(EditJob, read_document(request, self._context.settings.job_max_bytes))
        response.data = as_json(job_document(_editor(self._context).edit(job_id, **_said(wanted))))


class RetryResource:
    """A failed or cancelled job."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Queue it again, edited where there is a body, with its attempts counted anew."""
        has_body = request.content_length or request.get_header("Transfer-Encoding")
        document = read_document(request, self._context.settings.job_max_bytes) if has_body else {}
        wanted = validate(EditAndRetry, document)
        response.data = as_json(job_document(_editor(self._context).retry(job_id, **_said(wanted))))


class VersionsResource:
    """The versions of a job."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """What it was before each of its edits, the oldest first, and what it is now."""
        versions = _editor(self._context).versions(job_id)
        response.data = as_json([version_document(version) for version in versions])


def _editor(context: Context) -> Editor:
    return Editor(context.settings, context.database, context.broker, context.submitter)


def _said(wanted: EditAndRetry) -> dict[str, Any]:
    return {
        "payload": wanted.payload,
        "priority": wanted.priority,
        "available_at": wanted.available_at,
        "author": wanted.author,
    }
