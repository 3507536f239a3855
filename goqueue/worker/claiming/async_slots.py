"""The slots of async jobs in one process: they hold no thread, and are counted beside the threads."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from goqueue.worker.claiming.gathering import Gathering, fit
from goqueue.worker.claiming.run_average import average_with

#: No more is claimed ahead of free slots: a loop begins about as many jobs in 25 ms.
AHEAD_MAX = 256

#: After a return nothing is claimed ahead for so long.
BACK_OFF_SECONDS = 0.5


class AsyncSlots:
    """The slots of async jobs. Not thread-safe: whoever owns them has a lock.

    Args:
        size: how many jobs may run at once.
        ahead_seconds: how much work may be claimed ahead of free slots.
        ahead_max: the most jobs claimed ahead.

    Attributes:
        held: slots that are taken, and jobs claimed ahead of them.
        is_closed: a job runs alone in this process: no other begins.
        is_stuck: the event loop does not turn: nothing begins.
    """

    def __init__(self, size: int, *, ahead_seconds: float = 0.0, ahead_max: int = 0) -> None:
        self.size = size
        self.held = 0
        self.is_closed = False
        self.is_stuck = False
        self._ahead_seconds = ahead_seconds
        self._ahead_max = min(ahead_max, AHEAD_MAX)
        #: Of what is held, slots beyond one a job.
        self._beyond = 0
        self._gathering = Gathering()
        self._average_run_seconds = math.inf
        self._none_ahead_until = float("-inf")

    @property
    def room(self) -> int:
        """Tell how many jobs may be taken now."""
        if self.is_closed or self.is_stuck or self._gathering.goes_on(self.free):
            return 0
        return max(0, self._capacity() - self.held)

    @property
    def free(self) -> int:
        """The number of slots that nothing is held for."""
        return self.size - self.held

    @property
    def busy(self) -> int:
        """The number of slots that are taken."""
        return min(self.held, self.size)

    def fit(self, wanted: Sequence[int]) -> list[int]:
        """Take the further slots of claimed jobs, as `WorkerSlots.fit` does of threads."""
        left, beyond = fit(
            wanted, self.free, self._beyond, self._gathering, run_seconds=self._average_run_seconds
        )
        self.held += beyond - self._beyond
        self._beyond = beyond
        return left

    def leave(self, count: int, *, beyond: int = 0) -> None:
        """Return slots of so many jobs, and so many beyond one a job."""
        self.held -= count + beyond
        self._beyond -= beyond

    @property
    def gathers(self) -> bool:
        """Tell whether it is worth to wait for more room: a fetch costs more than a short job."""
        capacity = self._capacity()
        return capacity > self.size and capacity - self.held < capacity // 2

    def observe(self, run_seconds: float) -> None:
        """Learn how long jobs run at present; a longer run counts at once."""
        self._average_run_seconds = average_with(self._average_run_seconds, run_seconds)

    def back_off(self) -> None:
        """Claim nothing ahead for a while: what was claimed had to be given back."""
        self._none_ahead_until = time.monotonic() + BACK_OFF_SECONDS

    def _capacity(self) -> int:
        average = self._average_run_seconds
        if average > self._ahead_seconds or self._beyond or time.monotonic() < self._none_ahead_until:
            return self.size
        return self.size + min(self._ahead_max, int(self.size * self._ahead_seconds / average))
