"""Editing jobs, running failed ones again, and what they were before."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import ConfigDict, Field

from goqueue.api.documents import job_document
from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, as_json
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.resource import Resource
from goqueue.api.jobs import JobResource
from goqueue.config.labels import by_name, version_of
from goqueue.engine.edits import EditedVersion
from goqueue.engine.json_diff import ABSENT
from goqueue.engine.options.job_options import MinVersion, Requires, Slots
from goqueue.engine.options.request_models import Name, NearMoment, Priority, Request, validate
from goqueue.engine.options.schema_rules import some_of


class EditAndRetry(Request):
    """What a job shall be when it runs again; what is absent stays as it is."""

    payload: Annotated[dict[str, Any] | None, Field(description="The whole new payload.")] = None
    priority: Annotated[Priority | None, Field()] = None
    available_at: Annotated[NearMoment | None, Field(description="Not before.")] = None
    requires: Annotated[Requires | None, Field(description="The labels that its worker has to have.")] = None
    slots: Annotated[Slots | None, Field(description="How many threads of its worker it takes.")] = None
    min_version: Annotated[
        MinVersion | None, Field(description="The version that its worker has to have at least; 0: any.")
    ] = None
    author: Annotated[Name | None, Field(description="Who edits it; kept with the version.")] = None


class EditJob(EditAndRetry):
    """What a job shall become; at least one of its members beside the author."""

    model_config = ConfigDict(
        json_schema_extra=some_of("payload", "priority", "available_at", "requires", "slots", "min_version")
    )


class VersionChangeDocument(Document):
    """A value that differs from the version before."""

    path: Annotated[str, Field(description="A JSON Pointer into the version.")]
    before: Annotated[Any, Field(description="Absent where there was no such value.")] = None
    after: Annotated[Any, Field(description="Absent where there is no such value any more.")] = None


class VersionDocument(Document):
    """What a job was, or, the last one, is."""

    version: int
    payload: Annotated[dict[str, Any] | None, CONTENTS, Field(description=WITHHELD)]
    priority: int
    available_at: datetime
    requires: dict[str, str]
    slots: int
    min_version: int | None
    author: Annotated[str | None, Field(description="Who made it of the version before, as they said.")]
    edited_at: Annotated[datetime | None, Field(description="The first version: when the job was created.")]
    changes: Annotated[
        list[VersionChangeDocument] | None,
        CONTENTS,
        Field(
            description="From the version before, at most 1,000. Null: that one is not kept any more, or the "
            "key may not read it (payloads:read)."
        ),
    ]


def version_document(edited: EditedVersion) -> dict[str, Any]:
    """Return the version as a `VersionDocument`, with what changed in it."""
    version, changes = edited
    document = asdict(version) | {
        "requires": by_name(version.requires),
        "min_version": version_of(version.requires) or None,
    }
    if changes is None:
        return document | {"changes": None}
    changed = [
        {name: value for name, value in change._asdict().items() if value is not ABSENT} for change in changes
    ]
    return document | {"changes": changed}


class EditableJobResource(JobResource):
    """One job: a GET reads it, a PATCH edits it."""

    def on_patch(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Edit a job that waits; the answer is the job."""
        wanted = validate(EditJob, read_document(request, self._goqueue.settings.job_max_bytes))
        response.data = as_json(job_document(self._goqueue.edit(job_id, **_said(wanted))))


class RetryResource(Resource):
    """The retry of a failed or cancelled job."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Queue the job again, edited where there is a body, with its attempts counted anew."""
        has_body = request.content_length or request.get_header("Transfer-Encoding")
        document = read_document(request, self._goqueue.settings.job_max_bytes) if has_body else {}
        wanted = validate(EditAndRetry, document)
        response.data = as_json(job_document(self._goqueue.retry(job_id, **_said(wanted))))


class VersionsResource(Resource):
    """The versions of a job."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """List the versions of the job: the one before each edit, the oldest first, and the present one."""
        versions = self._goqueue.versions(job_id)
        response.data = as_json([version_document(version) for version in versions])


def _said(wanted: EditAndRetry) -> dict[str, Any]:
    return {
        "payload": wanted.payload,
        "priority": wanted.priority,
        "available_at": wanted.available_at,
        "requires": wanted.requires,
        "slots": wanted.slots,
        "min_version": wanted.min_version,
        "author": wanted.author,
    }
