"""The uniqueness of a new job, as a request says it, and the answer of a create that met another job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goqueue.api.bodies import expect_few_names
from goqueue.api.documents import JobDocument
from goqueue.engine.options.schema_rules import UNIQUE_ITEMS, alternatives, some_of
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS, MAX_FIELDS, Unique
from goqueue.jobs import MAX_DELAY_SECONDS, JobStatus, UniqueMode

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

Seconds = Annotated[float, Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)]
Path = Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS, pattern=_PRINTABLE)]
State = Annotated[JobStatus, Field(strict=False)]


class UniqueJob(BaseModel):
    """At most one job of its kind; either `key` or `fields`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra=some_of("key", "fields") | alternatives(("key", "fields")),
    )

    @model_validator(mode="before")
    @classmethod
    def _expect_few_names(cls, document: Any) -> Any:
        return expect_few_names(document)

    key: Annotated[
        Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS, pattern=_PRINTABLE)] | None,
        Field(description="The whole key: jobs of any type and queue that say it are alike."),
    ] = None
    fields: Annotated[
        Annotated[
            list[Path], Field(min_length=1, max_length=MAX_FIELDS, json_schema_extra=dict(UNIQUE_ITEMS))
        ]
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
            "running; for replace_payload and debounce: queued, blocked.",
        ),
    ] = None
    window_seconds: Annotated[
        Seconds | None, Field(description="And only for so long after the holder was created.")
    ] = None
    mode: Annotated[
        Annotated[UniqueMode, Field(strict=False)],
        Field(description="What a create does to a holder that waits."),
    ] = UniqueMode.REJECT
    debounce_max_seconds: Annotated[
        Seconds | None,
        Field(description="For debounce: its start is at most so long after the holder's creation."),
    ] = None

    def said(self) -> Unique:
        """Return these options as those of Python callers."""
        return Unique(
            key=self.key,
            fields=tuple(self.fields or ()),
            while_=tuple(self.while_ or ()),
            window_seconds=self.window_seconds,
            mode=self.mode,
            debounce_max_seconds=self.debounce_max_seconds,
        )


class DeduplicatedDocument(JobDocument):
    """The job that has the unique key: nothing was created."""

    deduplicated: Literal[True]
