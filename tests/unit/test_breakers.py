"""When a circuit breaker opens and closes, from counts alone."""

from __future__ import annotations

import pytest

from goqueue.limits.breaker_rules import Tally, change_of
from goqueue.limits.settings import Breaker, BreakerState

BREAKER = Breaker(failure_rate=0.5, minimum=4, window_seconds=60, cooldown_seconds=30, probes=2)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


@pytest.mark.parametrize(
    ("state", "tally", "becomes"),
    [
        pytest.param(CLOSED, Tally(), None, id="closed, nothing ended"),
        pytest.param(CLOSED, Tally(failed=3), None, id="closed, all failed, too few"),
        pytest.param(CLOSED, Tally(completed=3, failed=2), None, id="closed, below the rate"),
        pytest.param(CLOSED, Tally(completed=2, failed=2), OPEN, id="closed, at the rate"),
        pytest.param(CLOSED, Tally(failed=4), OPEN, id="closed, all failed"),
        pytest.param(OPEN, Tally(seconds=29.9), None, id="open, in its cooldown"),
        pytest.param(OPEN, Tally(completed=9, seconds=29.9), None, id="open, whatever ends"),
        pytest.param(OPEN, Tally(seconds=30), HALF_OPEN, id="open, after its cooldown"),
        pytest.param(HALF_OPEN, Tally(seconds=9e9), None, id="half-open, no probe ended"),
        pytest.param(HALF_OPEN, Tally(completed=1), None, id="half-open, a probe is missing"),
        pytest.param(HALF_OPEN, Tally(completed=2), CLOSED, id="half-open, all completed"),
        pytest.param(HALF_OPEN, Tally(completed=2, failed=1), OPEN, id="half-open, one failed"),
    ],
)
def test_a_breaker_moves_by_what_ended(
    state: BreakerState, tally: Tally, becomes: BreakerState | None
) -> None:
    """Each state is left exactly when its counts say so."""
    change = change_of(BREAKER, state, tally)
    assert (change and change.state) == becomes


def test_the_reason_has_the_numbers() -> None:
    """Why it opened says how many of how many failed, in which time, and at what it opens."""
    change = change_of(BREAKER, CLOSED, Tally(completed=1, failed=3))
    assert change is not None
    assert change.reason == "3 of 4 attempts failed in 60 s: 75%, and it opens at 50%"


def test_a_whole_life() -> None:
    """With a clock that a test moves: it opens, probes once in vain, probes again, and closes."""
    seen = []
    state, since = CLOSED, 0.0
    events = [  # when, completed and failed since the last change
        (1.0, 0, 3), (2.0, 0, 4), (20.0, 0, 0), (32.0, 0, 0), (33.0, 1, 0), (34.0, 1, 1),
        (63.9, 0, 0), (64.0, 0, 0), (65.0, 2, 0), (66.0, 5, 1),
    ]  # fmt: skip
    for now, completed, failed in events:
        change = change_of(BREAKER, state, Tally(completed, failed, now - since))
        if change:
            state, since = change.state, now
            seen.append((now, state.value))
    assert seen == [
        (2.0, "open"),
        (32.0, "half_open"),
        (34.0, "open"),
        (64.0, "half_open"),
        (65.0, "closed"),
    ]
