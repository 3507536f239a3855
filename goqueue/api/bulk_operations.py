"""Operations over many jobs: begun here, done by the scheduler, watched and aborted here."""

from __future__ import annotations

import falcon

from goqueue.api.bodies import read_document
from goqueue.api.bulk_models import (
    BulkOperationsQuery,
    CreateBulkOperation,
    operation_document,
    preview_document,
)
from goqueue.api.context import Context
from goqueue.api.cursors import link_next
from goqueue.api.documents import as_json
from goqueue.api.schemas import validate
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk import operations as bulk
from goqueue.bulk.operation_rows import NewBulkOperation


class BulkOperationsResource:
    """All operations."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The newest operations; the next page is in the Link header."""
        query = validate(BulkOperationsQuery, request.params, whole="query")
        with self._context.database.autocommit() as connection:
            operations = bulk_store.list_newest(connection, limit=query.limit + 1, before_id=query.cursor)
        if len(operations) > query.limit:
            operations.pop()
            link_next(request, response, str(operations[-1].id))
        response.data = as_json([operation_document(operation) for operation in operations])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Begin one; a dry run tells what it would be done to."""
        document = read_document(request, self._context.settings.job_max_bytes)
        asked = validate(CreateBulkOperation, document)
        answer_operation(response, self._context, asked.new(), dry_run=asked.dry_run)


class BulkOperationResource:
    """One operation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """How far it has come."""
        with self._context.database.autocommit() as connection:
            operation = bulk_store.get(connection, operation_id)
        response.data = as_json(operation_document(operation))


class AbortBulkOperationResource:
    """Stopping an operation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, _request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """Stop it for good; an aborted one stays as it is."""
        operation = bulk.abort(self._context.database, operation_id)
        response.data = as_json(operation_document(operation))


def answer_operation(
    response: falcon.Response, context: Context, new: NewBulkOperation, *, dry_run: bool
) -> None:
    """Begin an operation (202), or only tell what it would be done to (200)."""
    if dry_run:
        response.data = as_json(preview_document(bulk.preview(context.database, new)))
        return
    operation = bulk.start(context.database, new)
    response.status = falcon.HTTP_202
    response.location = f"/bulk-operations/{operation.id}"
    response.data = as_json(operation_document(operation))
