"""What becomes of a queue at its present rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.insight.forecast import Course, Forecast, forecast

rates = st.floats(0, 1e5)


@pytest.mark.parametrize(
    ("ready", "ends", "arrivals", "expected"),
    [
        (0, 0, 0, Forecast(Course.IDLE)),
        (0, 5, 5, Forecast(Course.KEEPS_UP)),
        (600, 3, 1, Forecast(Course.EMPTIES, 300)),
        (123_456, 100, 0, Forecast(Course.EMPTIES, 1200)),
        (1, 1000, 2000, Forecast(Course.KEEPS_UP)),
        (600, 3, 3, Forecast(Course.GROWS)),
        (600, 3, 9, Forecast(Course.GROWS)),
        (10**9, 1, 0, Forecast(Course.GROWS)),
        (600, 0, 0, Forecast(Course.STANDS)),
    ],
    ids=["idle", "keeps up", "empties", "rounded", "at once", "even", "grows", "never", "stands"],
)
def test_a_queue_goes_where_its_rates_lead(
    ready: int, ends: float, arrivals: float, expected: Forecast
) -> None:
    """It empties when more ends than comes, and it is said when it does not."""
    assert forecast(ready, ends_per_second=ends, arrivals_per_second=arrivals) == expected


@pytest.mark.parametrize("held_by", [Course.PAUSED, Course.SLOWED_DOWN, Course.BREAKER, Course.KEYS])
def test_a_queue_of_which_nothing_starts_does_not_empty(held_by: Course) -> None:
    """While none of the next jobs may start there is no forecast, whatever ended before."""
    for ready, ends in ((5, 3), (1, 1000), (600, 0)):
        assert forecast(ready, ends_per_second=ends, arrivals_per_second=0, held_by=held_by) == Forecast(
            held_by
        )


def test_a_queue_whose_jobs_run_is_not_idle() -> None:
    """Where nothing waits and nothing has ended, what runs is told."""
    found = forecast(0, ends_per_second=0, arrivals_per_second=0, running=3)
    assert found == Forecast(Course.WORKS)


@given(st.integers(0, 10**7), rates, rates)
def test_there_is_a_time_exactly_if_it_empties(ready: int, ends: float, arrivals: float) -> None:
    """Whatever the rates are, a time is told with the course that has one, and it is positive."""
    found = forecast(ready, ends_per_second=ends, arrivals_per_second=arrivals)
    assert (found.seconds is not None) == (found.course is Course.EMPTIES)
    assert found.seconds is None or found.seconds >= 10
