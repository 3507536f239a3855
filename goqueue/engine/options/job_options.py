"""The options of a new job beside its type and payload, described once, for every door.

A model says of each option what it may be; `refuse_contradictions` of `job_settings.py` looks at what no
single one shows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from goqueue.config.labels import LABEL_NAME, LABEL_VALUE, MAX_LABELS, MAX_VERSION
from goqueue.engine.options.job_settings import EITHER, JobSettings, problem_of_name, refuse_contradictions
from goqueue.engine.options.request_models import (
    JobId,
    Key,
    Name,
    NearMoment,
    Priority,
    Request,
    Span,
    Tag,
    validate,
)
from goqueue.engine.options.schema_rules import UNIQUE_ITEMS, alternatives, some_of
from goqueue.engine.options.uniqueness import COLLECT_MAX, COLLECT_MAX_BYTES, MAX_FIELDS, Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    MAX_LIMIT_COST,
    MAX_PARENTS,
    MAX_RATE_COST,
    MAX_RETRIES_LIMIT,
    MAX_SLOTS,
    MAX_TIME_LIMIT_SECONDS,
    JobStatus,
    OnParentFailure,
    UniqueMode,
)

__all__ = [
    "JobOptions",
    "LimitCost",
    "OptionsFromPython",
    "ParentFailure",
    "Parents",
    "RateCost",
    "Requires",
    "Retries",
    "Slots",
    "Tags",
    "TimeLimit",
    "UniqueJob",
    "refuse_wrong",
]

MAX_TAGS = 20

Retries = Annotated[int, Field(ge=0, le=MAX_RETRIES_LIMIT)]
TimeLimit = Annotated[float, Field(gt=0, le=MAX_TIME_LIMIT_SECONDS, allow_inf_nan=False)]
RateCost = Annotated[int, Field(ge=1, le=MAX_RATE_COST)]
LimitCost = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_LIMIT_COST,
        description="How many slots of each concurrency limit it takes: of its queue, its key and its type.",
    ),
]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS, json_schema_extra=dict(UNIQUE_ITEMS))]
#: True is the text "true", and a whole number its digits: labels are compared as texts.
Requires = Annotated[
    dict[
        Annotated[str, Field(pattern=LABEL_NAME)],
        Annotated[str, Field(pattern=LABEL_VALUE)] | bool | int,
    ],
    Field(
        max_length=MAX_LABELS,
        description='The labels that its worker has to have: {"gpu": true}. Default: the type\'s.',
    ),
]
Slots = Annotated[
    int,
    Field(ge=1, le=MAX_SLOTS, description="How many threads of its worker it takes. Default: the type's."),
]
MinVersion = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_VERSION,
        description="Its worker has to have this version or a higher one; 0: any. Default: the type's.",
    ),
]
Parents = Annotated[
    list[JobId], Field(max_length=MAX_PARENTS, fail_fast=True, json_schema_extra=dict(UNIQUE_ITEMS))
]
ParentFailure = Annotated[
    Annotated[OnParentFailure, Field(strict=False)] | None,
    Field(description="What becomes of it when a job that it waits for does not complete. Default: fail."),
]
State = Annotated[JobStatus, Field(strict=False)]


def _unless_unset(value: Any) -> Any:
    """A client in Go sends year one for a time that it left unset: at once, as it always was."""
    return None if value == "0001-01-01T00:00:00Z" else value


class UniqueJob(Request):
    """At most one job of its kind; either `key` or `fields`."""

    model_config = ConfigDict(json_schema_extra=some_of("key", "fields") | alternatives(("key", "fields")))

    key: Annotated[
        Key | None, Field(description="The whole key: jobs of any type and queue that say it are alike.")
    ] = None
    fields: Annotated[
        Annotated[list[Key], Field(min_length=1, max_length=MAX_FIELDS, json_schema_extra=dict(UNIQUE_ITEMS))]
        | None,
        Field(
            description="Paths in the payload, such as user_id or order.id: jobs of the type with equal "
            "values are alike."
        ),
    ] = None
    while_: Annotated[
        Annotated[list[State], Field(min_length=1, max_length=len(JobStatus))] | None,
        Field(
            alias="while",
            description="The states of its holder in which the key is taken. Default: queued, blocked, "
            "running; for the other modes than reject: queued, blocked.",
        ),
    ] = None
    window_seconds: Annotated[
        Span | None, Field(description="And only for so long after the holder was created.")
    ] = None
    mode: Annotated[
        Annotated[UniqueMode, Field(strict=False)],
        Field(description="What a create does to a holder that waits."),
    ] = UniqueMode.REJECT
    debounce_max_seconds: Annotated[
        Span | None,
        Field(description="For debounce: its start is at most so long after the holder's creation."),
    ] = None

    collect_seconds: Annotated[
        Span | None,
        Field(description="For collect: the job starts so long after its creation with what it has then."),
    ] = None
    collect_max: Annotated[
        Annotated[int, Field(ge=2, le=COLLECT_MAX)] | None,
        Field(description="For collect: it starts as soon as it has so many payloads. Default: 100."),
    ] = None
    collect_max_bytes: Annotated[
        Annotated[int, Field(ge=1, le=COLLECT_MAX_BYTES)] | None,
        Field(description="For collect: the most bytes of all its payloads. Default: 262,144."),
    ] = None

    def said(self) -> Unique:
        """Make the `Unique` that says the same."""
        return Unique(
            key=self.key,
            fields=tuple(self.fields or ()),
            while_=tuple(self.while_ or ()),
            window_seconds=self.window_seconds,
            mode=self.mode,
            debounce_max_seconds=self.debounce_max_seconds,
            collect_seconds=self.collect_seconds,
            collect_max=self.collect_max,
            collect_max_bytes=self.collect_max_bytes,
        )


class JobOptions(Request):
    """The options of any new job, beside where it goes, its type and its payload."""

    model_config = ConfigDict(json_schema_extra=alternatives(*EITHER))

    max_retries: Annotated[
        Retries | None, Field(description="Retries after the first run. Default: the type's.")
    ] = None
    available_at: Annotated[
        NearMoment | None,
        BeforeValidator(_unless_unset),
        Field(description="Not before, within ten years of now. Default: now."),
    ] = None
    priority: Priority = 0
    time_limit_seconds: Annotated[
        TimeLimit | None, Field(description="The longest run of an attempt. Default: the type's.")
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
    rate_cost: Annotated[RateCost, Field(description="What a start costs the queue's rate limits.")] = 1
    unique: Annotated[UniqueJob | None, Field(description="At most one job of its kind.")] = None
    tags: Annotated[
        Tags | None,
        Field(description="What it is called by, to be found: GET /jobs?tag=…; each once."),
    ] = None
    requires: Requires | None = None
    slots: Slots | None = None
    min_version: MinVersion | None = None
    limit_cost: LimitCost = 1

    def settings(self) -> JobSettings:
        """Collect the settings that were given, as Python has them."""
        given = self.model_fields_set & _PLAIN_SETTINGS
        said = {name: value for name in given if (value := getattr(self, name)) is not None}
        if self.unique is not None:
            said["unique"] = self.unique.said()
        return cast("JobSettings", said)


_PLAIN_SETTINGS = JobSettings.__optional_keys__ - {"unique"}


class OptionsFromPython(JobOptions):
    """The options as callers from Python give them: with times instead of texts, and all of `JobSettings`."""

    queue: Name | None = None
    depends_on: Parents | None = None
    on_parent_failure: ParentFailure = None

    @field_validator("available_at", "expires_at", "deadline_at", mode="before")
    @classmethod
    def _expect_time(cls, value: Any) -> Any:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise PydanticCustomError("time", "expected a datetime with a zone")
        return value

    @field_validator("depends_on", "tags", mode="before")
    @classmethod
    def _expect_list(cls, value: Any) -> Any:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise PydanticCustomError("list", "expected a list")
        return list(value)


def refuse_wrong(settings: JobSettings) -> None:
    """Check what callers from Python say, by the model that checks the API's clients.

    Raises:
        InvalidJobError: with every setting that is wrong.
    """
    if not settings:
        return
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    is_known = settings.keys() <= JobSettings.__optional_keys__
    if is_known and given.keys() <= {"queue"} and problem_of_name(given.get("queue", "-")) is None:
        # Most jobs say no more.
        refuse_contradictions(given)
        return
    unique = given.get("unique")
    wrong = dict(_unknown(settings)) or _wrong_values({**given, "unique": None})
    if unique is not None and not isinstance(unique, Unique):
        wrong["unique"] = "expected a Unique"
    if wrong:
        raise InvalidJobError(wrong)
    refuse_contradictions(given)


def _unknown(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that there are not, also where their value is None."""
    for name in settings.keys() - JobSettings.__optional_keys__:
        alike = difflib.get_close_matches(name, JobSettings.__optional_keys__, 1, 0.4)
        yield name, f"there is no such setting{f': {alike[0]}?' if alike else ''}"


def _wrong_values(given: dict[str, Any]) -> dict[str, str]:
    try:
        validate(OptionsFromPython, given)
    except InvalidJobError as error:
        return {name: _expected(wrong) for name, wrong in error.fields.items()}
    return {}


def _expected(wrong: str) -> str:
    """A problem in the words that Python's callers know."""
    return wrong.replace("Input should be", "expected").replace("'", "")
