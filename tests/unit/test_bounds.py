"""What is written can be read: the bounds of moments, durations, numbers and nested values."""

from __future__ import annotations

import enum
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.api.frame.answers import as_json
from goqueue.config.bounds import (
    FIRST_MOMENT,
    LAST_MOMENT,
    MAX_DEPTH,
    is_near,
    is_nested_deeper,
    is_number,
    problem_of_value,
    read_stored_json,
    readable,
)
from goqueue.config.settings import Settings, load_settings
from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import MAX_WAIT_SECONDS, ConfigurationError, InvalidJobError, RetryAfter, Snooze
from goqueue.jobs import MAX_DELAY_SECONDS
from goqueue.limits.flow_settings import PauseSettings, QueueSettings, validated
from goqueue.schedules.blackouts import DatedBlackout
from goqueue.schedules.settings import ScheduleSettings, windows_of

FAR = timedelta(seconds=MAX_DELAY_SECONDS + 1)
BAD_MOMENTS = [
    pytest.param(datetime(1, 1, 1, tzinfo=UTC), id="year one"),
    pytest.param(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="year 9999"),
    pytest.param(datetime.now(UTC) + FAR + timedelta(hours=1), id="more than ten years ahead"),
    pytest.param(datetime.now(UTC) - FAR, id="more than ten years ago"),
]
BAD_NUMBERS = [
    pytest.param(math.nan, id="NaN"),
    pytest.param(math.inf, id="infinity"),
    pytest.param(-math.inf, id="minus infinity"),
    pytest.param(1e308, id="the largest double"),
    pytest.param(1.7e12, id="epoch milliseconds"),
    pytest.param(10**400, id="no double at all"),
    pytest.param(-1, id="negative"),
    pytest.param("5", id="a text"),
    pytest.param(True, id="a boolean"),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


class Large(enum.IntEnum):
    """An integer that is no plain one."""

    NUMBER = 2**63 - 1


def nested(levels: int) -> Any:
    """A list in so many levels."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    """In how many levels a value is nested."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def test_the_longest_wait_is_the_longest_delay() -> None:
    """Handlers and clients have the same bound, which two layers say for themselves."""
    assert MAX_WAIT_SECONDS == MAX_DELAY_SECONDS


@pytest.mark.parametrize("name", ["available_at", "expires_at", "deadline_at"])
@pytest.mark.parametrize("moment", BAD_MOMENTS)
def test_a_moment_of_a_new_job_is_near(name: str, moment: datetime) -> None:
    """A moment further away than ten years is refused, and the error names the setting."""
    with pytest.raises(InvalidJobError) as raised:
        refuse_wrong({name: moment})  # type: ignore[misc]
    assert list(raised.value.fields) == [name]


def test_ten_years_are_near() -> None:
    """A second within the bound is accepted on both sides."""
    assert is_near(datetime.now(UTC) + timedelta(seconds=MAX_DELAY_SECONDS - 1))
    assert is_near(datetime.now(UTC) - timedelta(seconds=MAX_DELAY_SECONDS - 1))


@pytest.mark.parametrize("name", ["delay_seconds", "ttl_seconds", "deadline_seconds", "time_limit_seconds"])
@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_duration_of_a_new_job_is_bounded(name: str, value: Any) -> None:
    """What is no duration that PostgreSQL can add to a moment is refused by its name, whatever it is."""
    with pytest.raises(InvalidJobError) as raised:
        refuse_wrong({name: value})  # type: ignore[misc]
    assert list(raised.value.fields) == [name]


@pytest.mark.parametrize("name", ["window_seconds", "debounce_max_seconds"])
@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_window_of_uniqueness_is_bounded(name: str, value: Any) -> None:
    """Windows and maxima of debouncing are durations as well."""
    unique = Unique(**{"key": "a", "mode": "debounce", "debounce_max_seconds": 1, name: value})
    assert [field for field, _ in unique.problems()] == [f"unique.{name}"]


@pytest.mark.parametrize("moment", BAD_MOMENTS)
def test_the_end_of_a_pause_is_near(moment: datetime) -> None:
    """A pause until year 9999 is refused: with a ramp it would end after the last year of Python."""
    with pytest.raises(InvalidJobError) as raised:
        validated(PauseSettings, {"until": moment})
    assert list(raised.value.fields) == ["until"]


@pytest.mark.parametrize(
    ("model", "name"),
    [(PauseSettings, "seconds"), (QueueSettings, "ramp_seconds"), (QueueSettings, "slo_wait_seconds")],
)
@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_durations_of_queues_are_bounded(model: Any, name: str, value: Any) -> None:
    """Pauses, ramps and objectives take no duration that nobody can add to a moment."""
    with pytest.raises(InvalidJobError) as raised:
        validated(model, {name: value})
    assert list(raised.value.fields) == [name]


@pytest.mark.parametrize("moment", BAD_MOMENTS)
@pytest.mark.parametrize("name", ["from", "until"])
def test_blackouts_are_near(name: str, moment: datetime) -> None:
    """A dated blackout begins and ends within ten years of now."""
    window = {"from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z", name: moment.isoformat()}
    with pytest.raises(InvalidJobError) as raised:
        validated(ScheduleSettings, {"cron": "@daily", "blackouts": [window]})
    assert any(f"blackouts.0.{name}" in field for field in raised.value.fields)


def test_a_blackout_that_has_become_old_is_read() -> None:
    """What was near when it was accepted is read for as long as it is kept."""
    stored = [{"from": "1999-01-01T00:00:00Z", "until": "2000-01-01T00:00:00Z"}]
    assert windows_of(stored) == (
        DatedBlackout(datetime(1999, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)),
    )


@pytest.mark.parametrize("verdict", [Snooze, RetryAfter])
@pytest.mark.parametrize("value", [value for value in BAD_NUMBERS if value.id != "negative"])
def test_a_handler_cannot_ask_for_no_time(verdict: Any, value: Any) -> None:
    """A wait that is no number, or longer than ten years, is an error where it is made."""
    with pytest.raises((TypeError, ValueError)):
        verdict(value)


@pytest.mark.parametrize("verdict", [Snooze, RetryAfter])
def test_a_wait_that_has_passed_is_no_mistake(verdict: Any) -> None:
    """A `Retry-After` that was computed from a date may lie in the past by the time it is raised."""
    assert verdict(-3).seconds == -3


@given(st.integers() | st.floats())
def test_a_number_in_a_range_compares(value: float) -> None:
    """Numbers of any size are compared without an error, and what is accepted is in the range."""
    assert not is_number(value, 0, 10) or 0 <= value <= 10


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_read_can_be_computed_with(moment: datetime) -> None:
    """Whatever moment a row has, the nearest readable one is within the bounds, with room for ten years."""
    nearest = readable(moment)
    assert FIRST_MOMENT <= nearest <= LAST_MOMENT
    assert nearest - FAR < nearest + FAR
    assert nearest == moment or not FIRST_MOMENT <= moment < LAST_MOMENT


@given(JSON)
def test_the_depth_of_a_text_is_that_of_its_value(value: Any) -> None:
    """Levels are counted in the text as they are in the value, brackets in strings left out."""
    depth = depth_of(value)
    text = json.dumps(value).encode()
    assert not is_nested_deeper(text, depth)
    assert depth == 0 or is_nested_deeper(text, depth - 1)


@given(JSON)
def test_a_stored_value_is_read_as_it_is(value: Any) -> None:
    """What is within the bounds comes back unchanged."""
    text = orjson.dumps(value)
    assert orjson.dumps(read_stored_json(text)) == text


@pytest.mark.parametrize("levels", [101, 253, 1_000, 5_000, 100_000])
def test_whatever_is_stored_can_be_answered_with(levels: int) -> None:
    """A value of an older release, however deep, is read as one that every writer can write."""
    value = read_stored_json("[" * levels + "]" * levels)
    assert as_json([{"result": value}])
    assert depth_of(value) <= MAX_DEPTH


@pytest.mark.parametrize("text", ["1e400", '{"a": "\\ud800"}', "1" * 5_000, "[1e400, " + "9" * 20 + "]"])
def test_odd_json_is_read_without_an_error(text: str) -> None:
    """PostgreSQL keeps numbers and escapes that Python does not: reading and answering go on."""
    assert as_json({"result": read_stored_json(text)})


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        pytest.param(nested(MAX_DEPTH), None, id="the deepest"),
        pytest.param(nested(MAX_DEPTH + 1), "nested", id="one level more"),
        pytest.param({"[": "]" * 200 + "{" * 200}, None, id="brackets in texts"),
        pytest.param({"a": [2**63 - 1, -(2**63)]}, None, id="the largest integers"),
        pytest.param({"a": [{"b": 2**63}]}, "64 bits", id="one more"),
        pytest.param([-(2**63) - 1], "64 bits", id="one less"),
        pytest.param((2**200,), "64 bits", id="in a tuple"),
        pytest.param([Large.NUMBER], None, id="an enum"),
        pytest.param({"a": "1" * 30}, None, id="digits in a text"),
        pytest.param([0.1234567890123456789, 1e300], None, id="floats"),
    ],
)
def test_what_cannot_be_read_back_is_told(value: Any, wrong: str | None) -> None:
    """A result that readers would cut or round is named before it is kept."""
    problem = problem_of_value(value, json.dumps(value))
    assert problem is None if wrong is None else problem is not None and wrong in problem


@pytest.mark.parametrize("value", ["nan", "inf", "1e308", "1700000000000", "-1"])
@pytest.mark.parametrize(
    "name", [name for name in Settings.model_fields if name.endswith("_seconds") and name != "delay"]
)
def test_settings_are_bounded(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A setting that no timer or statement could hold is one clear line at the start."""
    monkeypatch.setenv(f"GOQUEUE_{name.upper()}", value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert any(problem.startswith(f"GOQUEUE_{name.upper()}: ") for problem in raised.value.problems)
