"""The child processes of one worker: as many as it has threads, started when they are needed, and kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from goqueue.config.settings import Settings
from goqueue.worker.children.child import HandlerChild

__all__ = ["ChildPool"]

#: So often a thread that waits for a free child looks, and may be interrupted.
LOOK_SECONDS = 0.1


class ChildPool:
    """The children of this process. Thread-safe.

    Args:
        settings: how many children there are, and how long they may take to end.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._children: list[HandlerChild] = []

    @contextmanager
    def child(self, modules: Sequence[str], waits: Callable[[], object]) -> Iterator[HandlerChild]:
        """Have a child for the calling thread alone inside the block; wait for one where all have work.

        Args:
            modules: what a child imports that has to be started.
            waits: called before each look for a free one.
        """
        child = self._take(modules, waits)
        try:
            yield child
        finally:
            self._give_back(child)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children."""
        with self._lock:
            return [child.pid for child in self._children if child.pid is not None]

    def stop(self) -> None:
        """End every child: those that run something at once, the others when they have closed their own."""
        with self._lock:
            children, self._children = self._children, []
        for child in children:
            if child.holder is None:
                child.close()
            else:
                child.kill()
        until = time.monotonic() + self._settings.lifespan_close_seconds
        for child in children:
            child.end(until - time.monotonic())

    def _take(self, modules: Sequence[str], waits: Callable[[], object]) -> HandlerChild:
        thread = threading.get_ident()
        while True:
            waits()
            with self._lock:
                self._drop_left(thread)
                for child in self._children:
                    if child.holder is None:
                        child.holder = thread
                        return child
                if len(self._children) < self._size:
                    child = HandlerChild(modules, thread)
                    self._children.append(child)
                    return child
            time.sleep(LOOK_SECONDS)

    @property
    def _size(self) -> int:
        return self._settings.worker_child_processes or self._settings.worker_threads

    def _drop_left(self, thread: int) -> None:
        """An interrupt may have kept this thread from giving one back: nobody knows what that one does."""
        for child in self._children.copy():
            if child.holder == thread:
                self._children.remove(child)
                child.kill()

    def _give_back(self, child: HandlerChild) -> None:
        with self._lock:
            if child.is_usable:
                child.holder = None
            elif child in self._children:
                self._children.remove(child)
                child.kill()
