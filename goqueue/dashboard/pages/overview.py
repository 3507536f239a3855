"""The service at a glance: what happens now, what happened, and what will."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import falcon

from goqueue.api.monitoring import Warnings
from goqueue.dashboard.charts.history import chart, chart_of, ended_per_second, history_of, range_of
from goqueue.dashboard.page import Page, Site, one_moment
from goqueue.dashboard.polls import is_poll
from goqueue.db.statements import current_time
from goqueue.insight import failure_group_rows as failure_groups
from goqueue.insight import overview_rows as overview
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.failure_group_rows import ShownGroup
from goqueue.insight.failure_rows import FailureFilter
from goqueue.insight.forecast import Course, Forecast, forecast
from goqueue.insight.overview_rows import COUNTED_UP_TO, QUEUES_SHOWN, QueueGlance, ServiceGlance
from goqueue.insight.ranges import RANGES
from goqueue.insight.rollup_rows import RollupScope, Step

__all__ = ["OverviewData", "OverviewPage", "RootPage"]

#: The rate at which a queue ends jobs is that of so long.
RATE_SECONDS = 180

#: The lines of the queues show so long, in so many points.
LINE_SECONDS = 900
LINE_POINTS = 30

#: So many groups of failures are shown.
GROUPS_SHOWN = 8

#: A browser asks for a chart every five seconds.
CHART_GOOD_FOR_SECONDS = 4.5

#: A roller that has counted nothing for so long is none.
COUNTED_WITHIN = timedelta(seconds=60)


class RootPage:
    """The resource of the bare address of the service."""

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Go to the dashboard."""
        raise falcon.HTTPFound("/dashboard")


@dataclass(frozen=True, slots=True)
class OverviewQueue:
    """A queue of the overview, with its forecast."""

    glance: QueueGlance
    ends_per_second: float
    outlook: Forecast
    line: list[float]


@dataclass(frozen=True, slots=True)
class Now:
    """The present of the service, as it is shown to everybody alike.

    Attributes:
        is_counted: a roller counts, so a scheduler runs.
    """

    service: ServiceGlance
    queues: list[OverviewQueue]
    groups: list[ShownGroup]
    is_counted: bool

    @property
    def ready(self) -> int:
        """The number of jobs that could start now."""
        return sum(queue.glance.ready for queue in self.queues)

    @property
    def oldest_at(self) -> datetime | None:
        """The moment since which the oldest of them could start."""
        moments = [queue.glance.oldest_at for queue in self.queues if queue.glance.oldest_at]
        return min(moments, default=None)


class OverviewPage(Page):
    """The page of the service at a glance."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._warnings = Warnings(self._goqueue.settings, self._goqueue.database)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the service at a glance."""
        wanted = range_of(request)
        now = self._site.shared.get("overview", self._read_now)
        self._renderer.page(
            request,
            response,
            "overview.html",
            now=now,
            service=now.service,
            range=wanted,
            ranges=RANGES.values(),
            history=history_of(self._site, RollupScope.SERVICE, "", wanted),
            is_poll=is_poll(request),
            warnings=self._warnings.known().get("warnings", []),
            counted_up_to=COUNTED_UP_TO,
            queues_shown=QUEUES_SHOWN,
            address=request.prefix,
        )

    def _read_now(self) -> Now:
        with one_moment(self._goqueue.read_database) as connection:
            lease_seconds = self._goqueue.settings.lease_seconds
            now = current_time(connection)
            service = overview.of_service(connection, lease_seconds=lease_seconds)
            glances = overview.of_queues(connection)
            up_to = rollups.counted_up_to(connection, step_seconds=10)
            since = now - timedelta(seconds=LINE_SECONDS)
            steps = rollups.series_of_each(
                connection, RollupScope.QUEUE, step_seconds=10, since=since, durations=False
            )
            lately = FailureFilter(since=now - timedelta(hours=1))
            groups = failure_groups.shown(connection, lately, order="count", limit=GROUPS_SHOWN)
        queues = [_view(glance, steps.get(glance.name, []), up_to or now) for glance in glances]
        return Now(service, queues, groups, up_to is not None and now - up_to < COUNTED_WITHIN)


class OverviewData(Page):
    """The documents that the charts of the overview are drawn from."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the document of one chart."""
        name, wanted = chart_of(request), range_of(request)
        document = self._site.shared.get(
            ("chart", name, wanted.name),
            lambda: chart(history_of(self._site, RollupScope.SERVICE, "", wanted), name),
            good_for_seconds=CHART_GOOD_FOR_SECONDS,
        )
        self._renderer.data(request, response, document)


def _view(glance: QueueGlance, steps: list[Step], up_to: datetime) -> OverviewQueue:
    rate = ended_per_second(steps, up_to - timedelta(seconds=RATE_SECONDS), up_to)
    future = forecast(
        glance.ready,
        ends_per_second=rate,
        arrivals_per_second=glance.arrivals_per_second,
        running=glance.running,
        held_by=_held_by(glance),
    )
    return OverviewQueue(glance, rate, future, _line(steps, up_to))


def _held_by(glance: QueueGlance) -> Course | None:
    if glance.is_paused:
        return Course.PAUSED
    return Course.SLOWED_DOWN if glance.is_closed else glance.held_by


def _line(steps: list[Step], up_to: datetime) -> list[float]:
    """How many jobs ended in each of the points that end now."""
    seconds = LINE_SECONDS / LINE_POINTS
    line = [0.0] * LINE_POINTS
    for step in steps:
        back = int(((up_to - step.starts_at).total_seconds() - 1) // seconds)
        if 0 <= back < LINE_POINTS:
            ended = step.completed + step.failed + step.cancelled + step.expired
            line[LINE_POINTS - 1 - back] += ended / seconds
    return line
