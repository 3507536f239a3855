"""The one description of requests and answers: it validates the first and documents both."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from goqueue.api.bodies import expect_few_names
from goqueue.api.json_reader import path_name
from goqueue.api.unique_models import UniqueJob
from goqueue.config.bounds import near_moment
from goqueue.engine.job_search import SEARCH_MAX_CHARACTERS
from goqueue.engine.options.job_settings import (
    KEY_MAX_CHARACTERS,
    MAX_TAGS,
    NAME_MAX_CHARACTERS,
    NAME_PATTERN,
    TAG_MAX_CHARACTERS,
    JobSettings,
)
from goqueue.engine.options.job_type import MAX_LISTED_PROBLEMS
from goqueue.engine.options.schema_rules import UNIQUE_ITEMS, alternatives, some_of
from goqueue.errors import InvalidJobError
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    MAX_JOB_ID,
    MAX_PARENTS,
    MAX_RATE_COST,
    MAX_RETRIES_LIMIT,
    MAX_TIME_LIMIT_SECONDS,
    PRIORITY_RANGE,
    JobStatus,
    OnParentFailure,
)

BATCH_MAX_JOBS = 10_000
CHAIN_MAX_JOBS = 1_000

Model = TypeVar("Model", bound=BaseModel)

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _moment(value: Any) -> datetime:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("moment", "expected a date and time with a zone, as RFC 3339 writes it")


def _unless_unset(value: Any) -> Any:
    """A client in Go sends year one for a time that it left unset: at once, as it always was."""
    return None if value == "0001-01-01T00:00:00Z" else value


def _moment_of_query(value: Any) -> datetime:
    # In a query a plus sign that was not encoded arrives as a space.
    return _moment(re.sub(r" (?=\d\d:\d\d$)", "+", value) if isinstance(value, str) else value)


def _job_id_or_ref(value: Any) -> int | str:
    is_id = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_JOB_ID
    if is_id or (isinstance(value, str) and 0 < len(value) <= KEY_MAX_CHARACTERS):
        return cast("int | str", value)
    raise PydanticCustomError("job", "expected the id of a job, or the ref of a job of this batch")


Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX_CHARACTERS, pattern=NAME_PATTERN)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
NearMoment = Annotated[Moment, AfterValidator(near_moment)]
QueryMoment = Annotated[datetime, BeforeValidator(_moment_of_query)]
Status = Annotated[JobStatus, Field(strict=False)]
Count = Annotated[int, Field(ge=0)]
Key = Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tag = Annotated[str, Field(min_length=1, max_length=TAG_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS, json_schema_extra=dict(UNIQUE_ITEMS))]
SearchText = Annotated[
    str, Field(min_length=1, max_length=SEARCH_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")
]
PayloadSearch = Annotated[
    SearchText | None,
    Field(
        description="A value of the payload, by its path: user.country:DE; or else, or in quotes, a part of "
        "the payload's text."
    ),
]
ErrorSearch = Annotated[SearchText | None, Field(description="A part of the error, in any case.")]
JobId = Annotated[int, Field(ge=1, le=MAX_JOB_ID)]
JobIdOrRef = Annotated[JobId | Key, BeforeValidator(_job_id_or_ref)]
ParentFailure = Annotated[
    Annotated[OnParentFailure, Field(strict=False)] | None,
    Field(description="What becomes of it when a job that it waits for does not complete. Default: fail."),
]
Span = Annotated[float, Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)]


class Request(BaseModel):
    """A request: unknown fields are wrong, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _expect_few_names(cls, document: Any) -> Any:
        return expect_few_names(document)


_PLAIN_SETTINGS = JobSettings.__optional_keys__ - {"unique"}


