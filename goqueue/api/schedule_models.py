"""The requests about schedules, and their answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, Seconds, reader_of
from goqueue.config.labels import by_name, version_of
from goqueue.contents.contents import JobContents
from goqueue.engine.options.job_options import (
    LimitCost,
    MinVersion,
    RateCost,
    Requires,
    Retries,
    Slots,
    Tags,
    TimeLimit,
    UniqueJob,
)
from goqueue.engine.options.request_models import Key, Name, Priority, QueryMoment, Span
from goqueue.engine.options.uniqueness import without_client
from goqueue.jobs import JobStatus, NewJob
from goqueue.limits.flow_settings import Author, FlowSettings, Text
from goqueue.schedules.cron_expression import CronExpression, Shift
from goqueue.schedules.rules import (
    BlackoutPolicy,
    CatchUp,
    Overlap,
    Schedule,
    Source,
    Tick,
    TickKind,
    TickOutcome,
)
from goqueue.schedules.settings import BlackoutSettings, ScheduleName, ScheduleSettings

#: The members of a schedule that are its job's.
JOB_MEMBERS = (
    "queue",
    "type",
    "payload",
    "priority",
    "max_retries",
    "time_limit_seconds",
    "ttl_seconds",
    "deadline_seconds",
    "concurrency_key",
    "rate_cost",
    "limit_cost",
    "unique",
    "tags",
    "requires",
    "slots",
    "min_version",
)


class PutSchedule(ScheduleSettings):
    """When a schedule fires, and the job that each tick creates."""

    queue: Name
    payload: Annotated[dict[str, Any], Field(description="Described by the schema of its type: GET /types.")]
    type: Annotated[Name | None, Field(description="Default: the type of the queue.")] = None
    priority: Priority = 0
    max_retries: Annotated[Retries | None, Field(description="Default: the type's.")] = None
    time_limit_seconds: Annotated[
        TimeLimit | None, Field(description="The longest run of an attempt. Default: the type's.")
    ] = None
    ttl_seconds: Annotated[Span | None, Field(description="No attempt starts so long after the tick.")] = None
    deadline_seconds: Annotated[Span | None, Field(description="Over all retries, from the tick on.")] = None
    concurrency_key: Key | None = None
    rate_cost: RateCost = 1
    limit_cost: LimitCost = 1
    unique: UniqueJob | None = None
    tags: Tags | None = None
    requires: Requires | None = None
    slots: Slots | None = None
    min_version: MinVersion | None = None


class CreateSchedule(PutSchedule):
    """A schedule to create."""

    name: ScheduleName


class PauseSchedule(FlowSettings):
    """Why a schedule is paused, and by whom; both may be left out."""

    reason: Text | None = None
    author: Author | None = None


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SchedulesQuery(_Query):
    """The query of GET /schedules."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[ScheduleName | None, Field(description="From the Link header of the page before.")] = (
        None
    )


class PreviewQuery(_Query):
    """The query of GET /schedules/{name}/preview."""

    n: Annotated[int, Field(ge=1, le=1000)] = 10


class TicksQuery(_Query):
    """The query of GET /schedules/{name}/ticks."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[
        QueryMoment | None,
        Field(description="From the Link header of the page before: only ticks before this nominal time."),
    ] = None


class ScheduleDocument(Document):
    """A schedule, as it is now."""

    name: str
    cron: str
    timezone: str
    queue: str
    type: str
    payload: Annotated[dict[str, Any] | None, CONTENTS, Field(description=WITHHELD)]
    priority: int
    max_retries: int
    time_limit_seconds: Annotated[Seconds | None, Field(description="Null: the type's.")]
    ttl_seconds: Seconds | None
    deadline_seconds: Seconds | None
    concurrency_key: str | None
    rate_cost: int
    limit_cost: int
    unique_key: str | None
    tags: list[str]
    requires: dict[str, str]
    slots: int
    min_version: int | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_max: int
    catch_up_window_seconds: Seconds
    jitter_seconds: Seconds
    blackouts: list[BlackoutSettings]
    blackout_policy: BlackoutPolicy
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    next_at: Annotated[datetime | None, Field(description="The next nominal time; null while it is paused.")]
    due_at: Annotated[
        datetime | None, Field(description="When that is decided: jitter, or a blackout's end.")
    ]
    source: Annotated[Source, Field(description="code: declared beside an actor; change it there.")]
    created_at: datetime
    updated_at: datetime


class TickPreviewDocument(Document):
    """A tick that is to come."""

    nominal_at: datetime
    local: Annotated[str, Field(description="The nominal time on the wall, with its offset.")]
    fires_at: Annotated[datetime | None, Field(description="With its jitter; null where it does not fire.")]
    shift: Annotated[
        Shift | None,
        Field(description="What a change of the clock did: moved, first_of_two or repeated."),
    ]
    skipped_local: Annotated[str | None, Field(description="The time on the wall that a moved one has not.")]
    in_blackout: bool
    outcome: Annotated[
        Literal["fires", "fires_after_blackout", "blacked_out"], Field(description="What is to become of it.")
    ]


class TickDocument(Document):
    """A tick that was decided."""

    nominal_at: datetime
    kind: TickKind
    outcome: TickOutcome
    job_id: int | None
    job_status: Annotated[JobStatus | None, Field(description="Null where the job was deleted, or none was.")]
    decided_at: datetime


#: Where the members are that a schedule does not have itself.
_ELSEWHERE = {
    name: f"definition.{'job.' * (name in NewJob.__slots__)}{name}"
    for name in ScheduleDocument.model_fields
    if name not in Schedule.__slots__
}
_members_of = reader_of(
    ScheduleDocument,
    **_ELSEWHERE
    | {
        "unique_key": "definition.job.unique",
        "min_version": "definition.job.requires",
        "paused": "paused_at",
    },
)


def schedule_document(schedule: Schedule, contents: JobContents) -> dict[str, Any]:
    """Return the schedule as a `ScheduleDocument`, with the payload of its jobs as it is shown."""
    job = schedule.definition.job
    unique = job.unique
    return _members_of(schedule) | {
        "payload": contents.shown_document(job.payload, job.type),
        "requires": by_name(schedule.definition.job.requires),
        "min_version": version_of(schedule.definition.job.requires) or None,
        "unique_key": None if unique is None else without_client(unique.key),
        "paused": schedule.paused_at is not None,
    }


def preview_document(tick: Tick, expression: CronExpression) -> dict[str, Any]:
    """Return a tick to come as a `TickPreviewDocument`."""
    fire = tick.fire
    fires = "fires_after_blackout" if tick.in_blackout else "fires"
    return {
        "nominal_at": fire.at,
        "local": fire.at.astimezone(expression.zone).isoformat(),
        "fires_at": tick.due_at if tick.fires else None,
        "shift": fire.shift,
        "skipped_local": None if fire.meant is None else fire.meant.isoformat(),
        "in_blackout": tick.in_blackout,
        "outcome": fires if tick.fires else "blacked_out",
    }
