"""Times at which a schedule fires nothing. Pure: no clock, no database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from goqueue.schedules.cron_expression import moments_of

__all__ = ["WEEKDAYS", "Blackout", "DailyBlackout", "DatedBlackout", "end_of_blackout"]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: Windows that join to a longer chain than this never end: they cover the whole week.
LONGEST_CHAIN = 100

_DAY = timedelta(days=1)


class Blackout(Protocol):
    """A window of time in which nothing fires, once or again and again."""

    def end_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the end of the window that holds a moment; the end is no part of it. None: none does."""


@dataclass(frozen=True, slots=True)
class DailyBlackout:
    """A blackout from one time of day to another, in the schedule's zone.

    Attributes:
        start: since midnight, below a day.
        end: since midnight, up to a day; where it is not later than the start, it is on the next day.
        days: the weekdays on which it starts, 0 is Monday.
    """

    start: timedelta
    end: timedelta
    days: frozenset[int] = frozenset(range(7))

    def end_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the end of the window that holds a moment: both times, where it touches a repeated hour."""
        today = moment.astimezone(zone).date()
        for day in (today - _DAY, today, today + _DAY):
            if day.weekday() in self.days:
                start, end = self._of_day(day, zone)
                if start <= moment < end:
                    return end
        return None

    def _of_day(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        midnight = datetime.combine(day, time())
        end = self.end if self.end > self.start else self.end + _DAY
        return moments_of(midnight + self.start, zone)[0], moments_of(midnight + end, zone)[1]


@dataclass(frozen=True, slots=True)
class DatedBlackout:
    """A blackout from one moment until another."""

    start: datetime
    until: datetime

    def end_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:  # noqa: ARG002  (the protocol)
        """Return the end of the window if it holds the moment; None if it does not."""
        return self.until if self.start <= moment < self.until else None


def end_of_blackout(moment: datetime, windows: Sequence[Blackout], zone: ZoneInfo) -> datetime | None:
    """Return the first moment from this one on that no window holds; None: there is none."""
    for _ in range(LONGEST_CHAIN):
        end = _latest(window.end_after(moment, zone) for window in windows)
        if end is None:
            return moment
        moment = end
    return None


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
