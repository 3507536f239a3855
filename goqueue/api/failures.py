"""Failed jobs in groups, and running a group again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.bulk_operations import RetryGroup, answer_operation
from goqueue.api.documents import JobDocument, job_document
from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, as_json
from goqueue.api.frame.bodies import read_optional_document
from goqueue.api.frame.resource import Resource
from goqueue.bulk.actions import BulkAction
from goqueue.bulk.operation_rows import NewBulkOperation
from goqueue.db import bounded_reads
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.options.request_models import Name, QueryMoment, validate
from goqueue.insight import failure_rows as failure_store
from goqueue.insight.failure_rows import FailureFilter, FailureGroup, Order
from goqueue.jobs import Job

GROUPS_MAX = 200


class FailuresQuery(BaseModel):
    """The query of GET /failures."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    queue: Name | None = None
    type: Name | None = None
    since: Annotated[QueryMoment | None, Field(description="Only jobs that failed then or later.")] = None
    order: Annotated[Order, Field(description="The latest, or the largest, first.")] = "last_seen"
    limit: Annotated[int, Field(ge=1, le=GROUPS_MAX)] = 50


class FailureQuery(BaseModel):
    """The query of GET /failures/{fingerprint}."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=GROUPS_MAX, description="Of the newest jobs.")] = 20


class FailureSampleDocument(Document):
    """The newest job of a group."""

    job_id: int
    error: Annotated[str | None, CONTENTS, Field(description=WITHHELD)]
    reason: str | None
    traceback: Annotated[str | None, CONTENTS, Field(description="Of its last attempt.")]


class FailureDocument(Document):
    """Failed jobs of one kind."""

    fingerprint: str
    type: str
    exception: Annotated[str | None, Field(description="Null where no exception was seen: see the reason.")]
    message: Annotated[
        str | None,
        CONTENTS,
        Field(description=f"With placeholders for what differs between the jobs. {WITHHELD}"),
    ]
    frame: Annotated[str | None, Field(description="The innermost function of your own code.")]
    count: Annotated[int, Field(description="Jobs that are failed now.")]
    first_seen: Annotated[datetime, Field(description="When the first of them failed.")]
    last_seen: datetime
    is_estimate: Annotated[
        bool, Field(description="There are many: the scheduler counted them a few seconds ago.")
    ]
    sample: FailureSampleDocument


class FailureDetailDocument(FailureDocument):
    """Failed jobs of one kind, and the newest of them."""

    jobs: list[JobDocument]


def failure_document(group: FailureGroup) -> dict[str, Any]:
    """Return the group as a `FailureDocument`."""
    document = asdict(group)
    sample = {name: document.pop(f"sample_{name}") for name in FailureSampleDocument.model_fields}
    return document | {"sample": sample}


def failure_detail_document(group: FailureGroup, jobs: list[Job]) -> dict[str, Any]:
    """Return the group and its newest jobs as a `FailureDetailDocument`."""
    return failure_document(group) | {"jobs": [job_document(job) for job in jobs]}


class FailuresResource(Resource):
    """The groups of failed jobs that are one problem."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the groups of the jobs that are failed now."""
        query = validate(FailuresQuery, request.params, whole="query")
        wanted = FailureFilter(query.queue, query.type, query.since)
        with self._goqueue.read_database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            groups = failure_store.groups(connection, wanted, order=query.order, limit=query.limit)
        response.data = as_json([failure_document(group) for group in groups])


class FailureResource(Resource):
    """A group of failed jobs that are one problem."""

    def on_get(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """Tell about the group, and list its newest jobs."""
        query = validate(FailureQuery, request.params, whole="query")
        with self._goqueue.read_database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            group = failure_store.get_group(connection, fingerprint)
            jobs, _ = job_lists.page(connection, JobFilter(fingerprint=fingerprint), limit=query.limit)
        response.data = as_json(failure_detail_document(group, jobs))


class RetryFailureResource(Resource):
    """The retry of a group of failed jobs."""

    def on_post(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """Begin a bulk operation that retries the group's jobs; a dry run tells which these are."""
        asked = validate(RetryGroup, read_optional_document(request, self._goqueue.settings.job_max_bytes))
        with self._goqueue.database.autocommit() as connection:
            failure_store.get_group(connection, fingerprint)
        new = NewBulkOperation(
            BulkAction.RETRY,
            JobFilter(fingerprint=fingerprint),
            rate=asked.rate,
            canary=asked.canary,
            author=asked.author,
        )
        answer_operation(response, self._goqueue, new, dry_run=asked.dry_run)
