"""The values that a worker process keeps for its handlers from the first use until its end."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import structlog

from goqueue.engine.options.injection import Dependency, name_of
from goqueue.observability.exception_reader import ExceptionReader, frames_of

__all__ = ["ProcessValues"]

log = structlog.get_logger(__name__)

Make = Callable[[AsyncExitStack], Any]


class _Kept(NamedTuple):
    name: str
    stack: AsyncExitStack


class ProcessValues:
    """The open lifespans, and the values of dependencies whose scope is the process. Thread-safe.

    Each is made once, in a thread of its own, whoever needs it first: a time limit that strikes who waits for
    it does not strike what everybody will use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[Dependency, concurrent.futures.Future[Any]] = {}
        self._kept: list[_Kept] = []

    def opened(self, target: Dependency, make: Make) -> concurrent.futures.Future[Any]:
        """Return the value of a dependency as a future; where nobody has asked for it yet, make it now.

        One that could not be made is made anew at the next time.
        """
        with self._lock:
            opened = self._opened.get(target)
            if opened is not None:
                return opened
            opened = self._opened[target] = concurrent.futures.Future()
            # Whoever waits must not be able to cancel it for the others.
            opened.set_running_or_notify_cancel()
        # A thread begins with no context: what belongs to the process must not see the job of who is first.
        threading.Thread(
            target=self._open, args=(target, make, opened), name=f"opens {name_of(target)}", daemon=True
        ).start()
        return opened

    def values(self) -> dict[Dependency, Any]:
        """Return what is open now, by what it was made by."""
        with self._lock:
            return {
                target: opened.result()
                for target, opened in self._opened.items()
                if opened.done() and opened.exception() is None
            }

    def close(self, seconds: float) -> None:
        """Close everything, the last first, each error logged; what takes longer is left to itself."""
        with self._lock:
            kept, self._kept = self._kept, []
            self._opened.clear()
        if not kept:
            return
        until = time.monotonic() + seconds
        closing = threading.Thread(target=_close_all, args=(kept,), name="closes lifespans", daemon=True)
        closing.start()
        closing.join(max(0.0, until - time.monotonic()))
        if closing.is_alive():
            log.error("lifespans_not_closed_in_time", seconds=seconds, left=[one.name for one in kept])

    def _open(self, target: Dependency, make: Make, opened: concurrent.futures.Future[Any]) -> None:
        stack = AsyncExitStack()
        try:
            value = make(stack)
        except BaseException as error:  # noqa: BLE001  (told to who waits for it)
            with self._lock:
                self._opened.pop(target, None)
            opened.set_exception(error)
            return
        with self._lock:
            self._kept.append(_Kept(name_of(target), stack))
        opened.set_result(value)


def _close_all(kept: list[_Kept]) -> None:
    while kept:
        one = kept[-1]
        try:
            # Nothing on it has to be awaited: what is asynchronous was entered by the event loop.
            one.stack.__aexit__(None, None, None).send(None)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  (users' code)
            reader = ExceptionReader(error)
            log.error(  # noqa: TRY400  (the reader meets what the exception does)
                "lifespan_close_failed",
                lifespan=one.name,
                error=reader.line,
                traceback=reader.traceback(frames_of(error)),
            )
        kept.pop()
