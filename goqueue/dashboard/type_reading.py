"""What the pages of job types show, read in one go, and bounded whatever their jobs are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from goqueue.api.context import Context
from goqueue.dashboard.access.guard import FOLDER
from goqueue.dashboard.charts import history
from goqueue.dashboard.snapshots import one_moment
from goqueue.db.statements import current_time
from goqueue.engine.options.job_type import JobType
from goqueue.errors import TypeNotFoundError
from goqueue.insight import failure_group_rows as failure_groups
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.failure_group_rows import ShownGroup
from goqueue.insight.failure_rows import FailureFilter
from goqueue.insight.histograms import added, quantile
from goqueue.insight.ranges import TimeRange
from goqueue.insight.rollup_rows import Scope, Step
from goqueue.insight.rollup_steps import MINUTES, TENS
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.type_setting_rows import LimitedType

__all__ = [
    "GROUPS_SHOWN",
    "TYPES_SHOWN",
    "Figures",
    "OneType",
    "TypeRow",
    "figures_of",
    "limits",
    "one",
    "place_of",
    "rows",
]

TYPES_SHOWN = 300
GROUPS_SHOWN = 5

#: Minutes of the list, and of its sparklines.
MINUTES_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the jobs of a type in a while.

    Attributes:
        failure_rate: of the jobs that completed or failed; None: there were none.
    """

    completed: int
    failed: int
    cancelled: int
    expired: int
    retried: int
    failure_rate: float | None
    run_p50: float | None
    run_p95: float | None
    run_mean: float | None
    wait_p50: float | None
    wait_p95: float | None
    runs: tuple[int, ...]
    waits: tuple[int, ...]

    @property
    def ended(self) -> int:
        """All of them."""
        return self.completed + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A type as a row of the list.

    Attributes:
        declared: None: no module that this process imported declares it, or does so any more.
        minutes: how many ended in each of the last 60 minutes.
    """

    name: str
    declared: JobType | None
    figures: Figures
    minutes: tuple[int, ...]

    @property
    def key(self) -> str:
        """Names hold anything; this holds only hex digits."""
        return hashlib.blake2b(self.name.encode(errors="replace"), digest_size=8).hexdigest()

    @property
    def place(self) -> str:
        """Its page."""
        return place_of(self.name)


@dataclass(frozen=True, slots=True)
class OneType:
    """A type and a range of its past."""

    name: str
    declared: JobType | None
    since: datetime
    steps: Sequence[Step]
    figures: Figures
    groups: Sequence[ShownGroup]


def place_of(name: str) -> str:
    """The page of a type."""
    return f"{FOLDER}/types/{quote(name, safe='')}"


def limits(context: Context) -> dict[str, LimitedType]:
    """The limits and breakers of types, by name, as they are now."""
    with context.database.autocommit() as connection:
        return {found.name: found for found in type_settings.all_limited(connection)}


def rows(context: Context) -> list[TypeRow]:
    """Every type that is declared or of which anything is known, by name, and its last hour."""
    declared = context.broker.job_types
    with one_moment(context.read_database) as connection:
        now = current_time(connection)
        since = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES_SHOWN - 1)
        counted = max(rollups.counted_up_to(connection, step_seconds=MINUTES.seconds) or since, since)
        hour = rollups.series_of_each(connection, Scope.TYPE, step_seconds=MINUTES.seconds, since=since)
        # What is not yet counted in minutes.
        lately = rollups.series_of_each(connection, Scope.TYPE, step_seconds=TENS.seconds, since=counted)
        known = rollups.names(connection, Scope.TYPE)
    names = sorted({*declared, *known, *hour, *lately, *limits(context)})
    return [
        _row(name, declared.get(name), [*hour.get(name, ()), *lately.get(name, ())], since)
        for name in names[: TYPES_SHOWN + 1]
    ]


def one(context: Context, name: str, wanted: TimeRange) -> OneType:
    """A type.

    Raises:
        TypeNotFoundError: it is not declared, and nothing is known of it.
    """
    declared = context.broker.job_types.get(name)
    if "\0" in name:
        raise TypeNotFoundError(name)
    with one_moment(context.read_database) as connection:
        since, _, steps = history.steps_of(connection, Scope.TYPE, name, wanted)
        known = bool(steps) or declared is not None or name in rollups.names(connection, Scope.TYPE)
        groups = failure_groups.shown(
            connection, FailureFilter(type=name), order="last_seen", limit=GROUPS_SHOWN
        )
    if not (known or groups or name in limits(context)):
        raise TypeNotFoundError(name)
    return OneType(name, declared, since, steps, figures_of(steps), groups)


def figures_of(steps: Sequence[Step]) -> Figures:
    """The figures of some steps together."""
    completed, failed = sum(step.completed for step in steps), sum(step.failed for step in steps)
    runs, waits = added(*[step.runs for step in steps]), added(*[step.waits for step in steps])
    return Figures(
        completed=completed,
        failed=failed,
        cancelled=sum(step.cancelled for step in steps),
        expired=sum(step.expired for step in steps),
        retried=sum(step.retried for step in steps),
        failure_rate=failed / (completed + failed) if completed + failed else None,
        run_p50=quantile(runs, 0.5),
        run_p95=quantile(runs, 0.95),
        run_mean=sum(step.run_seconds for step in steps) / sum(runs) if sum(runs) else None,
        wait_p50=quantile(waits, 0.5),
        wait_p95=quantile(waits, 0.95),
        runs=runs,
        waits=waits,
    )


def _row(name: str, declared: JobType | None, steps: Sequence[Step], since: datetime) -> TypeRow:
    minutes = [0] * MINUTES_SHOWN
    for step in steps:
        minute = int((step.starts_at - since).total_seconds() // MINUTES.seconds)
        if 0 <= minute < MINUTES_SHOWN:
            minutes[minute] += step.completed + step.failed + step.cancelled + step.expired
    return TypeRow(name, declared, figures_of(steps), tuple(minutes))
