"""Cron lines in time zones, against a walker that does minute by minute what `man cron` says."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from goqueue.schedules.cron_expression import CronExpression, Shift, zone_of

MINUTE, DAY = 60, 86_400

#: A zone and the first of the two years in which it is looked at.
ZONES = {
    "Europe/Berlin": 2025,
    "America/New_York": 2025,
    "America/St_Johns": 2006,  # changes at 00:01: the repeated hour ends on the day after
    "America/Sao_Paulo": 2017,  # changes at midnight
    "America/Havana": 2025,  # changes at midnight, back into the same day
    "America/Nuuk": 2023,  # changes in the evening before, and of zone
    "Africa/Casablanca": 2025,  # four changes a year
    "Africa/Cairo": 2023,
    "Antarctica/Troll": 2025,  # a change of two hours
    "Australia/Lord_Howe": 2025,  # a change of half an hour
    "Pacific/Apia": 2011,  # has no 30 December 2011
    "Pacific/Chatham": 2025,  # changes at 02:45
}

LINES = [
    "0 0 * * *",
    "30 0 * * *",
    "15 1 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "45 23 * * *",
    "0,30 2 * * *",
    "5-20/5 0-3 * * *",
    "0 1,2,3 * * *",
    "*/20 2 * * *",
    "10 */2 * * *",
    "*/10 0-3 * 3-5,9-12 *",
    "7 * * * *",
    "30 23,0,1,2,3 29-31 * *",
    "0 2 * * sun",
    "30 2 1-7 * 7",
    "0 0 */2 * 1-5",
    "15,45 2 * mar,apr,oct,nov 0,6",
    "@hourly",
    "@weekly",
]

RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
NAMES = [
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
]
FORMS = {"@hourly": "0 * * * *", "@weekly": "0 0 * * 0"}


def field(text: str, number: int) -> set[int]:
    """The values that one field names."""
    for first, names in ((1, NAMES[0]), (0, NAMES[1])):
        for value, name in enumerate(names, first):
            text = text.replace(name, str(value))
    low, high = RANGES[number]
    values: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        start, _, end = (f"{low}-{high}" if span == "*" else span).partition("-")
        values |= set(range(int(start), int(end or start) + 1, int(step or 1)))
    return values


class Line:
    """A cron line, read with nothing of GoQueue."""

    def __init__(self, text: str) -> None:
        parts = FORMS.get(text, text).split()
        self.minutes, self.hours, self.days, self.months, self.weekdays = (
            field(part, number) for number, part in enumerate(parts)
        )
        self.wild = parts[0][0] == "*" or parts[1][0] == "*"
        self.both_days = parts[2][0] == "*" or parts[4][0] == "*"

    @functools.cache  # noqa: B019  (twenty lines, for the length of the tests)
    def day(self, day: date) -> bool:
        """Whether it fires at all on a day."""
        weekday = day.isoweekday()
        by_day, by_weekday = day.day in self.days, bool({weekday, weekday % 7} & self.weekdays)
        either = (by_day and by_weekday) if self.both_days else (by_day or by_weekday)
        return day.month in self.months and either

    def matches(self, wall: datetime) -> bool:
        """Whether it names this minute on the wall."""
        return wall.minute in self.minutes and wall.hour in self.hours and self.day(wall.date())


class Walk:
    """Two years of a zone, in UTC minutes; most days have no change and are only looked up.

    Attributes:
        plain: (midnight as a timestamp, date) of every day without a change in it or near it.
        changing: stretches of every minute around a change.
    """

    def __init__(self, name: str, year: int) -> None:
        self.zone = zone_of(name)
        self.start = int(datetime(year, 1, 1, 12, tzinfo=self.zone).timestamp())
        self.end = int(datetime(year + 2, 1, 1, 12, tzinfo=self.zone).timestamp())
        self.plain: list[tuple[int, date]] = []
        self.changing: list[list[Moment]] = []
        at = self.start
        while at < self.end:
            at = self._plain_day(at) or self._changing_days(at)

    def wall(self, at: int) -> datetime:
        """The time on the wall."""
        return datetime.fromtimestamp(at, self.zone).replace(tzinfo=None)

    def _plain_day(self, at: int) -> int | None:
        """From noon to noon: the clock shows a whole day more and has not changed for two days."""
        wall = self.wall(at)
        if not self._is_steady(at, wall):
            return None
        self.plain.append((at, wall.date()))
        return at + DAY

    def _changing_days(self, at: int) -> int:
        stretch: list[tuple[int, datetime]] = []
        while True:
            stretch += [(minute, self.wall(minute)) for minute in range(at, at + 12 * 3600, MINUTE)]
            at += 12 * 3600
            wall = self.wall(at)
            if wall.hour == 12 and wall.minute == 0 and self._is_steady(at, wall):
                break
            # Shifts of the offset move noon: go on in single minutes until it is noon again.
            while self.wall(at).hour != 12 or self.wall(at).minute:
                stretch.append((at, self.wall(at)))
                at += MINUTE
            if self._is_steady(at, self.wall(at)):
                break
        self.changing.append(list(as_cron_sees(stretch)))
        return at

    def _is_steady(self, at: int, wall: datetime) -> bool:
        return all(self.wall(at + n * 3600) == wall + timedelta(hours=n) for n in range(-13, 37))

    def fires(self, line: Line) -> list[int]:
        """The timestamps at which Debian's cron starts the line."""
        offsets = sorted(hour * 3600 + minute * MINUTE for hour in line.hours for minute in line.minutes)
        before, after = ([o for o in offsets if o < DAY // 2], [o for o in offsets if o >= DAY // 2])
        found: set[int] = set()
        for noon, day in self.plain:
            if line.day(day):
                found.update(noon - DAY // 2 + offset for offset in after)
            if line.day(day + timedelta(days=1)):
                found.update(noon + DAY // 2 + offset for offset in before)
        for stretch in self.changing:
            found |= debian(line, stretch)
        return sorted(found)


class Moment(NamedTuple):
    """A minute as cron sees it. It keeps a virtual time, which a change leaves ahead of the clock or behind.

    Attributes:
        skipped: times on the wall that there were not, right before it.
        wild_only: the clock went back and has not caught up: only lines that follow it are looked at.
    """

    at: int
    wall: datetime
    skipped: list[datetime]
    wild_only: bool


def as_cron_sees(stretch: list[tuple[int, datetime]]) -> Iterator[Moment]:
    """The minutes of a stretch, with Debian's three hours."""
    virtual = stretch[0][1] - timedelta(minutes=1)
    for at, wall in stretch:
        ahead = (wall - virtual) // timedelta(minutes=1)
        correction = abs(ahead) > 180
        skipped = [] if correction else [virtual + timedelta(minutes=n) for n in range(1, ahead)]
        yield Moment(at, wall, skipped, wild_only=ahead < 1 and not correction)
        if ahead >= 1 or correction:
            virtual = wall


def debian(line: Line, stretch: list[Moment]) -> set[int]:
    """When cron starts the line."""
    return {
        at
        for at, wall, skipped, wild_only in stretch
        if (line.matches(wall) and (line.wild or not wild_only))
        or (skipped and not line.wild and any(map(line.matches, skipped)))
    }


@functools.cache
def walk_of(name: str) -> Walk:
    """The two years of a zone."""
    return Walk(name, ZONES[name])


@pytest.mark.parametrize("name", ZONES)
def test_the_fires_are_those_of_debian_cron(name: str) -> None:
    """Twenty lines over two years fire exactly when a brute-force minute walker says."""
    walk = walk_of(name)
    assert walk.changing, "a zone without a change shows nothing"
    for text in LINES:
        expected = walk.fires(Line(text))
        begin = datetime.fromtimestamp(walk.start, UTC) - timedelta(seconds=1)
        fires = CronExpression(text, name).fires(begin)
        found = [int(f.at.timestamp()) for f in takewhile(lambda f: f.at.timestamp() < walk.end, fires)]
        assert found == expected, f"{text}: {difference(walk, found, expected)}"


def difference(walk: Walk, found: list[int], expected: list[int]) -> str:
    """The first times on the wall that differ."""
    apart = sorted(set(found) ^ set(expected))[:5]
    return ", ".join(f"{walk.wall(at)} {'extra' if at in set(found) else 'missing'}" for at in apart)


def fires_of(text: str, zone: str, after: str, count: int) -> list[tuple[str, Shift | None]]:
    """Times on the wall with their offsets and shifts."""
    expression = CronExpression(text, zone)
    fires = islice(expression.fires(datetime.fromisoformat(after).replace(tzinfo=UTC)), count)
    return [(fire.at.astimezone(expression.zone).isoformat(), fire.shift) for fire in fires]


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00",
            [("2026-03-29T03:00:00+02:00", Shift.MOVED), ("2026-03-30T02:30:00+02:00", None)],
            id="a skipped time",
        ),
        pytest.param(
            "0,30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00",
            [("2026-03-29T03:00:00+02:00", None), ("2026-03-29T03:30:00+02:00", None)],
            id="skipped times and a regular one are one",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00",
            [("2026-10-25T02:30:00+02:00", Shift.FIRST_OF_TWO), ("2026-10-26T02:30:00+01:00", None)],
            id="a repeated time",
        ),
        pytest.param(
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:10",
            [
                ("2026-10-25T02:30:00+02:00", None),
                ("2026-10-25T02:00:00+01:00", Shift.REPEATED),
                ("2026-10-25T02:30:00+01:00", Shift.REPEATED),
            ],
            id="a repeated time of a line that follows the clock",
        ),
        pytest.param(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00",
            [("2026-10-04T02:30:00+11:00", Shift.MOVED), ("2026-10-05T02:15:00+11:00", None)],
            id="a change of half an hour",
        ),
        pytest.param(
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00",
            [("2011-12-29T09:00:00-10:00", None), ("2011-12-31T09:00:00+14:00", None)],
            id="a day that never was",
        ),
        pytest.param(
            "0 0 29 2 *",
            "UTC",
            "2097-01-01T00:00",
            [("2104-02-29T00:00:00+00:00", None)],
            id="eight years without a leap day",
        ),
    ],
)
def test_shifts_are_marked(
    text: str, zone: str, after: str, expected: list[tuple[str, Shift | None]]
) -> None:
    """A fire that a change of the clock moved, halved or doubled says so."""
    assert fires_of(text, zone, after, len(expected)) == expected


def test_a_moved_fire_says_which_time_was_skipped() -> None:
    """`meant` is the time on the wall that there was not."""
    fire = next(CronExpression("30 2 * * *", "Europe/Berlin").fires(datetime(2026, 3, 28, 12, tzinfo=UTC)))
    assert fire.meant == datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001  (a time on the wall)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("* * * *", id="four fields"),
        pytest.param("* * * * * *", id="six fields"),
        pytest.param("60 * * * *", id="minute 60"),
        pytest.param("* 24 * * *", id="hour 24"),
        pytest.param("* * 0 * *", id="day 0"),
        pytest.param("* * * 13 *", id="month 13"),
        pytest.param("* * * * 8", id="weekday 8"),
        pytest.param("5-1 * * * *", id="a range backwards"),
        pytest.param("*/0 * * * *", id="steps of nothing"),
        pytest.param("1,,2 * * * *", id="an empty item"),
        pytest.param("* * * * moonday", id="no such day"),
        pytest.param("@reboot", id="not a time"),
        pytest.param("@every 5m", id="another dialect"),
        pytest.param("0 0 31 2 *", id="31 February"),
        pytest.param("0 0 */9 2 1#5", id="days that never fall together"),
        pytest.param("٣ * * * *", id="digits of another script"),
        pytest.param("9" * 5000 + " * * * *", id="five thousand digits"),
    ],
)
def test_a_wrong_line_is_refused(text: str) -> None:
    """A line that is none, or never fires, is a ValueError that says what was expected."""
    with pytest.raises(ValueError, match="expected"):
        CronExpression(text)


@given(st.text(alphabet="0123456789*/-,#@LWlw monsatjanfeb\t", max_size=40))
@hypothesis_settings(max_examples=300)
def test_any_text_is_a_line_or_refused(text: str) -> None:
    """Whatever the text, it is refused with a ValueError, or has a next fire."""
    try:
        expression = CronExpression(text)
    except ValueError:
        return
    assert next(expression.fires(datetime(2026, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    "name",
    ["", "Berlin", "europe/berlin", "../UTC", "/etc/passwd", "localtime", "Europe", "a\x00b", "x" * 300],
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    """Only names of the IANA database are zones, whatever lies on this machine's disk."""
    with pytest.raises(ValueError, match="expected an IANA time zone"):
        zone_of(name)


def test_every_zone_can_be_read() -> None:
    """Links and oddities included, every name that is accepted has data."""
    names = ["UTC", "Etc/GMT+12", "America/Argentina/Ushuaia", "EST5EDT"]
    assert [zone_of(name).key for name in names] == names
