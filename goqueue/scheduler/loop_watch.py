"""The watch over the loops of a scheduler, whose liveness is judged by when each began its present step."""

from __future__ import annotations

import time
from dataclasses import dataclass

from goqueue.config.settings import Settings


@dataclass(frozen=True, slots=True)
class _Step:
    began_at: float
    rests: bool


class LoopWatch:
    """Knows the loops that run, by their names. Thread-safe: every step is one operation of a dict."""

    def __init__(self, settings: Settings) -> None:
        # A round may wait for a statement, and PostgreSQL ends that; a rest may be the longest of any role.
        self.round_seconds = settings.liveness_seconds + settings.database_statement_timeout_seconds
        rests = [seconds for name, seconds in settings if name.endswith("_interval_seconds")]
        self._rest_seconds = self.round_seconds + max(rests)
        self._steps: dict[str, _Step] = {}
        #: Since when each loop has failed, in every round.
        self._failing: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Note that the loop begins a round."""
        self._steps[name] = _Step(time.monotonic(), rests=False)

    def rest(self, name: str) -> None:
        """Note that the loop has ended a round, and waits."""
        self._steps[name] = _Step(time.monotonic(), rests=True)
        self._failing.pop(name, None)

    def fail(self, name: str) -> None:
        """Note that a round of the loop has failed, and not because a server does not answer."""
        self._failing.setdefault(name, time.monotonic())

    def postpone(self, name: str) -> None:
        """Note that a round was given up because a server does not answer: that is no fault of the loop."""
        self._failing.pop(name, None)

    def end(self, name: str) -> None:
        """Note that the loop has ended."""
        self._steps.pop(name, None)
        self._failing.pop(name, None)

    def seconds_since_step(self, name: str) -> float:
        """Tell how long a loop has been in its step, or has failed in every round; 0: there is none."""
        step = self._steps.get(name)
        if step is None:
            return 0.0
        now = time.monotonic()
        return max(now - step.began_at, now - self._failing.get(name, now))

    def stuck(self) -> list[str]:
        """Tell which loops hang, or fail in every round, each as a line."""
        return [*self.hanging(), *self._failing_for_long()]

    def hanging(self, grace_seconds: float = 0.0) -> list[str]:
        """Tell which loops hang, and have for so much longer than they may, each as a line."""
        now = time.monotonic()
        return [
            f"{name} has {'rested' if step.rests else 'been in one round'} for {now - step.began_at:.0f} s"
            for name, step in self._steps.copy().items()
            if now - step.began_at - grace_seconds
            > (self._rest_seconds if step.rests else self.round_seconds)
        ]

    def _failing_for_long(self) -> list[str]:
        now = time.monotonic()
        return [
            f"{name} has failed in every round for {now - since:.0f} s"
            for name, since in self._failing.copy().items()
            if now - since > self.round_seconds
        ]
