"""Interrupting handlers from outside: time limits, cancels, lost leases, shutdowns.

CPython can raise an exception in another thread, at its next bytecode. Dramatiq's own middleware does so
while the thread may be anywhere, its hooks included, where the exception kills the thread. Here a thread is
armed exactly around the handler; arming, raising and disarming happen under one lock, and an exception that
was raised but not yet delivered is withdrawn. So it lands in the handler or not at all.

A handler that runs as a task of the event loop is interrupted by whoever runs it there: see `async_jobs`.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dramatiq.middleware import Interrupt, raise_thread_exception

from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.background_thread import BackgroundThread

#: How often time limits are looked at: a limit is kept to this, plus the time until the next bytecode.
CHECK_SECONDS = 0.1


class TimeLimitExceeded(Interrupt):
    """The attempt ran longer than its time limit."""


class DeadlinePassed(Interrupt):
    """The deadline of the job, over all its attempts, passed."""


class Interrupted(Interrupt):
    """The attempt was stopped from outside, by a shutdown, a cancel or a lost lease."""


@dataclass(slots=True)
class _Armed:
    current: JobAttempt
    ends_at: float
    exceeded: type[Interrupt]
    cancels_at: float = math.inf
    raised: bool = False
    #: Once its time is over it is interrupted again and again: what it reads may swallow that.
    repeats: bool = False
    #: The jobs of a batch, of which `current` is the first; they are interrupted when all of them are to be.
    batch: Sequence[JobAttempt] = ()

    @property
    def jobs(self) -> Sequence[JobAttempt]:
        """The jobs whose handler runs."""
        return self.batch or (self.current,)


@dataclass(slots=True)
class _ArmedTask(_Armed):
    #: Cancels the task of the handler, from any thread.
    interrupt: Callable[[type[Interrupt]], None] = lambda _exception: None


# More methods than others have: threads and tasks are armed, looked at and interrupted under one lock.
class Interrupts(BackgroundThread):
    """The armed threads and tasks of this process. Thread-safe."""

    def __init__(self) -> None:
        super().__init__("interrupts")
        self._lock = threading.Lock()
        self._armed: dict[int, _Armed] = {}
        self._tasks: dict[JobAttempt, _ArmedTask] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop watching the time limits."""
        self._stopping.set()

    def arm(self, current: JobAttempt, limit_seconds: float, batch: Sequence[JobAttempt] = ()) -> None:
        """Let the calling thread be interrupted on behalf of this job from now on.

        Args:
            current: the job.
            limit_seconds: how long the attempt may run; the job's deadline may come before.
            batch: the jobs of a batch, of which it is the first.

        Raises:
            Interrupted: the job was stopped after its claim, before its handler started.
            DeadlinePassed: its deadline passed meanwhile.
        """
        armed = _Armed(current, time.monotonic() + limit_seconds, TimeLimitExceeded, batch=batch)
        with self._lock:
            _let_begin(armed)
            self._armed[threading.get_ident()] = armed

    def arm_task(
        self,
        current: JobAttempt,
        limit_seconds: float,
        interrupt: Callable[[type[Interrupt]], None],
        batch: Sequence[JobAttempt] = (),
    ) -> None:
        """Let `interrupt` be called on behalf of this job from now on, once, by any thread.

        Args:
            current: the job.
            limit_seconds: how long the attempt may run; the job's deadline may come before.
            interrupt: cancels the task; told which exception stands for it. Never blocks.
            batch: the jobs of a batch, of which it is the first.

        Raises:
            Interrupted: the job was stopped after its claim, before its handler started.
            DeadlinePassed: its deadline passed meanwhile.
        """
        now = time.monotonic()
        armed = _ArmedTask(current, now + limit_seconds, TimeLimitExceeded, interrupt=interrupt, batch=batch)
        with self._lock:
            _let_begin(armed)
            self._tasks[current] = armed

    def disarm_task(self, current: JobAttempt) -> bool:
        """Leave the task of this job alone; tell whether it was interrupted. Again it does nothing."""
        with self._lock:
            armed = self._tasks.pop(current, None)
        return armed is not None and armed.raised

    def rearm(self, current: JobAttempt, limit_seconds: float) -> None:
        """Give the calling thread so much time from now on for what its handler left behind; never raises."""
        with self._lock:
            self._withdraw()
            self._armed[threading.get_ident()] = _Armed(
                current, time.monotonic() + limit_seconds, TimeLimitExceeded, repeats=True
            )

    def restart(self, limit_seconds: float) -> None:
        """Let the time limit of the calling thread's handler count from now on; all else holds as before."""
        with self._lock:
            armed = self._armed.get(threading.get_ident())
            if armed is None or armed.raised:
                return
            armed.ends_at, armed.exceeded = time.monotonic() + limit_seconds, TimeLimitExceeded
            deadline = armed.current.deadline
            if deadline is not None and deadline <= armed.ends_at:
                armed.ends_at, armed.exceeded = deadline, DeadlinePassed

    def disarm(self) -> bool:
        """Leave the calling thread alone; tell whether it was interrupted. Again it does nothing."""
        with self._lock:
            return self._withdraw()

    def _withdraw(self) -> bool:
        thread_id = threading.get_ident()
        armed = self._armed.pop(thread_id, None)
        if armed is None or not armed.raised:
            return False
        # It may have been delivered already; then this withdraws nothing.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)
        return True

    def interrupt(self, current: JobAttempt, why: AttemptOutcome) -> bool:
        """Stop the handler of this job, or keep it from starting; whether it ran.

        The handler of a batch stops when all of its jobs are to be.
        """
        with self._lock:
            thread_id, armed = self._find(current)
            if armed is not None:
                if not armed.raised:
                    current.interruption = why
                if all(_is_unwanted(job) for job in armed.jobs):
                    self._interrupt(thread_id, armed, why)
                return True
            current.interruption = why
        return False

    def cancel(self, current: JobAttempt, cooperation_seconds: float) -> bool:
        """Tell the handler of this job to stop, and interrupt it when it has not for so long.

        A job whose handler has not started never starts. Returns whether this was news.
        """
        with self._lock:
            if current.cancel_requested:
                return False
            current.cancel_requested = True
            _, armed = self._find(current)
            if armed is None:
                current.interruption = AttemptOutcome.CANCELLED
            elif all(_is_unwanted(job) for job in armed.jobs):
                armed.cancels_at = time.monotonic() + cooperation_seconds
        return True

    @property
    def armed(self) -> int:
        """Tell how many handlers run now on threads of their own."""
        return len(self._armed)

    def running(self) -> list[JobAttempt]:
        """The jobs whose handlers run now, on threads and on the event loop."""
        with self._lock:
            return [job for armed in (*self._armed.values(), *self._tasks.values()) for job in armed.jobs]

    def running_longer_than(self, seconds: float) -> list[JobAttempt]:
        """The jobs whose handlers keep threads of their own for longer than this."""
        before = time.monotonic() - seconds
        with self._lock:
            return [armed.current for armed in self._armed.values() if armed.current.started < before]

    def newly_running(self, seconds: float) -> list[JobAttempt]:
        """The jobs whose handlers run for longer than this, each once, marked as noted; of both kinds.

        Under the lock that a thread needs to leave its handler: so none has ended before it is marked.
        """
        before = time.monotonic() - seconds
        with self._lock:
            found = [
                job
                for armed in (*self._armed.values(), *self._tasks.values())
                for job in armed.jobs
                if job.started < before and not job.is_noted
            ]
            for current in found:
                current.is_noted = True
        return found

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for thread_id, armed in self._armed.items():
                    self._look_at_the_clock(now, thread_id, armed)
                for task in self._tasks.values():
                    self._look_at_the_clock(now, 0, task)

    def _find(self, current: JobAttempt) -> tuple[int, _Armed | None]:
        """What is armed for a job, and the thread that it is; 0: it is a task."""
        task = self._tasks.get(current)
        if task is not None:
            return 0, task
        of_batches = ((0, armed) for armed in self._tasks.values() if armed.batch)
        found = (item for item in (*self._armed.items(), *of_batches) if current in item[1].jobs)
        return next(found, (0, None))

    def _look_at_the_clock(self, now: float, thread_id: int, armed: _Armed) -> None:
        if now >= armed.cancels_at:
            self._interrupt(thread_id, armed, AttemptOutcome.CANCELLED)
        elif now >= armed.ends_at and (armed.repeats or not armed.raised):
            self._raise(thread_id, armed, armed.exceeded)

    def _interrupt(self, thread_id: int, armed: _Armed, why: AttemptOutcome) -> None:
        if armed.raised:
            return
        for current in armed.jobs:
            current.interruption = current.interruption or why
            # An interrupt that the handler swallows has told it all the same.
            current.knows_of_cancel |= why is AttemptOutcome.CANCELLED
        self._raise(thread_id, armed, Interrupted)

    @staticmethod
    def _raise(thread_id: int, armed: _Armed, exception: type[Interrupt]) -> None:
        armed.raised = True
        if isinstance(armed, _ArmedTask):
            armed.interrupt(exception)
        else:
            raise_thread_exception(thread_id, exception)  # type: ignore[no-untyped-call]  # Dramatiq's


def _is_unwanted(current: JobAttempt) -> bool:
    """Whether a job is to stop: somebody cancelled it, or this process does not hold it any more, or ends."""
    return current.cancel_requested or current.interruption is not None


def _let_begin(armed: _Armed) -> None:
    """Give a handler the end that comes first, unless it was stopped or its time is over: then raise."""
    for current in armed.jobs:
        if current.deadline is not None and current.deadline <= armed.ends_at:
            armed.ends_at, armed.exceeded = current.deadline, DeadlinePassed
    if all(current.interruption is not None for current in armed.jobs):
        raise Interrupted
    if armed.ends_at <= time.monotonic():
        raise armed.exceeded
