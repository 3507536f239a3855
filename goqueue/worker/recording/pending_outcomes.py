"""Outcomes that wait to be recorded: those that have just concluded, and those that were put off."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable

from goqueue.middleware.job_message import JobMessage

#: How long an outcome whose row is locked waits before it is tried again: at first, and at most.
FIRST_DELAY_SECONDS = 0.05
DELAY_MAX_SECONDS = 2.0


class PendingOutcomes:
    """The outcomes that one recorder has to write. Any thread may put; the recorder's own does the rest."""

    def __init__(self) -> None:
        self._new: queue.SimpleQueue[JobMessage | None] = queue.SimpleQueue()
        # When to try again, how long that message waited for it, and the message.
        self._later: list[tuple[float, float, JobMessage]] = []
        # Of what was taken last, and had been put off before.
        self._delays: dict[int, float] = {}
        self._ending = False

    def __len__(self) -> int:
        """How many wait."""
        return self._new.qsize() + len(self._later)

    def put(self, message: JobMessage) -> None:
        """Take a concluded message; never blocks."""
        self._new.put(message)

    def end(self) -> None:
        """Let `take` say the end, when everything is taken."""
        self._new.put(None)

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
            if self._ending and not self._later and self._new.empty():
                return [], True
            batch = self._piled_up(count)
            if batch:
                return batch, False

    def _due(self, count: int) -> list[JobMessage]:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now][:count]
        self._later = [entry for entry in self._later if entry not in due]
        self._delays = {id(message): delay for _, delay, message in due}
        return [message for _, _, message in due]

    def _piled_up(self, count: int) -> list[JobMessage]:
        """Whatever has piled up; nothing when the next one that was put off is due, or the end has come."""
        batch: list[JobMessage] = []
        try:
            item = self._new.get(timeout=self._patience())
            while item is not None:
                batch.append(item)
                if len(batch) >= count:
                    return batch
                item = self._new.get_nowait()
        except queue.Empty:
            return batch
        self._ending = True
        return batch

    def _patience(self) -> float | None:
        if not self._later:
            return None
        return max(0.001, min(at for at, _, _ in self._later) - time.monotonic())
