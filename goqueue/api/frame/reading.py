"""Values of PostgreSQL that many ask for, read once for all of them, and no oftener than it matters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import structlog

from goqueue.errors import GoQueueError

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: For an answer about all of several databases, none is waited for longer.
ALL_WAIT_SECONDS = 1.0


class Reading(Generic[T]):
    """The latest answer to a question. Thread-safe; one thread asks, the others wait for it.

    Args:
        ask: the question; it may raise a GoQueueError, and then there is no value for a while.
        max_age_seconds: how long a value is good.
    """

    def __init__(self, ask: Callable[[], T], *, max_age_seconds: float) -> None:
        self._ask = ask
        self._max_age_seconds = max_age_seconds
        self._value: T | None = None
        self._good_until = 0.0
        self._asking = threading.Lock()

    def get(self) -> T | None:
        """Return a value of no more than the allowed age; None: PostgreSQL does not answer."""
        with self._asking:
            self._refresh()
        return self._value

    def soon(self, wait_seconds: float) -> T | None:
        """Return what is known after this time at the latest, for those who cannot wait for PostgreSQL."""
        if time.monotonic() >= self._good_until and self._asking.acquire(blocking=False):
            thread = threading.Thread(target=self._refresh_and_release, name="reading", daemon=True)
            thread.start()
            thread.join(wait_seconds)
        return self._value

    def begin(self) -> None:
        """Let a thread ask, where what is known is too old and nobody asks already."""
        if time.monotonic() >= self._good_until and self._asking.acquire(blocking=False):
            threading.Thread(target=self._refresh_and_release, name="reading", daemon=True).start()

    def within(self, seconds: float) -> T | None:
        """Return what those who ask now learn in this time; None: PostgreSQL does not answer, or not yet."""
        if not self._asking.acquire(timeout=max(0.0, seconds)):
            return None
        self._asking.release()
        return self._value

    def _refresh_and_release(self) -> None:
        try:
            self._refresh()
        finally:
            self._asking.release()

    def _refresh(self) -> None:
        if time.monotonic() < self._good_until:
            return
        try:
            self._value = self._ask()
        except GoQueueError as error:
            log.debug("reading_failed", error=str(error))
            self._value = None
        self._good_until = time.monotonic() + self._max_age_seconds


def values_of(readings: Sequence[Reading[Any]]) -> list[Any]:
    """Ask all at the same time; of those that are not known after a second there is no value."""
    deadline = time.monotonic() + ALL_WAIT_SECONDS
    for reading in readings:
        reading.begin()
    return [reading.within(deadline - time.monotonic()) for reading in readings]
