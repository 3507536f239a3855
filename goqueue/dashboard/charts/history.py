"""The past as charts and tables show it: counted steps, put together to points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast, get_args

import falcon

from goqueue.dashboard.page import Site
from goqueue.db.database import Connection
from goqueue.db.statements import current_time
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.histograms import added, quantile
from goqueue.insight.ranges import DEFAULT_RANGE, RANGES, TimeRange, moment_before
from goqueue.insight.rollup_rows import RollupScope, Step

__all__ = [
    "ChartName",
    "History",
    "Point",
    "chart",
    "chart_of",
    "ended_per_second",
    "history_of",
    "range_of",
    "steps_of",
]

ChartName = Literal["throughput", "wait", "run"]

_HOUR = 3600
_MINUTE = 60

MEDIAN, NEARLY_ALL = 0.5, 0.95

#: A reading is good for no longer, however long the steps are: those of hours end with minutes.
GOOD_FOR_SECONDS = 20.0

#: A table of a range has no more rows.
ROWS_MAX = 30


@dataclass(frozen=True, slots=True)
class Point:
    """The rates of what ended in a while, a second, and how long that had waited and run.

    Attributes:
        seconds: how long the while is; the last one may still go on.
    """

    starts_at: datetime
    seconds: float
    completed: float
    failed: float
    retried: float
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None

    @property
    def has_any(self) -> bool:
        """Tell whether anything ended in it."""
        return bool(self.completed or self.failed or self.retried) or self.wait_p50 is not None


@dataclass(frozen=True, slots=True)
class History:
    """A range of time that ends with what was counted last.

    Attributes:
        points: as finely as a chart shows it; rows: as coarsely as a table does, the newest first, without
            those in which nothing ended.
        row_seconds: how long a row is.
        total: everything in it as one step; None: nothing ended.
    """

    since: datetime
    until: datetime
    points: list[Point]
    rows: list[Point]
    row_seconds: int
    total: Step | None


def range_of(request: falcon.Request) -> TimeRange:
    """Return the range of time that a page is asked for.

    Raises:
        falcon.HTTPInvalidParam: there is no such range.
    """
    name = request.get_param("range", default=DEFAULT_RANGE)
    if name not in RANGES:
        raise falcon.HTTPInvalidParam(f"expected one of {', '.join(RANGES)}", "range")
    return RANGES[name]


def chart_of(request: falcon.Request) -> ChartName:
    """Return the name of the chart that is asked for.

    Raises:
        falcon.HTTPInvalidParam: there is no such chart.
    """
    name = request.get_param("chart", default="throughput")
    if name not in get_args(ChartName):
        raise falcon.HTTPInvalidParam(f"expected one of {', '.join(get_args(ChartName))}", "chart")
    return cast("ChartName", name)


def history_of(site: Site, scope: RollupScope, name: str, wanted: TimeRange) -> History:
    """Read the past of a queue, a type, or (with the name '') the service, once for all browsers."""

    def ask() -> History:
        with site.goqueue.read_database.autocommit() as connection:
            return _read(connection, scope, name, wanted)

    # Half of the time in which another step is counted.
    good_for_seconds = min(wanted.step_seconds / 2, GOOD_FOR_SECONDS)
    return site.shared.get(("history", scope, name, wanted.name), ask, good_for_seconds=good_for_seconds)


def steps_of(
    connection: Connection, scope: RollupScope, name: str, wanted: TimeRange
) -> tuple[datetime, datetime, list[Step]]:
    """Read a range: when it begins, up to when it is counted, and its steps."""
    since = moment_before(current_time(connection), wanted)
    until = rollups.counted_up_to(connection, step_seconds=wanted.step_seconds) or since
    steps = rollups.series(connection, scope, name, step_seconds=wanted.step_seconds, since=since)
    if wanted.step_seconds == _HOUR:
        # The hour that goes on is there in minutes.
        fine_since = max(since, until)
        steps += rollups.series(connection, scope, name, step_seconds=_MINUTE, since=fine_since)
        until = rollups.counted_up_to(connection, step_seconds=_MINUTE) or until
    return since, max(until, since), steps


def _points_of(steps: Iterable[Step], wanted: TimeRange, since: datetime, until: datetime) -> list[Point]:
    """Points of the same length, one after the other, also where nothing ended."""
    length = timedelta(seconds=wanted.point_seconds)
    parts: dict[datetime, list[Step]] = {}
    for step in steps:
        parts.setdefault(since + (step.starts_at - since) // length * length, []).append(step)
    points, starts_at = [], since
    while starts_at < until:
        seconds = min(length, until - starts_at).total_seconds()
        points.append(_point(starts_at, seconds, parts.get(starts_at, [])))
        starts_at += length
    return points


def chart(history: History, name: ChartName) -> dict[str, Any]:
    """Return the document that a chart is drawn from."""
    points = history.points
    if name == "throughput":
        series = [
            {"name": "completed", "colour": "good", "values": [point.completed for point in points]},
            {"name": "failed", "colour": "bad", "values": [point.failed for point in points]},
            {"name": "retried", "colour": "warn", "values": [point.retried for point in points]},
        ]
    else:
        halves, most = (
            [getattr(point, f"{name}_{quantile_}") for point in points] for quantile_ in ("p50", "p95")
        )
        series = [
            {"name": "p50", "colour": "info", "values": halves},
            {"name": "p95", "colour": "rare", "values": most},
        ]
    return {
        "x": [int(point.starts_at.timestamp()) for point in points],
        "series": series,
        "from": int(history.since.timestamp()),
        "to": int(history.until.timestamp()),
    }


def ended_per_second(steps: list[Step], since: datetime, until: datetime) -> float:
    """Return how many jobs ended a second, from the first step since then in which one did."""
    lately = [step for step in steps if step.starts_at >= since]
    if not lately:
        return 0.0
    ended = sum(step.completed + step.failed + step.cancelled + step.expired for step in lately)
    return ended / max((until - lately[0].starts_at).total_seconds(), 1.0)


def _read(connection: Connection, scope: RollupScope, name: str, wanted: TimeRange) -> History:
    since, until, steps = steps_of(connection, scope, name, wanted)
    total = _sum(since, steps) if steps else None
    points = _points_of(steps, wanted, since, until)
    coarse = replace(wanted, steps_in_point=wanted.steps_in_point * max(1, -(-len(points) // ROWS_MAX)))
    rows = [point for point in reversed(_points_of(steps, coarse, since, until)) if point.has_any]
    return History(since, until, points, rows, coarse.point_seconds, total)


def _point(starts_at: datetime, seconds: float, steps: list[Step]) -> Point:
    total = _sum(starts_at, steps)
    return Point(
        starts_at=starts_at.astimezone(UTC),
        seconds=seconds,
        completed=round(total.completed / seconds, 4),
        failed=round(total.failed / seconds, 4),
        retried=round(total.retried / seconds, 4),
        wait_p50=quantile(total.waits, MEDIAN),
        wait_p95=quantile(total.waits, NEARLY_ALL),
        run_p50=quantile(total.runs, MEDIAN),
        run_p95=quantile(total.runs, NEARLY_ALL),
    )


def _sum(starts_at: datetime, steps: Sequence[Step]) -> Step:
    return Step(
        starts_at=starts_at,
        completed=sum(step.completed for step in steps),
        failed=sum(step.failed for step in steps),
        cancelled=sum(step.cancelled for step in steps),
        expired=sum(step.expired for step in steps),
        retried=sum(step.retried for step in steps),
        waits=added(*[step.waits for step in steps]),
        runs=added(*[step.runs for step in steps]),
        wait_seconds=sum(step.wait_seconds for step in steps),
        run_seconds=sum(step.run_seconds for step in steps),
    )
