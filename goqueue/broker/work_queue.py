"""The queue between the consumers and the worker threads of one process."""

from __future__ import annotations

import queue
import threading
from typing import Any


class WorkQueue:
    """First in, first out, in place of Dramatiq's PriorityQueue: rank decided the order before the claim.

    What Dramatiq's Worker asks of a queue, on a SimpleQueue, which is written in C and wakes one thread for
    one item: heap, item and condition variable of the other cost each job as much as calling its handler.
    """

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._put = 0
        self._done = 0

    @property
    def unfinished_tasks(self) -> int:
        """Items put and not yet done."""
        return self._put - self._done

    def put(self, item: Any) -> None:
        """Add an item; never blocks."""
        with self._lock:
            self._put += 1
        self._items.put(item)

    def get(self, timeout: float | None = None) -> Any:
        """The next item.

        Raises:
            queue.Empty: there was none within `timeout` seconds.
        """
        return self._items.get(timeout=timeout)

    def get_nowait(self) -> Any:
        """The next item.

        Raises:
            queue.Empty: there is none.
        """
        return self._items.get_nowait()

    def task_done(self) -> None:
        """One item is dealt with."""
        with self._lock:
            self._done += 1

    def qsize(self) -> int:
        """How many items wait."""
        return self._items.qsize()

    def join(self) -> None:
        """Wait until every item put is done."""
        pause = threading.Event()
        while self.unfinished_tasks > 0:
            pause.wait(0.01)
