"""Cron lines in plain words."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import assume, given
from hypothesis import strategies as st

from goqueue.schedules.cron_expression import FORMS, CronExpression
from goqueue.schedules.cron_words import cron_words

TABLE = {
    "* * * * *": "every minute",
    "*/5 * * * *": "every 5 minutes",
    "*/7 * * * *": "every 7 minutes from minute 0 of every hour",
    "5/10 * * * *": "every 10 minutes from minute 5 of the hour",
    "0,30 * * * *": "every 30 minutes",
    "5,20,50 * * * *": "at minutes 5, 20 and 50 of every hour",
    "15 * * * *": "at minute 15 of every hour",
    "@hourly": "every hour on the hour",
    "@daily": "at 00:00 every day",
    "@MIDNIGHT": "at 00:00 every day",
    "@weekly": "at 00:00 on Sunday",
    "@monthly": "at 00:00 on day 1 of the month",
    "@yearly": "at 00:00 on 1 January",
    "@annually": "at 00:00 on 1 January",
    "30 2 * * 1-5": "at 02:30 on Monday to Friday",
    "30 2 * * mon-fri": "at 02:30 on Monday to Friday",
    "0 9 * * MON": "at 09:00 on Monday",
    "0 9 * * 0": "at 09:00 on Sunday",
    "0 9 * * 7": "at 09:00 on Sunday",
    "0 9 * * sat,sun": "at 09:00 on Saturday and Sunday",
    "0 9 * * 0-4": "at 09:00 on Sunday to Thursday",
    "0 9 * * 1,3,5": "at 09:00 on Monday, Wednesday and Friday",
    "0 9,12,18 * * *": "at 09:00, 12:00 and 18:00 every day",
    "0 */2 * * *": "every 2 hours from 00:00",
    "5 1/2 * * *": "every 2 hours from 01:05",
    "0 */5 * * *": "at 00:00, 05:00, 10:00, 15:00 and 20:00 every day",
    "0 9-17 * * *": "every hour from 09:00 to 17:00",
    "0 0-6,12,18 * * *": "at minute 0 of the hours 0 to 6, 12 and 18",
    "*/15 9-17 * * 1-5": "every 15 minutes from 09:00 to 17:45 on Monday to Friday",
    "* 9-17 * * *": "every minute from 09:00 to 17:59",
    "*/5 2 * * *": "every 5 minutes from 02:00 to 02:55",
    "10-40/5 5 * * *": "every 5 minutes from 05:10 to 05:40",
    "0 8-18/2 * * *": "at 08:00, 10:00, 12:00, 14:00, 16:00 and 18:00 every day",
    "0 6-20/2 * * *": "every 2 hours from 06:00 to 20:00",
    "*/10 0,6,12 * * *": "every 10 minutes of the hours 0, 6 and 12",
    "5/10 0,6,12 * * *": "every 10 minutes from minute 5 of the hours 0, 6 and 12",
    "0 0 1,15 * *": "at 00:00 on days 1 and 15 of the month",
    "0 0 L * *": "at 00:00 on the last day of the month",
    "0 0 LW * *": "at 00:00 on the last weekday of the month",
    "0 0 1,L * *": "at 00:00 on day 1 and the last day of the month",
    "0 0 1-7 * *": "at 00:00 on days 1 to 7 of the month",
    "0 0 */3 * *": "at 00:00 on every 3rd day from day 1 of the month",
    "0 0 */2 * 1": "at 00:00 on every 2nd day from day 1 of the month, where that is Monday",
    "0 0 13 * 5": "at 00:00 on day 13 of the month and on Friday",
    "0 0 1-31 * 5": "at 00:00 every day",
    "0 0 * * 5L": "at 00:00 on the last Friday of the month",
    "0 0 * * 1#2": "at 00:00 on the second Monday of the month",
    "0 0 24,25 12 *": "at 00:00 on 24 December and 25 December",
    "0 0 1 */3 *": "at 00:00 on 1 January, 1 April, 1 July and 1 October",
    "0 0 L 2 *": "at 00:00 on the last day of February",
    "*/5 * * jun-aug *": "every 5 minutes in June to August",
    "0 0 * 3 *": "at 00:00 every day in March",
    "0 0 1-15 6-8 1-5": "at 00:00 on days 1 to 15 of the month and on Monday to Friday in June to August",
    "1,3,7,12,18,25,33,42,52,59 1,2,5 1,15 3 5": (
        "minutes 1, 3, 7, 12, 18, 25, 33, 42, 52 and 59; hours 1, 2 and 5; "
        "days of the month 1 and 15 or weekdays Friday; months March"
    ),
    "1,4 1,2,4,7,9,13,17,20,23 L * *": (
        "minutes 1 and 4; hours 1, 2, 4, 7, 9, 13, 17, 20 and 23; days of the month the last"
    ),
}


@pytest.mark.parametrize(("cron", "words"), TABLE.items(), ids=TABLE)
def test_lines_have_words(cron: str, words: str) -> None:
    """Each line is told as a person would tell it, with its zone."""
    assert cron_words(cron, "Europe/Berlin") == f"{words}, Europe/Berlin"


@pytest.mark.parametrize(
    ("cron", "zone"), [("0 0 31 2 *", "UTC"), ("@reboot", "UTC"), ("* * * * *", "Nowhere")]
)
def test_what_is_no_line_has_no_words(cron: str, zone: str) -> None:
    """A line that never fires, that is none, or of no zone is refused."""
    with pytest.raises(ValueError, match="expected"):
        cron_words(cron, zone)


def terms(low: int, high: int, *names: str) -> st.SearchStrategy[str]:
    """Fields of a line with values in a range."""
    values = st.integers(low, high)
    spans = st.tuples(values, values).map(lambda pair: "{}-{}".format(*sorted(pair)))
    single = values.map(str) | st.sampled_from(names) if names else values.map(str)
    starts = st.one_of(st.just("*"), spans, values.map(str))
    steps = st.tuples(starts, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.just("*") | st.lists(single | spans | steps, min_size=1, max_size=5).map(",".join)


FIELDS = (
    terms(0, 59),
    terms(0, 23),
    terms(1, 31, "L", "LW"),
    terms(1, 12, "JAN", "jul"),
    terms(0, 7, "MON", "sun", "5L", "1#2", "3#5"),
)
LINES = st.tuples(*FIELDS).map(" ".join) | st.sampled_from(sorted(FORMS))


def is_valid(cron: str) -> bool:
    """Whether a schedule may have this line."""
    try:
        CronExpression(cron)
    except ValueError:
        return False
    return True


def meaning(cron: str) -> tuple[frozenset[int], frozenset[int], frozenset[date]]:
    """The minutes, the hours and, of four years, the days that a line names."""
    line = CronSim(FORMS.get(cron, cron), datetime(2000, 1, 1, tzinfo=UTC))
    days = (date(2024, 1, 1) + timedelta(days=number) for number in range(4 * 366))
    named = (day for day in days if day.month in line.months and line.match_day(day))
    return frozenset(line.minutes), frozenset(line.hours), frozenset(named)


@given(LINES)
def test_every_line_has_words(cron: str) -> None:
    """Whatever line is valid has words: one sentence, with its zone."""
    assume(is_valid(cron))
    words = cron_words(cron, "UTC")
    assert words.isprintable()
    assert words.endswith(", UTC")
    assert "  " not in words


@given(LINES.filter(lambda cron: not cron.startswith("@")), st.integers(0, 4), st.data())
def test_lines_that_differ_have_different_words(cron: str, field: int, data: st.DataObject) -> None:
    """A line that fires at other times than its neighbour is told in other words."""
    parts = cron.split()
    parts[field] = data.draw(FIELDS[field])
    other = " ".join(parts)
    assume(is_valid(cron) and is_valid(other))
    assert (cron_words(cron) == cron_words(other)) <= (meaning(cron) == meaning(other))
