"""A thread that looks at PostgreSQL for all who wait for something, and ends when nobody does."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

import structlog

from goqueue.errors import UnavailableError

__all__ = ["Looking"]

log = structlog.get_logger(__name__)

#: After a look that failed.
FAILURE_PAUSE_SECONDS = 0.5

#: A look that takes long comes less often: it may take this part of the time.
SHARE = 0.2


class Looking(ABC):
    """Looks again and again, in a thread of its own, as long as somebody waits.

    What a subclass keeps of those who wait is guarded by `_lock`; who adds one calls `_begin` under it.

    Args:
        name: of the thread.
        pause_seconds: between two looks.
    """

    def __init__(self, name: str, pause_seconds: float) -> None:
        self._name = name
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._looks = False
        #: For how long the present look has let others go first.
        self._rested_seconds = 0.0

    @abstractmethod
    def _look(self) -> None:
        """Look once, and tell those who wait what there is."""

    @abstractmethod
    def _is_awaited(self) -> bool:
        """Say whether anybody waits; `_lock` is held."""

    def _pause(self) -> float:
        """Say after how many seconds from its beginning a look is followed by the next."""
        return self._pause_seconds

    def _rest(self, seconds: float) -> None:
        """Let other threads go first, in the middle of a look."""
        time.sleep(seconds)
        self._rested_seconds += seconds

    def _begin(self) -> None:
        """See to it that somebody looks; `_lock` is held."""
        if not self._looks:
            self._looks = True
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            began, self._rested_seconds = time.monotonic(), 0.0
            pause = self._pause_seconds
            try:
                self._look()
                pause = self._pause()
            except UnavailableError as error:
                log.debug("look_postponed", looking=self._name, error=str(error))
                pause = FAILURE_PAUSE_SECONDS
            except Exception:
                log.exception("look_failed", looking=self._name)
                pause = FAILURE_PAUSE_SECONDS
            with self._lock:
                if not self._is_awaited():
                    self._looks = False
                    return
            took = time.monotonic() - began
            worked = took - self._rested_seconds
            time.sleep(max(pause - took, worked / SHARE - took, 0.001))
