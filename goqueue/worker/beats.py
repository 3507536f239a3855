"""When the consumers of a process last turned, and which reach their servers: what its health is told by."""

from __future__ import annotations

import time


class Beats:
    """One moment a consumer, by this machine's monotonic clock. Thread-safe: every step is one operation."""

    def __init__(self) -> None:
        self._turned: dict[str, float] = {}
        #: Queues whose consumer pauses, because PostgreSQL or Redis does not answer.
        self.outages: set[str] = set()
        #: What is wrong with the threads of this process, in words; empty when they are well.
        self.problem = ""

    def turn(self, queue: str) -> None:
        """The consumer of this queue begins another turn."""
        self._turned[queue] = time.monotonic()

    def oldest(self, default: float) -> float:
        """The last turn of the consumer that has not turned for the longest; `default` before any did."""
        return min(self._turned.copy().values(), default=default)
