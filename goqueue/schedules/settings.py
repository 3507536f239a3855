"""The settings of a schedule beside its job: the models that REST and `goqueue.cron` share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from goqueue.config.bounds import near_moment
from goqueue.engine.options.request_models import Moment
from goqueue.engine.options.schema_rules import one_kind
from goqueue.jobs import NewJob
from goqueue.limits.flow_settings import FlowSettings
from goqueue.schedules.blackouts import WEEKDAYS, Blackout, DailyBlackout, DatedBlackout, end_of_blackout
from goqueue.schedules.cron_expression import MAX_CHARACTERS, CronExpression, zone_of
from goqueue.schedules.rules import BlackoutPolicy, CatchUp, Overlap, ScheduleDefinition, Source

MAX_CATCH_UP = 1_000
MAX_CATCH_UP_WINDOW_SECONDS = 31 * 86_400.0
MAX_JITTER_SECONDS = 3_600.0
MAX_BLACKOUTS = 50

_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_END = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"


def _cron(text: str) -> str:
    try:
        CronExpression(text)
    except ValueError as error:
        raise PydanticCustomError("cron", "{wrong}", {"wrong": str(error)}) from None
    return text.strip()


def _zone(name: str) -> str:
    try:
        zone_of(name)
    except ValueError as error:
        raise PydanticCustomError("zone", "{wrong}", {"wrong": str(error)}) from None
    return name


#: The context of a validation of what was accepted before: time has passed since.
_STORED = {"stored": True}

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
#: It is part of paths and of log lines.
ScheduleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]


class BlackoutSettings(FlowSettings):
    """A window in which nothing fires: `start` and `end` of a day, or `from` and `until`."""

    model_config = ConfigDict(
        json_schema_extra=one_kind(("start", "end"), ("from", "until"), optional="days")
    )

    start: Annotated[
        Annotated[str, Field(pattern=_TIME)] | None, Field(description="HH:MM in the schedule's zone.")
    ] = None
    end: Annotated[
        Annotated[str, Field(pattern=_END)] | None,
        Field(description="HH:MM, up to 24:00; not later than start: on the next day."),
    ] = None
    days: Annotated[
        Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None,
        Field(description="On which it starts. Default: every day."),
    ] = None
    from_: Annotated[Moment | None, Field(alias="from", description="Instead of times of a day.")] = None
    until: Moment | None = None

    @field_validator("from_", "until")
    @classmethod
    def _expect_near(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        return value if value is None or info.context == _STORED else near_moment(value)

    @model_validator(mode="after")
    def _expect_one_kind(self) -> Self:
        daily = self.start is not None and self.end is not None
        dated = self.from_ is not None and self.until is not None
        other = (self.from_, self.until) if daily else (self.start, self.end, self.days)
        if not (daily or dated) or any(value is not None for value in other):
            raise PydanticCustomError("blackout", "expected start and end (and days), or from and until")
        if self.start == self.end and daily:
            raise PydanticCustomError("blackout", "expected an end that is not the start")
        if self.from_ is not None and self.until is not None and self.from_ >= self.until:
            raise PydanticCustomError("blackout", "expected from before until")
        return self

    def window(self) -> Blackout:
        """Return the window that these settings mean."""
        if self.from_ is not None and self.until is not None:
            return DatedBlackout(self.from_, self.until)
        assert self.start is not None
        assert self.end is not None
        return DailyBlackout(
            _since_midnight(self.start),
            _since_midnight(self.end),
            frozenset(map(WEEKDAYS.index, self.days or WEEKDAYS)),
        )


def _since_midnight(text: str) -> timedelta:
    hours, _, minutes = text.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


class ScheduleIdentity(FlowSettings):
    """The settings that name a schedule."""

    name: ScheduleName


class ScheduleSettings(FlowSettings):
    """The settings of when a schedule fires, and what becomes of ticks that cannot."""

    cron: Annotated[
        str,
        AfterValidator(_cron),
        Field(
            description="Minute, hour, day, month, weekday; or @hourly, @daily, @weekly, @monthly, @yearly.",
            json_schema_extra={"format": "cron", "maxLength": MAX_CHARACTERS},
        ),
    ]
    timezone: Annotated[
        str,
        AfterValidator(_zone),
        Field(description="An IANA time zone.", json_schema_extra={"format": "iana-time-zone"}),
    ] = "UTC"
    overlap: Annotated[
        Annotated[Overlap, Field(strict=False)],
        Field(description="What a tick does while jobs of earlier ticks are unfinished."),
    ] = Overlap.QUEUE
    catch_up: Annotated[
        Annotated[CatchUp, Field(strict=False)],
        Field(description="What becomes of ticks that were missed, because every scheduler was away."),
    ] = CatchUp.ONCE
    catch_up_max: Annotated[
        int, Field(ge=1, le=MAX_CATCH_UP, description="The most missed ticks that `all` makes up for.")
    ] = 100
    catch_up_window_seconds: Annotated[
        float,
        Field(gt=0, le=MAX_CATCH_UP_WINDOW_SECONDS, allow_inf_nan=False, description="Older never fire."),
    ] = 86_400.0
    jitter_seconds: Annotated[
        float,
        Field(ge=0, le=MAX_JITTER_SECONDS, allow_inf_nan=False, description="Fire up to so long afterwards."),
    ] = 0.0
    blackouts: Annotated[
        list[BlackoutSettings],
        Field(default_factory=list, max_length=MAX_BLACKOUTS, description="Nothing fires in these."),
    ]
    blackout_policy: Annotated[
        Annotated[BlackoutPolicy, Field(strict=False)],
        Field(description="What becomes of the ticks in a blackout: none fires, or the last one afterwards."),
    ] = BlackoutPolicy.SKIP

    @model_validator(mode="after")
    def _expect_a_gap(self) -> Self:
        windows = [window for window in self._windows() if isinstance(window, DailyBlackout)]
        if end_of_blackout(datetime(2000, 1, 3, tzinfo=UTC), windows, ZoneInfo("UTC")) is None:
            raise PydanticCustomError("blackouts", "expected blackouts that leave some time of the week")
        return self

    def _windows(self) -> tuple[Blackout, ...]:
        return tuple(blackout.window() for blackout in self.blackouts)

    def definition(self, name: str, job: NewJob, source: Source) -> ScheduleDefinition:
        """The schedule of this name that creates this job."""
        return ScheduleDefinition(
            name=name,
            cron=self.cron,
            job=job,
            timezone=self.timezone,
            overlap=self.overlap,
            catch_up=self.catch_up,
            catch_up_max=self.catch_up_max,
            catch_up_window_seconds=self.catch_up_window_seconds,
            jitter_seconds=self.jitter_seconds,
            blackouts=tuple(
                blackout.model_dump(mode="json", by_alias=True, exclude_none=True)
                for blackout in self.blackouts
            ),
            windows=self._windows(),
            blackout_policy=self.blackout_policy,
            source=source,
        )


def windows_of(blackouts: list[dict[str, Any]]) -> tuple[Blackout, ...]:
    """The windows as they are kept, as they are meant."""
    return tuple(
        BlackoutSettings.model_validate(blackout, context=_STORED).window() for blackout in blackouts
    )
