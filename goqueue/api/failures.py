"""Failed jobs in groups, and running a group again."""

from __future__ import annotations

import falcon

from goqueue.api.bodies import read_optional_document
from goqueue.api.bulk_models import RetryGroup
from goqueue.api.bulk_operations import answer_operation
from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.api.failure_models import (
    FailureQuery,
    FailuresQuery,
    failure_detail_document,
    failure_document,
)
from goqueue.api.schemas import validate
from goqueue.bulk.actions import BulkAction
from goqueue.bulk.operation_rows import NewBulkOperation
from goqueue.engine import listing_rows as job_lists
from goqueue.engine.listing_rows import JobFilter
from goqueue.insight import failure_rows as failure_store
from goqueue.insight.failure_rows import FailureFilter


class FailuresResource:
    """All groups."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The groups of the jobs that are failed now."""
        query = validate(FailuresQuery, request.params, whole="query")
        wanted = FailureFilter(query.queue, query.type, query.since)
        with self._context.read_database.autocommit() as connection:
            groups = failure_store.groups(connection, wanted, order=query.order, limit=query.limit)
        response.data = as_json([failure_document(group) for group in groups])


class FailureResource:
    """One group."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """The group, and its newest jobs."""
        query = validate(FailureQuery, request.params, whole="query")
        wanted = JobFilter(fingerprint=fingerprint)
        with self._context.read_database.autocommit() as connection:
            group = failure_store.get_group(connection, fingerprint)
            jobs, _ = job_lists.page(connection, wanted, limit=query.limit)
        response.data = as_json(failure_detail_document(group, jobs))


class RetryFailureResource:
    """Running a group again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """Begin a bulk operation that retries its jobs; a dry run tells which these are."""
        asked = validate(RetryGroup, read_optional_document(request, self._context.settings.job_max_bytes))
        with self._context.database.autocommit() as connection:
            failure_store.get_group(connection, fingerprint)
        new = NewBulkOperation(
            BulkAction.RETRY,
            JobFilter(fingerprint=fingerprint),
            rate=asked.rate,
            canary=asked.canary,
            author=asked.author,
        )
        answer_operation(response, self._context, new, dry_run=asked.dry_run)
