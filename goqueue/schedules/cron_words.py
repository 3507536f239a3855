"""Cron lines in plain words: "at 02:30 on Monday to Friday, Europe/Berlin". Pure.

Lines that mean different times have different words; the times are those of the line, clock changes aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from cronsim import CronSim

from goqueue.schedules.cron_expression import FORMS, CronExpression

__all__ = ["cron_words"]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# fmt: off
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)
# fmt: on
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", CronSim.LAST: "last"}
_ENDINGS = {2: "2nd", 3: "3rd"}

_MINUTES = 60
_HOURS = 24
_DAYS = 31

#: So many times of a day are told one by one, and so many parts of a list.
MOST_TIMES = 6
MOST_PARTS = 8
MOST_DATES = 4

#: From so many on, neighbours are told as "from to", and equal distances as a step.
SHORTEST_RUN = 3


class _Line(NamedTuple):
    """What a line names.

    Attributes:
        days: of the month, in order; the last one and the last weekday are cronsim's negative numbers.
        weekdays: 0 is Monday.
        nth_weekdays: (nth of the month or `CronSim.LAST`, weekday), in order.
        both: a day has to fit days and weekdays, else either.
    """

    minutes: list[int]
    hours: list[int]
    days: list[int]
    months: list[int]
    weekdays: list[int]
    nth_weekdays: list[tuple[int, int]]
    both: bool

    @property
    def every_day(self) -> bool:
        """Whether days of month and week leave none out."""
        full = (self.any_day, self.any_weekday)
        return all(full) if self.both else any(full)

    @property
    def any_day(self) -> bool:
        """Whether every day of the month is named."""
        return sum(day > 0 for day in self.days) == _DAYS

    @property
    def any_weekday(self) -> bool:
        """Whether every day of the week is named."""
        return len(self.weekdays) == len(WEEKDAYS)


def cron_words(cron: str, zone: str = "UTC") -> str:
    """A cron line in words, with its time zone; where there are no good ones, its fields one by one.

    Raises:
        ValueError: it is no cron line, or no zone.
    """
    CronExpression(cron, zone)
    line = _read(FORMS.get(cron.strip().lower(), cron))
    times, days = _times(line), _days(line)
    said = _fields(line) if times is None or days is None else f"{times} {days}".strip()
    return f"{said}, {zone}"


def _read(cron: str) -> _Line:
    found = CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
    weekdays = found.weekdays
    return _Line(
        minutes=sorted(found.minutes),
        hours=sorted(found.hours),
        days=sorted(found.days, key=lambda day: (day < 0, abs(day))),
        months=sorted(found.months),
        weekdays=sorted({(day - 1) % 7 for day in weekdays if isinstance(day, int)}),
        nth_weekdays=sorted(
            {(day[1], (day[0] - 1) % 7) for day in weekdays if isinstance(day, tuple)},
            key=lambda one: (one[0] < 0, one),
        ),
        both=bool(found.day_and),
    )


# Times of the day


def _times(line: _Line) -> str | None:
    minutes, hours = line.minutes, line.hours
    if len(minutes) * len(hours) <= MOST_TIMES:
        return f"at {_listed(_clock(hour, minute) for hour in hours for minute in minutes)}"
    if len(minutes) == 1:
        return _once_an_hour(minutes[0], hours)
    step = _step(minutes)
    if step is not None and len(minutes) * step == _MINUTES:
        return _often(_every_minutes(step), line)
    if step is not None and len(hours) == 1:
        first, last = _clock(hours[0], minutes[0]), _clock(hours[0], minutes[-1])
        return f"{_every_minutes(step)} from {first} to {last}"
    return _minutes_of_hours(minutes, hours, step)


def _minutes_of_hours(minutes: list[int], hours: list[int], step: int | None) -> str | None:
    told, where = _parts(minutes), _hours_of(hours)
    if where is None:
        return None
    if step is not None and step > 1 and len(minutes) > SHORTEST_RUN and minutes[-1] + step >= _MINUTES:
        return f"{_every_minutes(step)} from minute {minutes[0]} of {where}"
    return f"at minutes {_listed(told)} of {where}" if len(told) <= MOST_PARTS else None


def _every_minutes(step: int) -> str:
    return f"every {step} minutes" if step > 1 else "every minute"


def _once_an_hour(minute: int, hours: list[int]) -> str | None:
    if len(hours) == _HOURS:
        return f"at minute {minute} of every hour" if minute else "every hour on the hour"
    first, last = _clock(hours[0], minute), _clock(hours[-1], minute)
    step = _step(hours)
    if step is None:
        where = _hours_of(hours)
        return None if where is None else f"at minute {minute} of {where}"
    every = "every hour" if step == 1 else f"every {step} hours"
    # Around midnight the distance is the same: it needs no end.
    return f"{every} from {first}" + ("" if len(hours) * step == _HOURS else f" to {last}")


def _often(every: str, line: _Line) -> str | None:
    """Equal distances that go on from hour to hour."""
    minutes, hours = line.minutes, line.hours
    if len(hours) == _HOURS:
        return f"{every} from minute {minutes[0]} of the hour" if minutes[0] else every
    if _step(hours) == 1 or len(hours) == 1:
        return f"{every} from {_clock(hours[0], minutes[0])} to {_clock(hours[-1], minutes[-1])}"
    where = _hours_of(hours)
    if where is None:
        return None
    return f"{every} from minute {minutes[0]} of {where}" if minutes[0] else f"{every} of {where}"


def _hours_of(hours: list[int]) -> str | None:
    if len(hours) == _HOURS:
        return "every hour"
    told = _parts(hours)
    if len(told) > MOST_PARTS:
        return None
    return f"hour {hours[0]}" if len(hours) == 1 else f"the hours {_listed(told)}"


def _clock(hour: int, minute: int) -> str:
    return f"{hour:02}:{minute:02}"


# Days


def _days(line: _Line) -> str | None:
    """The days and months; nothing, where it is every one and the times tell so."""
    days, weekdays = _days_of_month(line), _days_of_week(line)
    if days is None:
        return None
    if line.every_day:
        said = "every day" if _is_short(line) else ""
        return f"{said} {_in_months(line)}".strip()
    if line.any_weekday:
        return _dates(line) or f"on {days} of {_month_of(line)}"
    if line.any_day:
        return f"on {weekdays} {_in_months(line)}".strip()
    joint = f"where that is {_days_of_week(line, 'or')}," if line.both else f"and on {weekdays}"
    comma = "," if line.both else ""
    return f"on {days} of the month{comma} {joint} {_in_months(line)}".strip().rstrip(",")


def _is_short(line: _Line) -> bool:
    return len(line.minutes) * len(line.hours) <= MOST_TIMES


def _dates(line: _Line) -> str | None:
    """A few days of a month, or a day of a few months, as dates."""
    days, months = line.days, line.months
    if min(days) < 0 or len(months) == len(MONTHS) or len(days) * len(months) > MOST_DATES:
        return None
    if len(days) > 1 and len(months) > 1:
        return None
    return f"on {_listed(f'{day} {MONTHS[month - 1]}' for month in months for day in days)}"


def _days_of_month(line: _Line) -> str | None:
    numbers = [day for day in line.days if day > 0]
    step = _step(numbers)
    told: list[str] = []
    if step is not None and step > 1 and len(numbers) > SHORTEST_RUN and numbers[-1] + step > _DAYS:
        told.append(f"every {_ENDINGS.get(step, f'{step}th')} day from day {numbers[0]}")
    elif numbers:
        parts = _parts(numbers)
        if len(parts) > MOST_PARTS:
            return None
        told.append(f"day{'s' if len(numbers) > 1 else ''} {_listed(parts)}")
    told += ["the last day"] * (CronSim.LAST in line.days)
    told += ["the last weekday"] * (CronSim.LAST_WEEKDAY in line.days)
    return _listed(told)


def _days_of_week(line: _Line, conjunction: str = "and") -> str:
    nth = [f"the {_ORDINALS[nth]} {WEEKDAYS[day]} of the month" for nth, day in line.nth_weekdays]
    start = next((day for day in line.weekdays if (day - 1) % 7 not in line.weekdays), 0)
    around = [day % 7 for day in range(start, start + len(line.weekdays))]
    if len(around) >= SHORTEST_RUN and sorted(around) == line.weekdays:
        named = [f"{WEEKDAYS[around[0]]} to {WEEKDAYS[around[-1]]}"]
    else:
        named = _parts(line.weekdays, WEEKDAYS)
    return _listed([*named, *nth], conjunction)


def _in_months(line: _Line) -> str:
    if len(line.months) == len(MONTHS):
        return ""
    told = _parts([month - 1 for month in line.months], MONTHS)
    return f"in {_listed(told)}"


def _month_of(line: _Line) -> str:
    if len(line.months) == 1:
        return MONTHS[line.months[0] - 1]
    return f"the month {_in_months(line)}".strip()


# Fields and lists


def _fields(line: _Line) -> str:
    """Every field that leaves something out."""
    months = _parts([month - 1 for month in line.months], MONTHS)
    numbers = [day for day in line.days if day > 0]
    days = _parts(numbers) + ["the last"] * (CronSim.LAST in line.days)
    days += ["the last weekday"] * (CronSim.LAST_WEEKDAY in line.days)
    told = [f"minutes {_listed(_parts(line.minutes))}", f"hours {_listed(_parts(line.hours))}"]
    if not line.every_day:
        of_month, of_week = f"days of the month {_listed(days)}", f"weekdays {_days_of_week(line)}"
        if line.any_weekday:
            told.append(of_month)
        elif line.any_day:
            told.append(of_week)
        else:
            told.append(f"{of_month} {'and' if line.both else 'or'} {of_week}")
    if len(line.months) < len(MONTHS):
        told.append(f"months {_listed(months)}")
    return "; ".join(told)


def _step(values: Sequence[int]) -> int | None:
    """The distance between neighbours, where it is always the same."""
    distances = {after - before for before, after in pairwise(values)}
    return distances.pop() if len(distances) == 1 else None


def _parts(values: Sequence[int], names: Sequence[str] | None = None) -> list[str]:
    """Values by name, neighbours joined."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    told: list[str] = []
    for run in runs:
        named = [str(value) if names is None else names[value] for value in run]
        told += named if len(run) < SHORTEST_RUN else [f"{named[0]} to {named[-1]}"]
    return told


def _listed(values: Iterable[str], conjunction: str = "and") -> str:
    """As a sentence has them: "1, 2 and 5"."""
    *others, last = values
    return f"{', '.join(others)} {conjunction} {last}" if others else last
