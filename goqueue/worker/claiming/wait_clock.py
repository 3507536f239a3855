"""A clock of how long the oldest item of a work queue has waited, told from what has passed through it.

Nothing is noted for a single item, which would cost each job: whoever watches the queue looks at it again and
again, and what was put before a look and has not been taken since has waited for that long.
"""

from __future__ import annotations

from collections import deque

from goqueue.worker.claiming.work_queue import Sample


class WaitClock:
    """The waits of one queue, from samples of it. Not thread-safe.

    Args:
        tick_seconds: how far samples are apart; those that come closer are left out.
    """

    def __init__(self, tick_seconds: float) -> None:
        self._tick_seconds = tick_seconds
        #: When, and how many items had been put until then; the first of them with an item that still waits.
        self._puts: deque[tuple[float, int]] = deque()
        self._noted_at = float("-inf")
        self._taken = 0
        #: Looks in a row between which no item was taken, though some waited.
        self.standstill = 0

    def note(self, now: float, sample: Sample) -> None:
        """Note what the queue looks like now."""
        # A look that comes early says nothing about a standstill.
        is_due = now - self._noted_at >= self._tick_seconds * 0.9
        if sample.taken != self._taken or sample.put == sample.taken:
            self.standstill = 0
            self._noted_at = now
        elif is_due:
            self.standstill += 1
            self._noted_at = now
        self._taken = sample.taken
        if not self._puts or sample.put > self._puts[-1][1]:
            self._puts.append((now, sample.put))
        while self._puts and self._puts[0][1] <= sample.taken:
            self._puts.popleft()

    def age(self, now: float) -> float:
        """Tell how long the oldest item has waited at least; it is at most one look's distance more."""
        return now - self._puts[0][0] if self._puts else 0.0
