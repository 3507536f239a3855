"""The rules by which a circuit breaker opens and closes, from what was counted. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from goqueue.limits.settings import Breaker, BreakerState


@dataclass(frozen=True, slots=True)
class Tally:
    """The attempts that ended lately, of those that started since the breaker changed last.

    Attributes:
        completed, failed: in the window, while the breaker is closed; since its change, otherwise.
        seconds: how long ago it changed last.
    """

    completed: int = 0
    failed: int = 0
    seconds: float = 0.0


class BreakerChange(NamedTuple):
    """The state that a breaker changes to, and the reason."""

    state: BreakerState
    reason: str


def change_of(breaker: Breaker, state: BreakerState, tally: Tally) -> BreakerChange | None:
    """Return what a breaker in this state becomes by this tally; None while it stays."""
    if state is BreakerState.CLOSED:
        return _of_closed(breaker, tally)
    if state is BreakerState.OPEN:
        if tally.seconds < breaker.cooldown_seconds:
            return None
        return BreakerChange(
            BreakerState.HALF_OPEN, f"{breaker.cooldown_seconds:g} s have passed: {breaker.probes} probes"
        )
    return _of_half_open(breaker, tally)


def _of_closed(breaker: Breaker, tally: Tally) -> BreakerChange | None:
    ended = tally.completed + tally.failed
    if ended < breaker.minimum or tally.failed < breaker.failure_rate * ended:
        return None
    return BreakerChange(
        BreakerState.OPEN,
        f"{tally.failed} of {ended} attempts failed in {breaker.window_seconds:g} s: "
        f"{tally.failed / ended:.0%}, and it opens at {breaker.failure_rate:.0%}",
    )


def _of_half_open(breaker: Breaker, tally: Tally) -> BreakerChange | None:
    if tally.failed:
        return BreakerChange(BreakerState.OPEN, f"a probe failed, after {tally.completed} that completed")
    if tally.completed >= breaker.probes:
        return BreakerChange(BreakerState.CLOSED, "all probes completed")
    return None
