"""Interrupting handlers from outside: time limits, cancels, lost leases, shutdowns.

CPython can raise an exception in another thread, at its next bytecode. Dramatiq's own middleware does so
while the thread may be anywhere, its hooks included, where the exception kills the thread. Here a thread is
armed exactly around the handler; arming, raising and disarming happen under one lock, and an exception that
was raised but not yet delivered is withdrawn. So it lands in the handler or not at all.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass

from dramatiq.middleware import Interrupt, raise_thread_exception

from goqueue.jobs import AttemptOutcome
from goqueue.middleware.job_message import CurrentJob

#: How often time limits are looked at: a limit is kept to this, plus the time until the next bytecode.
CHECK_SECONDS = 0.1


class TimeLimitExceeded(Interrupt):
    """The attempt ran longer than its time limit."""


class Interrupted(Interrupt):
    """The attempt was stopped from outside, by a shutdown, a cancel or a lost lease."""


@dataclass(slots=True)
class _Armed:
    current: CurrentJob
    deadline: float
    raised: bool = False


class Interrupts:
    """The armed threads of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[int, _Armed] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="interrupts", daemon=True)

    def start(self) -> None:
        """Start watching the time limits."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()

    def arm(self, current: CurrentJob, limit_seconds: float) -> None:
        """From now on the calling thread may be interrupted on behalf of this job.

        Raises:
            Interrupted: the job was stopped after its claim, before its handler started.
        """
        with self._lock:
            if current.interruption is not None:
                raise Interrupted
            self._armed[threading.get_ident()] = _Armed(current, time.monotonic() + limit_seconds)

    def disarm(self) -> None:
        """From now on the calling thread is left alone. Calling it again does nothing."""
        thread_id = threading.get_ident()
        with self._lock:
            armed = self._armed.pop(thread_id, None)
            if armed is not None and armed.raised:
                # It may have been delivered already; then this withdraws nothing.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)

    def interrupt(self, current: CurrentJob, why: AttemptOutcome) -> bool:
        """Stop the handler of this job, or keep it from starting; whether it ran."""
        with self._lock:
            for thread_id, armed in self._armed.items():
                if armed.current is current:
                    if not armed.raised:
                        current.interruption = why
                        self._raise(thread_id, armed, Interrupted)
                    return True
            current.interruption = why
        return False

    def running(self) -> list[CurrentJob]:
        """The jobs whose handlers run now."""
        with self._lock:
            return [armed.current for armed in self._armed.values()]

    def _watch(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for thread_id, armed in self._armed.items():
                    if now >= armed.deadline and not armed.raised:
                        self._raise(thread_id, armed, TimeLimitExceeded)

    @staticmethod
    def _raise(thread_id: int, armed: _Armed, exception: type[Interrupt]) -> None:
        armed.raised = True
        raise_thread_exception(thread_id, exception)  # type: ignore[no-untyped-call]  # Dramatiq's
