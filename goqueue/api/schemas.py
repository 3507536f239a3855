"""The one description of requests and answers: it validates the first and documents both."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from goqueue.engine.listing.filters import ErrorSearch, Fingerprint, JobFilter, PayloadSearch, Status
from goqueue.engine.options.job_options import JobOptions, ParentFailure, Parents
from goqueue.engine.options.request_models import (
    KEY_MAX_CHARACTERS,
    JobId,
    Key,
    Moment,
    Name,
    QueryMoment,
    Request,
    Tag,
)
from goqueue.engine.options.schema_rules import UNIQUE_ITEMS, some_of
from goqueue.jobs import MAX_JOB_ID, MAX_PARENTS, JobStatus

BATCH_MAX_JOBS = 10_000
CHAIN_MAX_JOBS = 1_000


def _job_id_or_ref(value: Any) -> int | str:
    is_id = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_JOB_ID
    if is_id or (isinstance(value, str) and 0 < len(value) <= KEY_MAX_CHARACTERS):
        return cast("int | str", value)
    raise PydanticCustomError("job", "expected the id of a job, or the ref of a job of this batch")


JobIdOrRef = Annotated[JobId | Key, BeforeValidator(_job_id_or_ref)]


class JobTarget(Request):
    """The queue, the type and the payload of a new job."""

    queue: Name
    payload: Annotated[dict[str, Any], Field(description="Described by the schema of its type: GET /types.")]
    type: Annotated[Name | None, Field(description="Default: the type of the queue.")] = None


class PlainJob(JobOptions, JobTarget):
    """The target and the options that any new job of a request may have."""


class ThenJob(PlainJob):
    """A job of a chain: it waits for the one before it."""

    on_parent_failure: ParentFailure = None


class CreateJob(PlainJob):
    """A job to create."""

    depends_on: Annotated[
        Parents | None,
        Field(description="Jobs that have to complete before; until then it is blocked."),
    ] = None
    on_parent_failure: ParentFailure = None
    then: Annotated[
        Annotated[list[ThenJob], Field(min_length=1, max_length=CHAIN_MAX_JOBS)] | None,
        Field(description="Jobs to create with it, each waiting for the one before."),
    ] = None


class BatchJob(PlainJob):
    """A job of a batch."""

    ref: Annotated[Key | None, Field(description="What depends_on of other jobs may call it.")] = None
    depends_on: Annotated[
        Annotated[
            list[JobIdOrRef],
            Field(max_length=MAX_PARENTS, fail_fast=True, json_schema_extra=dict(UNIQUE_ITEMS)),
        ]
        | None,
        Field(description="Jobs that have to complete before: ids, or refs of jobs of the batch."),
    ] = None
    on_parent_failure: ParentFailure = None


class CreateBatch(Request):
    """Jobs to create, all or none."""

    jobs: Annotated[
        # The first wrong one is enough: the others are looked for one by one, up to a bound.
        list[BatchJob], Field(min_length=1, max_length=BATCH_MAX_JOBS, fail_fast=True)
    ]


class SetStatus(Request):
    """The status that a job shall have."""

    status: Status


class SaveResult(Request):
    """What a client that runs a job itself keeps with it."""

    result: dict[str, Any] | None = None
    error: str = ""


class _Selection(Request):
    model_config = ConfigDict(json_schema_extra=some_of("queue", "type", "created_after", "created_before"))

    queue: Name | None = None
    type: Name | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None

    @model_validator(mode="after")
    def _expect_a_filter(self) -> Self:
        if not any((self.queue, self.type, self.created_after, self.created_before)):
            raise PydanticCustomError(
                "filter", "expected at least one of queue, type, created_after, created_before"
            )
        return self

    def job_filter(self) -> JobFilter:
        """Make the filter that lists and operations take."""
        said = dict(self)
        return JobFilter.model_construct(**said | {"status": JobStatus(said["status"])})


class RetrySelection(_Selection):
    """Which failed or cancelled jobs to run again."""

    status: Literal["failed", "cancelled"] = "failed"


class CancelSelection(_Selection):
    """Which unfinished jobs to cancel."""

    status: Literal["queued", "blocked", "running"] = "queued"


class FilterQuery(BaseModel):
    """A filter as the parameters of an address say it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    queue: Name | None = None
    type: Name | None = None
    status: JobStatus | None = None
    created_after: QueryMoment | None = None
    created_before: QueryMoment | None = None
    fingerprint: Annotated[
        Fingerprint | None, Field(description="A group of GET /failures; and so, failed jobs.")
    ] = None
    tag: Tag | None = None
    payload: PayloadSearch = None
    error: ErrorSearch = None

    def job_filter(self) -> JobFilter:
        """Make the filter that lists and operations take."""
        return JobFilter.model_construct(**{name: getattr(self, name) for name in FilterQuery.model_fields})


class ListQuery(FilterQuery):
    """The query of GET /jobs; at least one filter is needed."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[
        str | None,
        Field(
            description="From the Link header of the page before, of the same list.",
            json_schema_extra={"pattern": "^[A-Za-z0-9_-]{20}$"},
        ),
    ] = None

    @model_validator(mode="after")
    def _expect_a_filter(self) -> Self:
        if not any(getattr(self, name) for name in FilterQuery.model_fields):
            raise PydanticCustomError(
                "filter",
                "expected queue or another filter: type, status, created_after, created_before, fingerprint, "
                "tag, payload, error",
            )
        return self
