"""The job types: how their jobs end and how long they run, and their circuit breakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

import falcon

from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.charts.duration_histogram import histogram_chart
from goqueue.dashboard.charts.duration_scatter import scatter_chart
from goqueue.dashboard.charts.history import steps_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site, one_moment
from goqueue.dashboard.parts.json_tree import tree
from goqueue.dashboard.parts.presentation import name_key
from goqueue.db.statements import current_time
from goqueue.engine.listing import payload_index_rows as payload_indexes
from goqueue.engine.listing.payload_index_rows import PayloadIndex
from goqueue.engine.options.job_type import JobType
from goqueue.errors import TypeNotFoundError
from goqueue.insight import failure_group_rows as failure_groups
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.failure_group_rows import ShownGroup
from goqueue.insight.failure_rows import FailureFilter
from goqueue.insight.histograms import added, quantile
from goqueue.insight.ranges import RANGES, TimeRange
from goqueue.insight.rollup_rows import RollupScope, Step
from goqueue.insight.rollup_steps import MINUTES, TENS
from goqueue.instance import GoQueue
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import BreakerState
from goqueue.limits.type_setting_rows import LimitedType
from goqueue.remote.declared_type_rows import DeclaredType

__all__ = ["TypePage", "TypesPage"]

TYPES_SHOWN = 300
GROUPS_SHOWN = 5

#: Minutes of the list, and of its sparklines.
MINUTES_SHOWN = 60

#: The range that a page of a type shows at first: enough for two populations to be seen.
FIRST_RANGE = "1h"

_STATES = {"open": BreakerState.OPEN, "close": BreakerState.CLOSED}


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of what became of the jobs of a type in a while.

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
        """The number of jobs that came to an end, in any way."""
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
        """The key that stands for the name in the ids of elements."""
        return name_key(self.name)

    @property
    def place(self) -> str:
        """The address of the page of the type."""
        return place_of(self.name)


@dataclass(frozen=True, slots=True)
class OneType:
    """A type with a range of its past.

    Attributes:
        row: of one that was declared from outside.
    """

    name: str
    declared: JobType | None
    row: DeclaredType | None
    since: datetime
    steps: Sequence[Step]
    figures: Figures
    groups: Sequence[ShownGroup]
    indexes: Sequence[PayloadIndex]


class TypesPage(Page):
    """The page with the list of types."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the list of types."""
        rows = self._site.shared.get("types", lambda: _rows(self._goqueue))
        self._renderer.page(
            request,
            response,
            "types.html",
            rows=rows[:TYPES_SHOWN],
            limits=_limits(self._goqueue),
            has_more=len(rows) > TYPES_SHOWN,
            shown=TYPES_SHOWN,
        )


class TypePage(Page):
    """The page of one type. Its name is the rest of the address: it may hold anything that can be printed."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._flow = site.goqueue.flow

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show the page of a type."""
        wanted = RANGES.get(request.get_param("range", default=FIRST_RANGE), RANGES[FIRST_RANGE])
        key = ("type", name, wanted.name)
        found = self._site.shared.get(key, lambda: _one(self._goqueue, name, wanted))
        figures = found.figures
        declared = found.declared
        self._renderer.page(
            request,
            response,
            "type.html",
            type=found,
            limited=_limits(self._goqueue).get(name),
            figures=figures,
            place=place_of(name),
            ranges=RANGES.values(),
            range=wanted,
            histogram=histogram_chart(figures.runs, mean_seconds=figures.run_mean or 0.0),
            scatter=scatter_chart(found.steps, found.since, wanted.seconds),
            schema=None if declared is None else tree(declared.schema.json_schema()),
        )

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Open or close the circuit breaker of the type."""
        action = form_of(request).get("action", "")
        state = _STATES.get(action)
        if state is None:
            raise falcon.HTTPBadRequest(description="expected an action: open or close")
        self._flow.move_breaker(name, state)
        done = (
            "open: no job of this type starts" if state is BreakerState.OPEN else "closed: jobs start again"
        )
        go_to(request, response, place_of(name), f"The circuit breaker of {name} is {done}.")


def place_of(name: str) -> str:
    """Return the address of the page of a type."""
    return f"{FOLDER}/types/{quote(name, safe='')}"


def _limits(goqueue: GoQueue) -> dict[str, LimitedType]:
    """The limits and breakers of types, by name, as they are now."""
    with goqueue.database.autocommit() as connection:
        return {found.name: found for found in type_settings.all_limited(connection)}


def _rows(goqueue: GoQueue) -> list[TypeRow]:
    """Every type that is declared or of which anything is known, by name, and its last hour."""
    declared = goqueue.types.all_types()
    with one_moment(goqueue.read_database) as connection:
        now = current_time(connection)
        since = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES_SHOWN - 1)
        counted = max(rollups.counted_up_to(connection, step_seconds=MINUTES.seconds) or since, since)
        hour = rollups.series_of_each(connection, RollupScope.TYPE, step_seconds=MINUTES.seconds, since=since)
        # What is not yet counted in minutes.
        lately = rollups.series_of_each(
            connection, RollupScope.TYPE, step_seconds=TENS.seconds, since=counted
        )
        known = rollups.names(connection, RollupScope.TYPE)
    names = sorted({*declared, *known, *hour, *lately, *_limits(goqueue)})
    return [
        _row(name, declared.get(name), [*hour.get(name, ()), *lately.get(name, ())], since)
        for name in names[: TYPES_SHOWN + 1]
    ]


def _one(goqueue: GoQueue, name: str, wanted: TimeRange) -> OneType:
    """A type.

    Raises:
        TypeNotFoundError: it is not declared, and nothing is known of it.
    """
    if "\0" in name:
        raise TypeNotFoundError(name)
    declared = goqueue.types.all_types().get(name)
    row = goqueue.types.declared(name) if declared is not None and declared.is_remote else None
    with one_moment(goqueue.read_database) as connection:
        since, _, steps = steps_of(connection, RollupScope.TYPE, name, wanted)
        known = bool(steps) or declared is not None or name in rollups.names(connection, RollupScope.TYPE)
        groups = failure_groups.shown(
            connection, FailureFilter(type=name), order="last_seen", limit=GROUPS_SHOWN
        )
        indexes = payload_indexes.all_of(connection, name)
    if not (known or groups or name in _limits(goqueue)):
        raise TypeNotFoundError(name)
    return OneType(name, declared, row, since, steps, _figures_of(steps), groups, indexes)


def _figures_of(steps: Sequence[Step]) -> Figures:
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
    return TypeRow(name, declared, _figures_of(steps), tuple(minutes))
