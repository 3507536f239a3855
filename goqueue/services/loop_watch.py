"""When each loop of a scheduler began what it does now: what its liveness is judged by."""

from __future__ import annotations

import time
from dataclasses import dataclass

from goqueue.config import Settings


@dataclass(frozen=True, slots=True)
class _Step:
    began_at: float
    rests: bool


class LoopWatch:
    """Knows the loops that run, by their names. Thread-safe: every step is one operation of a dict."""

    def __init__(self, settings: Settings) -> None:
        # A round may wait for a statement, and PostgreSQL ends that; a rest may be as long as the longest.
        self._round_seconds = settings.liveness_seconds + settings.database_statement_timeout_seconds
        self._rest_seconds = self._round_seconds + settings.clean_interval_seconds
        self._steps: dict[str, _Step] = {}

    def begin(self, name: str) -> None:
        """The loop begins a round."""
        self._steps[name] = _Step(time.monotonic(), rests=False)

    def rest(self, name: str) -> None:
        """The loop has ended a round, and waits."""
        self._steps[name] = _Step(time.monotonic(), rests=True)

    def end(self, name: str) -> None:
        """The loop has ended."""
        self._steps.pop(name, None)

    def seconds_since_step(self, name: str) -> float:
        """For how long the loop has done what it does now; 0 when there is no such loop."""
        step = self._steps.get(name)
        return 0.0 if step is None else time.monotonic() - step.began_at

    def stuck(self, grace_seconds: float = 0.0) -> list[str]:
        """Which loops hang, and have for so long, each as a line."""
        now = time.monotonic()
        return [
            f"{name} has {'rested' if step.rests else 'been in one round'} for {now - step.began_at:.0f} s"
            for name, step in self._steps.copy().items()
            if now - step.began_at - grace_seconds
            > (self._rest_seconds if step.rests else self._round_seconds)
        ]
