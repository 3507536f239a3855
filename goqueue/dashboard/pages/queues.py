"""All queues: how much waits in each, how fast it goes, and pausing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import falcon

from goqueue.dashboard.charts.history import ended_per_second
from goqueue.dashboard.forms.queue import Blanks, limit_words
from goqueue.dashboard.page import Page, Site, one_moment
from goqueue.dashboard.parts.presentation import name_key
from goqueue.db.database import Connection
from goqueue.db.statements import current_time
from goqueue.errors import QueueNotFoundError
from goqueue.insight import overview_rows as overview
from goqueue.insight import queue_figure_rows as queue_figures
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.forecast import Course, Forecast, forecast
from goqueue.insight.overview_rows import COUNTED_UP_TO, QUEUES_SHOWN, QueueGlance
from goqueue.insight.queue_figure_rows import QueueCount, QueueCounts, QueueStanding
from goqueue.insight.rollup_rows import RollupScope, Step
from goqueue.insight.rollup_steps import MINUTES, TENS
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import BreakerState

__all__ = ["PAUSES", "QueueReader", "QueueView", "QueuesPage"]

#: How long a pause may be by a choice; "" is without an end.
PAUSES = (
    ("", "until somebody resumes it"),
    ("300", "for 5 minutes"),
    ("900", "for 15 minutes"),
    ("3600", "for an hour"),
    ("21600", "for 6 hours"),
    ("86400", "for a day"),
)

#: Ends are counted over so long for the outlook, as the overview does; completed ones over so long.
ENDS_SECONDS = 180
RATE_SECONDS = 60

#: A sparkline has so many steps of a minute.
SPARKLINE_STEPS = 60


@dataclass(frozen=True, slots=True)
class _Figures:
    """What is shown to everybody alike, and may be a little older.

    Attributes:
        minutes: how many completed in each of the last minutes that are counted.
    """

    glance: QueueGlance
    counts: QueueCounts
    ends_per_second: float
    completed_per_second: float
    minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as a row of the list.

    Attributes:
        tripped_types: declared types of it whose circuit breaker is not closed.
    """

    figures: _Figures
    standing: QueueStanding
    outlook: Forecast
    tripped_types: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the queue, as its jobs say it."""
        return self.figures.glance.name

    @property
    def key(self) -> str:
        """The key that stands for the name in the ids of elements."""
        return name_key(self.name)

    @property
    def glance(self) -> QueueGlance:
        """The counts of what waits in the queue."""
        return self.figures.glance

    @property
    def ready(self) -> QueueCount:
        """The number of jobs that could start now."""
        return QueueCount(self.glance.ready, self.glance.ready >= COUNTED_UP_TO)

    @property
    def ends_per_second(self) -> float:
        """The rate at which jobs come to an end."""
        return self.figures.ends_per_second


class QueueReader:
    """The reader of queues for pages. Figures are read once for many browsers; the standing, for each."""

    def __init__(self, site: Site) -> None:
        self._goqueue = site.goqueue
        self._shared = site.shared

    def all(self) -> tuple[list[QueueView], bool]:
        """Read queues by name, also declared ones that no job has used, and whether there may be more."""
        figures = self._shared.get("queues", self._read_all)
        return self._views(figures), len(figures) >= QUEUES_SHOWN

    def one(self, name: str) -> QueueView:
        """Read the queue of a name.

        Raises:
            QueueNotFoundError: there is none.
        """
        self.expect(name)
        (view,) = self._views(self._shared.get(("queue", name), lambda: self._read(name)))
        return view

    def expect(self, name: str) -> None:
        """Check that there is such a queue.

        Raises:
            QueueNotFoundError: there is none.
        """
        if not self._goqueue.queues.knows(name):
            raise QueueNotFoundError(name)

    def _views(self, figures: Sequence[_Figures]) -> list[QueueView]:
        with one_moment(self._goqueue.database) as connection:
            standing = queue_figures.standing_of_each(connection, [one.glance.name for one in figures])
            limits = type_settings.type_limits(connection)
        tripped = [
            name for name, one in limits.items() if one.breaker and one.state is not BreakerState.CLOSED
        ]
        return [
            _view(one, standing.get(name, QueueStanding()), self._of_queue(name, tripped))
            for one in figures
            for name in (one.glance.name,)
        ]

    def _of_queue(self, name: str, types: Sequence[str]) -> tuple[str, ...]:
        """Those of these types that are declared in a queue."""
        declared = self._goqueue.types.all_types()
        return tuple(one for one in types if one in declared and declared[one].queue == name)

    def _read_all(self) -> list[_Figures]:
        with one_moment(self._goqueue.read_database) as connection:
            glances = [one for one in overview.of_queues(connection) if one.name != QUARANTINE_QUEUE]
            if len(glances) < QUEUES_SHOWN:
                unused = self._goqueue.queues.declared() - {one.name for one in glances} - {QUARANTINE_QUEUE}
                glances += [_unused(name) for name in unused]
            return self._figures(connection, sorted(glances, key=lambda one: one.name))

    def _read(self, name: str) -> list[_Figures]:
        with one_moment(self._goqueue.read_database) as connection:
            glances = overview.of_queues(connection, name) or [_unused(name)]
            return self._figures(connection, glances, name)

    def _figures(
        self, connection: Connection, glances: Sequence[QueueGlance], only: str | None = None
    ) -> list[_Figures]:
        tens = _steps(connection, TENS.seconds, ENDS_SECONDS, only)
        minutes = _steps(connection, MINUTES.seconds, SPARKLINE_STEPS * MINUTES.seconds, only)
        counts = queue_figures.counts_of_each(
            connection,
            [one.name for one in glances],
            lease_seconds=self._goqueue.settings.lease_seconds,
        )
        return [
            _Figures(
                glance=glance,
                counts=counts[glance.name],
                ends_per_second=ended_per_second(
                    tens.of(glance.name), tens.until - timedelta(seconds=ENDS_SECONDS), tens.until
                ),
                completed_per_second=tens.completed(glance.name, RATE_SECONDS) / RATE_SECONDS,
                minutes=minutes.line(glance.name),
            )
            for glance in glances
        ]


class QueuesPage(Page):
    """The page with the queues, by name."""

    def __init__(self, site: Site, reader: QueueReader) -> None:
        super().__init__(site)
        self._reader = reader

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the list of queues."""
        views, has_more = self._reader.all()
        self._renderer.page(
            request,
            response,
            "queues.html",
            views=views,
            has_more=has_more,
            shown=QUEUES_SHOWN,
            counted_up_to=COUNTED_UP_TO,
            limit_words=limit_words,
            pauses=PAUSES,
            blank=Blanks(),
        )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The counted steps of queues, by name, up to a moment."""

    by_name: Mapping[str, list[Step]]
    until: datetime

    def of(self, name: str) -> list[Step]:
        """Return the steps of one queue."""
        return self.by_name.get(name, [])

    def completed(self, name: str, seconds: int) -> int:
        """Count jobs of a queue that completed in the last so many seconds that are counted."""
        since = self.until - timedelta(seconds=seconds)
        return sum(step.completed for step in self.of(name) if step.starts_at >= since)

    def line(self, name: str) -> tuple[int, ...]:
        """Return the completed jobs of each of the last minutes, 0 where there is no step."""
        found = {step.starts_at: step.completed for step in self.of(name)}
        first = self.until - timedelta(minutes=SPARKLINE_STEPS)
        return tuple(found.get(first + timedelta(minutes=number), 0) for number in range(SPARKLINE_STEPS))


def _steps(connection: Connection, step_seconds: int, back_seconds: int, name: str | None) -> _Steps:
    """Read steps of one queue, or of all, as far back as rates or sparklines look."""
    until = rollups.counted_up_to(connection, step_seconds=step_seconds) or current_time(connection)
    since = until - timedelta(seconds=back_seconds)
    if name is not None:
        steps = rollups.series(connection, RollupScope.QUEUE, name, step_seconds=step_seconds, since=since)
        return _Steps({name: steps}, until)
    of_each = rollups.series_of_each(
        connection, RollupScope.QUEUE, step_seconds=step_seconds, since=since, durations=False
    )
    return _Steps(of_each, until)


def _held_by(glance: QueueGlance, standing: QueueStanding) -> Course | None:
    """Why none of those that are next may start: by how it stands now, which is newer than its figures."""
    if standing.paused_at is not None:
        return Course.PAUSED
    return Course.SLOWED_DOWN if standing.throttled_until is not None else glance.held_by


def _unused(name: str) -> QueueGlance:
    return QueueGlance(name, False, False, 0, None, 0.0)  # noqa: FBT003  (the columns of a row)


def _view(figures: _Figures, standing: QueueStanding, tripped_types: tuple[str, ...]) -> QueueView:
    future = forecast(
        figures.glance.ready,
        ends_per_second=figures.ends_per_second,
        arrivals_per_second=figures.glance.arrivals_per_second,
        running=figures.counts.running.value,
        held_by=_held_by(figures.glance, standing),
    )
    return QueueView(figures, standing, future, tripped_types)
