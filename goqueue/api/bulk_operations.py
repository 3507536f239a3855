"""Operations over many jobs: begun here, done by the scheduler, watched and aborted here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.documents import JobDocument, job_document
from goqueue.api.frame.answers import CONTENTS, Document, as_json, reader_of
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.cursors import link_next
from goqueue.api.frame.permissions import narrowed
from goqueue.api.frame.resource import Resource
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk import operations as bulk
from goqueue.bulk.actions import MAX_CANARY, MAX_RATE, MIN_RATE, BulkAction, BulkState
from goqueue.bulk.operation_rows import BulkOperation, NewBulkOperation, filter_document
from goqueue.bulk.operations import Preview
from goqueue.engine.listing.filters import JobFilter, Status
from goqueue.engine.options.request_models import JobId, Name, Priority, Request, validate
from goqueue.engine.options.schema_rules import some_of
from goqueue.instance import GoQueue
from goqueue.jobs import JobStatus

LIST_MAX = 200

Rate = Annotated[float, Field(ge=MIN_RATE, le=MAX_RATE, allow_inf_nan=False)]


class BulkFilter(JobFilter):
    """Which jobs; at least one besides the status is needed."""

    model_config = ConfigDict(
        json_schema_extra=some_of(*(name for name in JobFilter.model_fields if name != "status"))
    )

    status: Annotated[
        Status | None,
        Field(description="Default: failed to retry, queued to cancel and to set_priority; none to delete."),
    ] = None


class BulkArguments(Request):
    """What an action needs."""

    priority: Annotated[
        Priority | None,
        Field(description="Of set_priority."),
    ] = None


class _Pace(Request):
    rate: Annotated[Rate | None, Field(description="Jobs a second. Default: as fast as it goes.")] = None
    canary: Annotated[
        Annotated[int, Field(ge=1, le=MAX_CANARY)] | None,
        Field(description="Of retry: so many jobs first, the others only when all of these completed."),
    ] = None
    dry_run: Annotated[bool, Field(description="Only tell which jobs these are.")] = False
    author: Annotated[Name | None, Field(description="Who asks.")] = None


class RetryGroup(_Pace):
    """How the failed jobs of a group are run again."""


class CreateBulkOperation(_Pace):
    """An operation over many jobs."""

    action: Annotated[BulkAction, Field(strict=False)]
    filter: BulkFilter
    arguments: BulkArguments = Field(default_factory=BulkArguments)

    def new(self) -> NewBulkOperation:
        """The operation that is asked for."""
        return NewBulkOperation(
            self.action,
            self.filter,
            priority=self.arguments.priority,
            rate=self.rate,
            canary=self.canary,
            author=self.author,
        )


class BulkOperationsQuery(BaseModel):
    """The query of GET /bulk-operations."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=LIST_MAX)] = 50
    cursor: Annotated[
        JobId | None,
        Field(description="From the Link header of the page before: only operations before this one."),
    ] = None


class BulkFilterDocument(Document):
    """The filter of an operation; what does not matter is left out."""

    queue: str | None = None
    type: str | None = None
    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    fingerprint: str | None = None
    ids: list[int] | None = None
    tag: str | None = None
    payload: Annotated[str | None, CONTENTS] = None
    error: Annotated[str | None, CONTENTS] = None


class BulkArgumentsDocument(Document):
    """The arguments of an operation."""

    priority: int | None = None


class BulkOperationDocument(Document):
    """An operation over many jobs, and how far it has come."""

    id: int
    action: BulkAction
    filter: BulkFilterDocument
    arguments: BulkArgumentsDocument
    state: BulkState
    reason: Annotated[str | None, Field(description="Why it was stopped.")]
    rate: float | None
    canary: int | None
    total: Annotated[
        int,
        Field(
            description="Jobs that the filter found at the start; with payload or error, among the oldest "
            "that were looked at."
        ),
    ]
    done: Annotated[int, Field(description="Jobs that were taken so far.")]
    changed: Annotated[int, Field(description="Of these, jobs that were still in a state to be changed.")]
    author: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class BulkPreviewDocument(Document):
    """What an operation would be done to. Nothing was changed."""

    dry_run: bool
    total: int
    exact: Annotated[
        bool,
        Field(
            description="False: the total is an estimate, because there are very many; with payload or error "
            "there may be more than the total."
        ),
    ]
    jobs: Annotated[list[JobDocument], Field(description="The first 20 of them, oldest first.")]


_members_of = reader_of(BulkOperationDocument, author="requested_by")


def operation_document(operation: BulkOperation) -> dict[str, Any]:
    """Return the operation as a `BulkOperationDocument`."""
    return _members_of(operation) | {"filter": filter_document(operation.filter)}


def preview_document(preview: Preview) -> dict[str, Any]:
    """Return the preview as a `BulkPreviewDocument`."""
    return {
        "dry_run": True,
        "total": preview.total,
        "exact": preview.exact,
        "jobs": [job_document(job) for job in preview.jobs],
    }


class BulkOperationsResource(Resource):
    """The bulk operations: a GET lists them, a POST begins one."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the newest operations; the next page is in the Link header."""
        query = validate(BulkOperationsQuery, request.params, whole="query")
        with self._goqueue.database.autocommit() as connection:
            operations = bulk_store.list_newest(connection, limit=query.limit + 1, before_id=query.cursor)
        if len(operations) > query.limit:
            operations.pop()
            link_next(request, response, str(operations[-1].id))
        response.data = as_json([operation_document(operation) for operation in operations])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Begin an operation; a dry run only tells what it would be done to."""
        document = read_document(request, self._goqueue.settings.job_max_bytes)
        asked = validate(CreateBulkOperation, document)
        narrowed(request, asked.filter)
        answer_operation(response, self._goqueue, asked.new(), dry_run=asked.dry_run)


class BulkOperationResource(Resource):
    """A bulk operation and its progress."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """Tell how far the operation has come."""
        with self._goqueue.database.autocommit() as connection:
            operation = bulk_store.get(connection, operation_id)
        response.data = as_json(operation_document(operation))


class AbortBulkOperationResource(Resource):
    """The end of a bulk operation before its time."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """Stop the operation for good; an aborted one stays as it is."""
        operation = bulk.abort(self._goqueue.database, operation_id)
        response.data = as_json(operation_document(operation))


def answer_operation(
    response: falcon.Response, goqueue: GoQueue, new: NewBulkOperation, *, dry_run: bool
) -> None:
    """Begin an operation (202), or only tell what it would be done to (200)."""
    if dry_run:
        response.data = as_json(preview_document(bulk.preview(goqueue.database, new)))
        return
    operation = bulk.start(goqueue.database, new)
    response.status = falcon.HTTP_202
    response.location = f"/bulk-operations/{operation.id}"
    response.data = as_json(operation_document(operation))
