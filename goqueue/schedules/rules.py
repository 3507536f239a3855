"""Schedules: jobs that are created again and again, and what becomes of each of their nominal times. Pure.

A *tick* is one nominal time of a schedule. It is decided once, and what was decided is a row.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice, takewhile
from typing import Any, NamedTuple

from goqueue.jobs import NewJob
from goqueue.schedules.blackouts import Blackout, end_of_blackout
from goqueue.schedules.cron_expression import CronExpression, Fire

#: Of the ticks that did not fire in one decision so many are recorded, the newest, and the first of all.
MAX_RECORDED = 100

#: Nobody plans further; a line that fires every 28 years would be looked for in three millennia.
PREVIEW_SPAN = timedelta(days=100 * 366)

_INSTANT = timedelta(microseconds=1)
_HASH_BYTES = 8


class Overlap(enum.StrEnum):
    """What a tick does while jobs of earlier ticks are unfinished.

    skip: nothing: it is recorded as `overlapped`.
    queue: its job waits until they have finished, however they end.
    cancel_running: they are cancelled, and its job starts when they have stopped.
    """

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"


class CatchUp(enum.StrEnum):
    """What becomes of ticks that nobody decided in time: every scheduler was away.

    skip: they are recorded as `missed`.
    once: the newest of them fires, unless one that is on time does.
    all: the newest `catch_up_max` of them fire.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class BlackoutPolicy(enum.StrEnum):
    """What becomes of the ticks inside a blackout.

    skip: they are recorded as `blacked_out`.
    after: the last of them fires when the blackout ends, unless another tick comes right then.
    """

    SKIP = "skip"
    AFTER = "after"


class TickOutcome(enum.StrEnum):
    """What was decided about a tick; only `fired` has a job."""

    FIRED = "fired"
    OVERLAPPED = "overlapped"
    MISSED = "missed"
    BLACKED_OUT = "blacked_out"
    #: A quota of the namespace left no room for its job.
    OVER_QUOTA = "over_quota"


class TickKind(enum.StrEnum):
    """Where a tick comes from: the cron line, or someone who asked for it."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"


class Source(enum.StrEnum):
    """Where a schedule is defined: through the API, or beside an actor (`goqueue.cron`)."""

    API = "api"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class ScheduleDefinition:
    """The definition of a schedule: its line, the job of each tick, and what becomes of ticks.

    Attributes:
        job: what each tick creates.
        catch_up_max: the most missed ticks that fire, by `all`.
        catch_up_window_seconds: ticks that were missed longer ago never fire.
        jitter_seconds: each tick fires up to so long after its nominal time; the same for every scheduler.
        blackouts: the windows as they were written, which is how they are kept.
        windows: the same, as they are meant.
    """

    name: str
    cron: str
    job: NewJob
    timezone: str = "UTC"
    overlap: Overlap = Overlap.QUEUE
    catch_up: CatchUp = CatchUp.ONCE
    catch_up_max: int = 100
    catch_up_window_seconds: float = 86_400.0
    jitter_seconds: float = 0.0
    blackouts: tuple[dict[str, Any], ...] = ()
    windows: tuple[Blackout, ...] = ()
    blackout_policy: BlackoutPolicy = BlackoutPolicy.SKIP
    source: Source = Source.API


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row of `schedules`, as it was at the moment it was read.

    Attributes:
        next_at: the next nominal time; every one before it is decided. None while it is paused.
        due_at: when that is decided: with its jitter, or after its blackout.
    """

    id: int
    definition: ScheduleDefinition
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    next_at: datetime | None
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Tick(NamedTuple):
    """A nominal time and what the definition says of it.

    Attributes:
        starts_at: when its job is to start, but for the jitter: its time, or the end of its blackout.
        due_at: when it is decided.
        in_blackout: a blackout holds its nominal time.
        fires: it is to fire.
    """

    fire: Fire
    starts_at: datetime
    due_at: datetime
    in_blackout: bool
    fires: bool


class Decision(NamedTuple):
    """The decision about a schedule that is due.

    Attributes:
        ticks: the ticks to record, in their order; those to fire are `FIRED`, unless they overlap.
        following: the next tick to be decided; None: there is none.
    """

    ticks: list[tuple[Tick, TickOutcome]]
    following: Tick | None


