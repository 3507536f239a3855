"""Ends a worker process of Dramatiq's command that was told to stop and does not come to its end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

__all__ = ["DrainGuard"]

log = structlog.get_logger(__name__)

#: What has been interrupted may take so long to end; and so may the interpreter, once all is given back.
END_SECONDS = 5.0


class DrainGuard:
    """One thread that bounds the stop of a process, whatever its threads do.

    Dramatiq's command waits ten minutes for its threads, and Python for ever for those that handlers leave
    behind. Here what runs may finish within the grace period; then it is interrupted and given back; and what
    is not over a little later is left to itself: the process ends.

    Args:
        grace_seconds: for what runs.
        give_back: interrupts what runs and gives it back.
        finish: records everything and ends the lease; called once, here or by the main thread.

    Attributes:
        exit_code: what the process exits with.
    """

    def __init__(
        self, grace_seconds: float, give_back: Callable[[], object], finish: Callable[[], object]
    ) -> None:
        self._grace_seconds = grace_seconds
        self._give_back = give_back
        self._finish = finish
        self._lock = threading.Lock()
        self._finishing = threading.Event()
        self._finished = threading.Event()
        self.exit_code = 0

    def start(self) -> None:
        """Begin to guard a process that drains from now on."""
        threading.Thread(target=self._run, name="drain-guard", daemon=True).start()

    def finish(self) -> None:
        """Record everything and end the lease, unless that is done."""
        self._finishing.set()
        with self._lock:
            if not self._finished.is_set():
                try:
                    self._finish()
                finally:
                    self._finished.set()

    def _run(self) -> None:
        if not self._finishing.wait(self._grace_seconds):
            self._give_back()
            if not self._finishing.wait(END_SECONDS):
                log.warning("stop_not_waited_for", reason="a handler does not end")
                with suppress(Exception):  # it is ended all the same
                    self.finish()
        self._finished.wait()
        # A daemon thread: it is gone when the interpreter ends before this is over.
        threading.Event().wait(END_SECONDS)
        log.warning("end_not_waited_for", threads=_left())
        sys.stderr.flush()
        os._exit(self.exit_code)


def _left() -> list[str]:
    """The threads for which Python waits at its end."""
    return [
        found.name
        for found in threading.enumerate()
        if not found.daemon and found is not threading.main_thread()
    ]
