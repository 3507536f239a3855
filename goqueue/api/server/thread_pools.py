"""The threads that answer whole requests, in pools: what hangs in one holds up no other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ThreadPools"]

Work = TypeVar("Work")


class ThreadPools(Generic[Work]):
    """Pools of daemon threads, each made when the first work for it comes. Only one thread may call `put`.

    Args:
        threads: of each pool.
        do: what a thread does with each piece of work; it raises nothing.
    """

    def __init__(self, threads: int, do: Callable[[Work], object]) -> None:
        self._threads = threads
        self._do = do
        self._pools: dict[str, queue.SimpleQueue[Work]] = {}

    def put(self, name: str, work: Work) -> None:
        """Let a thread of this pool do something, as soon as one is free."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = self._start(name)
        pool.put(work)

    def _start(self, name: str) -> queue.SimpleQueue[Work]:
        pool: queue.SimpleQueue[Work] = queue.SimpleQueue()
        for number in range(self._threads):
            thread_name = "-".join(filter(None, ["api", name, str(number)]))
            threading.Thread(target=self._work, args=(pool,), name=thread_name, daemon=True).start()
        return pool

    def _work(self, pool: queue.SimpleQueue[Work]) -> None:
        while True:
            self._do(pool.get())