def ticks(definition: ScheduleDefinition, after: datetime) -> Iterator[Tick]:
    """The ticks with a nominal time later than a moment, in their order."""
    expression = CronExpression(definition.cron, definition.timezone)
    fires = expression.fires(after)
    fire = next(fires, None)
    while fire is not None:
        following = next(fires, None)
        yield _tick(definition, expression, fire, following)
        fire = following


def preview(definition: ScheduleDefinition, after: datetime, most: int) -> list[Tick]:
    """The first ticks later than a moment, none more than a hundred years later."""
    until = after + PREVIEW_SPAN
    return list(islice(takewhile(lambda tick: tick.fire.at < until, ticks(definition, after)), most))


def _tick(
    definition: ScheduleDefinition, expression: CronExpression, fire: Fire, following: Fire | None
) -> Tick:
    jitter = _jitter(definition, fire.at)
    end = end_of_blackout(fire.at, definition.windows, expression.zone)
    if end == fire.at:
        return Tick(fire, fire.at, fire.at + jitter, in_blackout=False, fires=True)
    another_comes = end is None or (following is not None and following.at <= end)
    if definition.blackout_policy is BlackoutPolicy.AFTER and not another_comes:
        assert end is not None
        return Tick(fire, end, end + jitter, in_blackout=True, fires=True)
    return Tick(fire, fire.at, fire.at + jitter, in_blackout=True, fires=False)


def _jitter(definition: ScheduleDefinition, nominal: datetime) -> timedelta:
    """The same for every scheduler, and spread evenly over schedules and times."""
    digest = hashlib.sha256(f"{definition.name}\n{nominal.timestamp():.0f}".encode()).digest()
    share = int.from_bytes(digest[:_HASH_BYTES]) / 256**_HASH_BYTES
    return timedelta(seconds=definition.jitter_seconds * share)


def decide(
    definition: ScheduleDefinition, next_at: datetime, now: datetime, *, late_seconds: float
) -> Decision:
    """Decide every tick from `next_at` on that is due.

    Args:
        definition: the schedule.
        next_at: its first undecided nominal time.
        now: the time.
        late_seconds: a tick decided so long after it could have been is a missed one.
    """
    due: list[Tick] = []
    following: Tick | None = None
    for tick in _undecided(definition, next_at, now, late_seconds):
        if tick.due_at > now:
            following = tick
            break
        due.append(tick)
    to_fire = _chosen(definition, due, now, late_seconds)
    outcomes = [(tick, _outcome(tick, to_fire)) for tick in due]
    return Decision(_recorded(outcomes), following)


def _undecided(
    definition: ScheduleDefinition, next_at: datetime, now: datetime, late_seconds: float
) -> Iterator[Tick]:
    """The ticks from `next_at` on, without those that are too old to matter: only the first one of these."""
    found = ticks(definition, next_at - _INSTANT)
    first = next(found, None)
    if first is None:
        return iter(())
    window = max(definition.catch_up_window_seconds, definition.jitter_seconds + late_seconds)
    horizon = now - timedelta(seconds=window)
    if first.fire.at < horizon:
        found = ticks(definition, horizon - _INSTANT)
    return chain([first], found)


def _chosen(definition: ScheduleDefinition, due: list[Tick], now: datetime, late_seconds: float) -> set[Tick]:
    """The due ticks that fire: those on time, and what the catch-up policy says of the missed."""
    slack = timedelta(seconds=definition.jitter_seconds + late_seconds)
    on_time = {tick for tick in due if tick.fires and now <= tick.starts_at + slack}
    oldest = now - timedelta(seconds=definition.catch_up_window_seconds)
    missed = [tick for tick in due if tick.fires and tick not in on_time and tick.starts_at >= oldest]
    if definition.catch_up is CatchUp.ALL:
        return on_time | set(missed[-definition.catch_up_max :])
    if definition.catch_up is CatchUp.ONCE and not on_time:
        return set(missed[-1:])
    return on_time


def _outcome(tick: Tick, to_fire: set[Tick]) -> TickOutcome:
    if tick in to_fire:
        return TickOutcome.FIRED
    return TickOutcome.MISSED if tick.fires else TickOutcome.BLACKED_OUT


def _recorded(outcomes: list[tuple[Tick, TickOutcome]]) -> list[tuple[Tick, TickOutcome]]:
    """All that fire, and not too many of the others."""
    silent = [position for position, (_, outcome) in enumerate(outcomes) if outcome is not TickOutcome.FIRED]
    left_out = set(silent[1:-MAX_RECORDED])
    return [item for position, item in enumerate(outcomes) if position not in left_out]