class PlainJob(Request):
    """The settings of any new job."""

    model_config = ConfigDict(
        json_schema_extra=alternatives(
            ("available_at", "delay_seconds"),
            ("expires_at", "ttl_seconds"),
            ("deadline_at", "deadline_seconds"),
        )
    )

    queue: Name
    payload: Annotated[dict[str, Any], Field(description="Described by the schema of its type: GET /types.")]
    type: Annotated[Name | None, Field(description="Default: the type of the queue.")] = None
    max_retries: Annotated[
        Annotated[int, Field(ge=0, le=MAX_RETRIES_LIMIT)] | None,
        Field(description="Retries after the first run. Default: the type's."),
    ] = None
    available_at: Annotated[
        NearMoment | None,
        BeforeValidator(_unless_unset),
        Field(description="Not before, within ten years of now. Default: now."),
    ] = None
    priority: Annotated[int, Field(ge=PRIORITY_RANGE[0], le=PRIORITY_RANGE[1])] = 0
    time_limit_seconds: Annotated[
        Annotated[float, Field(gt=0, le=MAX_TIME_LIMIT_SECONDS, allow_inf_nan=False)] | None,
        Field(description="The longest run of an attempt. Default: the type's."),
    ] = None
    delay_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_DELAY_SECONDS,
            allow_inf_nan=False,
            description="Instead of available_at: so long after now.",
        ),
    ] = 0
    expires_at: Annotated[NearMoment | None, Field(description="No attempt starts after it.")] = None
    ttl_seconds: Annotated[Span | None, Field(description="Instead of expires_at: so long after now.")] = None
    deadline_at: Annotated[
        NearMoment | None, Field(description="Over all retries: no attempt starts or goes on after it.")
    ] = None
    deadline_seconds: Annotated[
        Span | None, Field(description="Instead of deadline_at: so long after now.")
    ] = None
    concurrency_key: Annotated[
        Key | None, Field(description="Whose turn it is among the jobs of the queue: a tenant, an account.")
    ] = None
    rate_cost: Annotated[
        int, Field(ge=1, le=MAX_RATE_COST, description="What a start costs the queue's rate limits.")
    ] = 1

    unique: Annotated[UniqueJob | None, Field(description="At most one job of its kind.")] = None
    tags: Annotated[
        Tags | None,
        Field(description="What it is called by, to be found: GET /jobs?tag=…; each once."),
    ] = None

    def settings(self) -> JobSettings:
        """Return the settings that were given, without type and payload."""
        given = self.model_fields_set & _PLAIN_SETTINGS
        said = {name: value for name in given if (value := getattr(self, name)) is not None}
        if self.unique is not None:
            said["unique"] = self.unique.said()
        return cast("JobSettings", said)


class ThenJob(PlainJob):
    """A job of a chain: it waits for the one before it."""

    on_parent_failure: ParentFailure = None


class CreateJob(PlainJob):
    """A job to create."""

    depends_on: Annotated[
        Annotated[
            list[JobId], Field(max_length=MAX_PARENTS, fail_fast=True, json_schema_extra=dict(UNIQUE_ITEMS))
        ]
        | None,
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


class RetrySelection(_Selection):
    """Which failed or cancelled jobs to run again."""

    status: Literal["failed", "cancelled"] = "failed"


class CancelSelection(_Selection):
    """Which unfinished jobs to cancel."""

    status: Literal["queued", "blocked", "running"] = "queued"


class ListQuery(BaseModel):
    """The query of GET /jobs; at least one filter is needed."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    queue: Name | None = None
    type: Name | None = None
    status: JobStatus | None = None
    created_after: QueryMoment | None = None
    created_before: QueryMoment | None = None
    fingerprint: Annotated[
        Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None,
        Field(description="A group of GET /failures; and so, failed jobs."),
    ] = None
    tag: Tag | None = None
    payload: PayloadSearch = None
    error: ErrorSearch = None
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
        times = (self.created_after, self.created_before)
        texts = (self.tag, self.payload, self.error)
        if not any((self.queue, self.type, self.status, *times, self.fingerprint, *texts)):
            raise PydanticCustomError(
                "filter",
                "expected queue or another filter: type, status, created_after, created_before, fingerprint, "
                "tag, payload, error",
            )
        return self


def validate(model: type[Model], document: Any, *, whole: str = "body") -> Model:
    """The document as the model.

    Args:
        model: what it has to be.
        document: JSON values, or the parameters of a query.
        whole: the field to name where the document as a whole is wrong.

    Raises:
        InvalidJobError: each field is the path of a wrong value.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        if error.error_count() > MAX_LISTED_PROBLEMS:
            raise InvalidJobError({whole: f"{error.error_count():,} values are wrong"}) from None
        items = error.errors(include_url=False, include_input=False, include_context=False)
        fields = {path_name(item["loc"]) if item["loc"] else whole: item["msg"] for item in items}
        raise InvalidJobError(fields) from None
