"""Outcomes that wait to be recorded: those that have just concluded, and those that were put off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from goqueue.middleware.job_message import JobMessage

#: How long an outcome whose row is locked waits before it is tried again: at first, and at most.
FIRST_DELAY_SECONDS = 0.05
DELAY_MAX_SECONDS = 2.0

#: After a batch of so many, many jobs are ending: the next batch is gathered up to so many, for so long at
#: most. A commit costs the same for one outcome as for a hundred.
GATHER_FROM = 16
GATHER_UP_TO = 256
GATHER_SECONDS = 0.006


class PendingOutcomes:
    """The outcomes that one recorder has to write. Any thread may put; the recorder's own does the rest."""

    def __init__(self) -> None:
        self._new: deque[JobMessage] = deque()
        # When to try again, how long that message waited for it, and the message.
        self._later: list[tuple[float, float, JobMessage]] = []
        # Of what was taken last, and had been put off before.
        self._delays: dict[int, float] = {}
        self._ending = False
        #: Locked while the recorder sleeps; it is woken when so many wait. 0: it does not sleep.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._wakes_at = 0
        self._last_count = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._new) + len(self._later)

    def put(self, message: JobMessage) -> None:
        """Take a concluded message; never blocks."""
        self._new.append(message)
        if 0 < self._wakes_at <= len(self._new):
            self._wake()

    def end(self) -> None:
        """Let `take` say the end, when everything is taken."""
        self._ending = True
        self._wake()

    def put_off(self, messages: Iterable[JobMessage]) -> None:
        """Take back messages of the last `take`; each waits twice as long as the last time."""
        now = time.monotonic()
        for message in messages:
            delay = min(DELAY_MAX_SECONDS, 2 * self._delays.get(id(message), FIRST_DELAY_SECONDS / 2))
            self._later.append((now + delay, delay, message))

    def take(self, count: int) -> tuple[list[JobMessage], bool]:
        """Take up to `count` messages as soon as there are any; none, and True, after the last.

        What was put off comes as a batch of its own: it may have to be put off again, and the others not.
        """
        while True:
            if self._later and (due := self._due(count)):
                return due, False
            if self._new:
                return self._gathered(count), False
            if self._ending and not self._later:
                return [], True
            self._sleep(1, self._patience())

    def _due(self, count: int) -> list[JobMessage]:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now][:count]
        self._later = [entry for entry in self._later if entry not in due]
        self._delays = {id(message): delay for _, delay, message in due}
        return [message for _, _, message in due]

    def _gathered(self, count: int) -> list[JobMessage]:
        """Take what there is; where many jobs are ending, what ends within a moment goes with it."""
        if self._last_count >= GATHER_FROM and not self._ending:
            self._sleep(min(count, GATHER_UP_TO), GATHER_SECONDS)
        batch = [self._new.popleft() for _ in range(min(count, len(self._new)))]
        self._last_count = len(batch)
        return batch

    def _sleep(self, wakes_at: int, timeout: float) -> None:
        """Sleep until so many wait: who puts looks for the sleeper last, and the sleeper for what was put."""
        self._wakes_at = wakes_at
        if len(self._new) < wakes_at and not (self._ending and not self._later):
            self._asleep.acquire(timeout=timeout)
        self._wakes_at = 0

    def _wake(self) -> None:
        self._wakes_at = 0
        # Another thread may have woken it just now.
        with suppress(RuntimeError):
            self._asleep.release()

    def _patience(self) -> float:
        if not self._later:
            return -1
        return max(0.001, min(at for at, _, _ in self._later) - time.monotonic())
