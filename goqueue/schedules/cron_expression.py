"""The moments at which a cron line fires in a time zone. Pure: no clock, no database.

The fields are read by cronsim. What the clock changes do to them is Debian cron's rule (`man cron`): a job at
a fixed time that is skipped fires right after the change, once; one whose time comes twice fires the first
time; a job with `*` in front of its minute or hour follows the clock. A change of more than three hours is a
correction: the new time is used at once. (cronsim's own iterator assumes changes of whole hours, and moves
what a skipped day held to the next.)
"""

from __future__ import annotations

import enum
import functools
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["CronExpression", "Fire", "Shift", "moments_of", "zone_of"]

FORMS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = 5
MAX_CHARACTERS = 200

#: A longer change of the clock is a correction, to which Debian cron does not apply its rules of DST.
LONGEST_SHIFT = timedelta(hours=3)
#: A line that does not fire for so long never does: the longest wait is for a fifth weekday in a February.
HORIZON = timedelta(days=50 * 366)
_LAST_YEAR = 9000
#: A minute-by-minute line is asked for the next minute, a yearly one for the next year.
_FIRST_SPAN = timedelta(hours=1)
_LONGEST_SPAN = timedelta(days=64)
_LONGEST_EMPTY_SPAN = timedelta(days=4 * 366)
_DAY = timedelta(days=1)
_EXPECTED = "expected five fields (minute hour day month weekday) or one of " + " ".join(FORMS)


class Shift(enum.StrEnum):
    """What a change of the clock did to a fire.

    moved: its time was skipped; it fires right after the change.
    first_of_two: its time comes twice; it fires the first time only.
    repeated: its time comes twice, it follows the clock, and this is the second time.
    """

    MOVED = "moved"
    FIRST_OF_TWO = "first_of_two"
    REPEATED = "repeated"


class Fire(NamedTuple):
    """A nominal time of a cron line.

    Attributes:
        at: in UTC.
        meant: the time on the wall that was skipped, where the fire was moved.
    """

    at: datetime
    shift: Shift | None = None
    meant: datetime | None = None


@functools.cache
def zone_of(name: str) -> ZoneInfo:
    """The time zone, by the data of the installed tzdata package: it is the same on every machine.

    Raises:
        ValueError: there is none of this name.
    """
    data = resources.files("tzdata")
    if name not in data.joinpath("zones").read_text().split():
        raise ValueError("expected an IANA time zone, for example Europe/Berlin or UTC")
    with data.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def moments_of(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first and the last moment at which a clock shows this time; of a skipped one, the change."""
    before, after = _offset(wall, zone, 0), _offset(wall, zone, 1)
    first, last = ((wall - offset).replace(tzinfo=UTC) for offset in (before, after))
    if after > before:
        change = _change(zone, last, first)
        return change, change
    return first, last


class CronExpression:
    """A cron line in a time zone.

    Args:
        text: five fields or one of `FORMS`; case does not matter.
        zone: the name of the zone that its times are meant in.

    Raises:
        ValueError: what was expected of the line or the zone.
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        self.zone = zone_of(zone)
        self._line = _parsed(text)
        minute, hour = self._line.parts[1:3]
        self._follows_clock = minute.startswith("*") or hour.startswith("*")
        # Where both have to fit, and no date is counted from the end, the other dates need no look.
        only_dates = self._line.day_and and min(self._line.days) > 0
        self._dates = frozenset(self._line.days) if only_dates else None
        self._times = [
            timedelta(hours=hour, minutes=minute)
            for hour in sorted(self._line.hours)
            for minute in sorted(self._line.minutes)
        ]

    def fires(self, after: datetime) -> Iterator[Fire]:
        """The fires later than a moment, in their order; it ends where none comes for fifty years."""
        start, span = after.astimezone(UTC), _FIRST_SPAN
        last = start
        while start - last < HORIZON and start.year < _LAST_YEAR:
            found = False
            for fire in self._between(start, start + span):
                last, found = fire.at, True
                yield fire
            start += span
            # Where nothing fires nothing piles up: a rare line is looked for in years at a time.
            span = min(4 * span, _LONGEST_SPAN if found else _LONGEST_EMPTY_SPAN)

    def _between(self, start: datetime, end: datetime) -> Iterator[Fire]:
        """The fires after `start`, up to `end`."""
        found: list[Fire] = []
        first_day = start.astimezone(self.zone).date() - _DAY
        last_day = end.astimezone(self.zone).date() + _DAY
        for day in self._days(first_day, last_day):
            found += self._of_day(day, start, end)
        # Several skipped times come to one moment; a regular fire there stands for them.
        found.sort(key=lambda fire: (fire.at, fire.shift is not None))
        last = start
        for fire in found:
            if last < fire.at <= end:
                last = fire.at
                yield fire

    def _days(self, first: date, last: date) -> Iterator[date]:
        """The days from `first` to `last` on which it fires; what it leaves out costs nothing."""
        for year in range(first.year, last.year + 1):
            for month in sorted(self._line.months):
                if (year, month) < (first.year, first.month) or (year, month) > (last.year, last.month):
                    continue
                for number in range(1, monthrange(year, month)[1] + 1):
                    if self._dates is not None and number not in self._dates:
                        continue
                    day = date(year, month, number)
                    if first <= day <= last and self._line.match_day(day):
                        yield day

    def _of_day(self, day: date, start: datetime, end: datetime) -> list[Fire]:
        """The fires of a day, at least those after `start` and up to `end`."""
        begin = datetime.combine(day, time())
        before, after = _offset(begin, self.zone, 0), _offset(begin + _DAY, self.zone, 1)
        if before == after:
            midnight = (begin - before).replace(tzinfo=UTC)
            first, last = (
                bisect_right(self._times, start - midnight),
                bisect_right(self._times, end - midnight),
            )
            return [Fire(midnight + since) for since in self._times[first:last]]
        return [fire for since in self._times for fire in self._at(begin + since)]

    def _at(self, wall: datetime) -> Iterator[Fire]:
        """The fires of one time on the wall, on a day whose clock changes."""
        before, after = _offset(wall, self.zone, 0), _offset(wall, self.zone, 1)
        special = not self._follows_clock and abs(after - before) <= LONGEST_SHIFT
        first, last = moments_of(wall, self.zone)
        if before == after:
            yield Fire(first)
        elif after > before:
            if special:
                yield Fire(first, Shift.MOVED, wall)
        elif special:
            yield Fire(first, Shift.FIRST_OF_TWO)
        else:
            yield Fire(first)
            yield Fire(last, Shift.REPEATED)


def _offset(wall: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    """The offset before (0) or after (1) the change that skips or repeats this time; else, the offset."""
    offset = wall.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None
    return offset


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The moment of the change that lies between two moments, to the second."""
    new = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == new:
            after = middle
        else:
            before = middle
    return after


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> CronSim:
    line = FORMS.get(text.strip().lower(), text)
    if len(text) > MAX_CHARACTERS or len(line.split()) != FIELDS or line.startswith("@"):
        raise ValueError(_EXPECTED)
    try:
        parsed = CronSim(line, datetime(2000, 1, 1, tzinfo=UTC))
        next(parsed)
    except (CronSimError, ValueError, AssertionError, TypeError) as error:
        raise ValueError(f"{_EXPECTED}: {str(error) or 'bad field'}") from None
    except StopIteration:
        raise ValueError("expected a line that fires: no day is like this one") from None
    return CronSim(line, datetime(2000, 1, 1, tzinfo=UTC))
