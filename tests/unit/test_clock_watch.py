"""Which steps of clocks make silence nobody's fault."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.scheduler.clock_watch import ClockReading, ClockWatch

seconds = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("database", "monotonic", "boottime", "jump"),
    [
        pytest.param(1, 1, 1, 0, id="a round"),
        pytest.param(2, 2, 2, 0, id="the longest round"),
        pytest.param(121, 1, 1, 120, id="PostgreSQL's clock is set forward"),
        pytest.param(-119, 1, 1, 120, id="PostgreSQL's clock is set back"),
        pytest.param(26, 1, 26, 25, id="the machine slept, PostgreSQL elsewhere did not"),
        pytest.param(1, 1, 26, 25, id="the machine slept, and PostgreSQL's clock with it"),
        pytest.param(27, 27, 27, 25, id="everything was stopped"),
        pytest.param(2, 27, 27, 25, id="everything was stopped, and PostgreSQL's clock"),
        pytest.param(32, 27, 27, 25, id="everything was stopped, and the clock was set a little"),
    ],
)
def test_jumps(database: float, monotonic: float, boottime: float, jump: float) -> None:
    """A jump is what one clock went ahead of another, or what a round took too long."""
    watch = ClockWatch(2)
    assert watch.jump(ClockReading(1e9, 5e3, 6e3)) == 0
    after = ClockReading(1e9 + database, 5e3 + monotonic, 6e3 + boottime)
    assert watch.jump(after) == pytest.approx(jump)
    assert watch.jump(after) == 0


@given(start=seconds, steps=st.lists(st.floats(0, 2, allow_nan=False), max_size=20))
def test_clocks_that_go_together_never_jump(start: float, steps: list[float]) -> None:
    """However long it goes on, rounds of ordinary length add up to nothing."""
    watch = ClockWatch(2)
    for step in steps:
        start += step
        assert watch.jump(ClockReading(start + 1e9, start, start + 100)) == pytest.approx(0, abs=1e-3)


def test_a_reading_has_the_clocks_of_this_machine() -> None:
    """What PostgreSQL told goes with the monotonic clock, and with one that is never behind it."""
    before = time.monotonic()
    reading = ClockReading.now(datetime(2026, 1, 1, tzinfo=UTC))
    assert before <= reading.monotonic <= time.monotonic()
    assert reading.boottime >= reading.monotonic - 1
    assert reading.database == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
