"""The queue between the consumers and the worker threads of a process: what was claimed and has not begun."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """The counts of what has passed through a queue until a moment.

    Attributes:
        put: items put so far.
        taken: items taken so far, in the order in which they were put.
    """

    put: int
    taken: int


def take_everything(_item: Any) -> bool:
    """Let a thread have every item that it takes."""
    return True


class WorkQueue:
    """A first-in, first-out queue in place of Dramatiq's PriorityQueue: rank gave the order before the claim.

    What Dramatiq's Worker asks of a queue, on a deque, whose ends CPython changes in one step: heap, item and
    condition variable of the other cost each job as much as calling its handler. A SimpleQueue would do as
    well, but for its `get` with a time: where another thread took the item that it was woken for just when
    the time was over, it waits without end (CPython 3.11 computes a negative rest, and takes it for none).

    Taking an item is the decision: whoever has it begins it or gives it back, and nobody else can.

    To wake a thread costs more than to run a short job. So while jobs are short one thread runs them one
    after the other; somebody has to call `wake_for_waiting` where none is taken for some milliseconds.

    Args:
        may_begin: asked by the thread that took an item; where it says no, it has dealt with the item.
        are_short: whether the items are expected to be dealt with so soon that no other thread need be woken
            for the next.
    """

    def __init__(
        self,
        may_begin: Callable[[Any], bool] = take_everything,
        are_short: Callable[[], bool] = bool,
    ) -> None:
        self._items: deque[Any] = deque()
        #: A locked lock for each thread that waits; who releases it wakes that thread.
        self._sleepers: deque[threading.Lock] = deque()
        self._may_begin = may_begin
        self._are_short = are_short
        self._lock = threading.Lock()
        self._put = 0
        self._done = 0

    @property
    def unfinished_tasks(self) -> int:
        """The number of items put and not yet done."""
        return self._put - self._done

    def put(self, item: Any) -> None:
        """Add an item, and wake a thread for it where one is needed; never blocks."""
        with self._lock:
            self._put += 1
            is_first = not self._items
            self._items.append(item)
        if is_first or not self._are_short():
            self._wake()

    def put_many(self, items: Sequence[Any]) -> None:
        """Add items in this order, and wake as many threads as are needed for them; never blocks."""
        with self._lock:
            self._put += len(items)
            self._items.extend(items)
        wanted = 1 if self._are_short() else len(items)
        for _ in range(min(wanted, len(self._sleepers))):
            self._wake()

    def get(self, timeout: float | None = None) -> Any:
        """The next item that may begin.

        Raises:
            queue.Empty: there was none within `timeout` seconds, or somebody else was quicker, or it may not
                begin.
        """
        try:
            item = self._items.popleft()
        except IndexError:
            item = self._wait(timeout)
        if self._sleepers and self._items and not self._are_short():
            self._wake()
        if self._may_begin(item):
            return item
        self.task_done()
        raise queue.Empty

    def get_nowait(self) -> Any:
        """The next item, whether it may begin or not.

        Raises:
            queue.Empty: there is none.
        """
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None

    def take_all(self) -> list[Any]:
        """Take whatever no thread has taken, and count it as done."""
        taken: list[Any] = []
        # No more than there are now: whoever puts must not keep the caller here.
        for _ in range(len(self._items)):
            try:
                taken.append(self._items.popleft())
            except IndexError:
                break
        with self._lock:
            self._done += len(taken)
        return taken

    def wake_for_waiting(self) -> None:
        """Wake a thread for each item that waits: whoever was to take them is busy for longer."""
        for _ in range(min(len(self._items), len(self._sleepers))):
            self._wake()

    def sample(self) -> Sample:
        """Tell how much was put and taken until now."""
        with self._lock:
            return Sample(self._put, self._put - len(self._items))

    def task_done(self) -> None:
        """Note that one item is dealt with."""
        with self._lock:
            self._done += 1

    def qsize(self) -> int:
        """Tell how many items wait."""
        return len(self._items)

    def join(self) -> None:
        """Wait until every item put is done."""
        pause = threading.Event()
        while self.unfinished_tasks > 0:
            pause.wait(0.01)

    def _wait(self, timeout: float | None) -> Any:
        """Sleep until an item is put: a putter looks for sleepers last, and a sleeper for items."""
        asleep = threading.Lock()
        asleep.acquire()
        self._sleepers.append(asleep)
        if self._items:
            self._wake()
        if not asleep.acquire(timeout=-1 if timeout is None else timeout):
            # Or it is being woken just now: then the item that it is woken for is looked for all the same.
            with suppress(ValueError):
                self._sleepers.remove(asleep)
        return self.get_nowait()

    def _wake(self) -> None:
        """Wake the thread that fell asleep last, whose memory is still at hand."""
        with suppress(IndexError):
            self._sleepers.pop().release()
