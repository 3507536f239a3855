"""The functions of batch actors: one call of the handler for many jobs, and what it comes to for each."""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import orjson
from dramatiq.middleware import Interrupt

from goqueue.contents.redaction import all_values
from goqueue.errors import BatchFailed
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.current_batch import CurrentBatch, enter_batch
from goqueue.middleware.lifecycle import Failure, look_at
from goqueue.observability.exception_reader import NO_TEXT, frames_of
from goqueue.observability.job_context import job_context
from goqueue.worker.async_jobs.function import AsyncJobFunction
from goqueue.worker.execution import INTERRUPTS, READING_SECONDS, UNSPENT_MAX, JobFunction, call_handler
from goqueue.worker.interrupts import DeadlinePassed, TimeLimitExceeded

__all__ = ["AsyncBatchFunction", "BatchFunction", "BatchResultError"]


class BatchResultError(TypeError):
    """The handler's results are not those of its batch: there are more or fewer, or they are no list."""


#: What each job of a batch failed with; those that are left out completed, or were stopped.
Errors = dict[JobAttempt, BaseException]


class _Read(NamedTuple):
    """An exception that was read: what stands for it, and what is kept of it."""

    harmless: BaseException
    failure: tuple[int, Failure] | None


class BatchFunction(JobFunction):
    """The function of a batch actor. Called by anyone but a worker, it is the handler itself."""

    def run_together(self, jobs: Sequence[JobAttempt]) -> Errors:
        """Run one attempt at each of these jobs, by one call of the handler. Never raises."""
        errors: Errors = {}

        def call() -> None:
            called, payloads = self._payloads_of(jobs, errors)
            if called:
                self._share_out(called, self.function(payloads), errors)

        _begin(jobs)
        raised = self._armed(partial(self.interrupts.arm, jobs[0], self.limit_of(jobs), jobs), call)
        return self._ended(jobs, raised, errors)

    def unbegun(self, jobs: Sequence[JobAttempt]) -> list[JobAttempt]:
        """Note of jobs that must not be repeated that they begin; return those that must not begin here."""
        note = self.begin_unrepeatable
        left = [] if note is None else [current for current in jobs if not note(current)]
        for current in left:
            current.control = (AttemptOutcome.INTERRUPTED, 0.0)
        return left

    def limit_of(self, jobs: Sequence[JobAttempt]) -> float:
        """Tell how long a batch may run: as long as the first of its jobs may that would be stopped."""
        return min(self._limit_of(job) for job in jobs)

    def _limit_of(self, current: JobAttempt) -> float:
        return current.claimed.time_limit_seconds or self.job_type.time_limit_seconds

    def _armed(self, arm: Callable[[], object], work: Callable[[], object]) -> BaseException | None:
        """What code of users raised, between arm and disarm of the calling thread. Never raises."""
        raised: BaseException | None = None
        try:
            try:
                arm()
                work()
            except BaseException as error:  # noqa: BLE001  (what users' code raises has no bounds)
                raised = error
            finally:
                self.interrupts.disarm()
        except BaseException as error:  # noqa: BLE001  (the interrupt may land on the way into disarm)
            self.interrupts.disarm()
            raised = error if raised is None else raised
        return raised

    def _payloads_of(self, jobs: Sequence[JobAttempt], errors: Errors) -> tuple[list[JobAttempt], list[Any]]:
        """The jobs whose payloads can be read, with these; the handler's call knows no others."""
        called: list[JobAttempt] = []
        payloads: list[Any] = []
        for current in jobs:
            if current.interruption is not None:
                current.control = (current.interruption, 0.0)
                continue
            try:
                (payload,), _ = self._arguments(current)
            except INTERRUPTS:
                raise
            except BaseException as error:  # noqa: BLE001  (a validator may raise anything)
                errors[current] = error
                continue
            called.append(current)
            payloads.append(payload)
        if called:
            _share_confidence(called)
            batch = CurrentBatch(called)
            enter_batch(batch)
            job_context.set(batch)
        return called, payloads

    def _share_out(self, called: Sequence[JobAttempt], returned: Any, errors: Errors) -> None:
        """Give each job its result; what is none fails its job alone.

        Raises:
            BatchResultError: there are more or fewer results than jobs.
        """
        if returned is None:
            return
        if not isinstance(returned, list | tuple):
            raise BatchResultError(f"expected a list of results, got {type(returned).__qualname__}")
        if len(returned) != len(called):
            raise BatchResultError(
                f"expected {len(called)} results, one for each job of the batch, got {len(returned)}"
            )
        for current, result in zip(called, returned, strict=True):
            if result is None or current in errors:
                continue
            try:
                current.result = self._encoded(result)
            except INTERRUPTS:
                raise
            except BaseException as error:  # noqa: BLE001  (reading a result may run code of users)
                errors[current] = error

    def _failed_in(self, called: Sequence[JobAttempt], failed: BatchFailed) -> Errors:
        """The errors that a handler gives to single jobs.

        Raises:
            BatchResultError: they are not of this batch, or no errors.
        """
        for place, error in failed.errors.items():
            if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(called):
                raise BatchResultError(
                    f"BatchFailed names {place!r}: the jobs of the batch are 0 to {len(called) - 1}"
                )
            if not isinstance(error, BaseException):
                raise BatchResultError(f"BatchFailed gives the job {place} no exception, but {error!r}"[:200])
        return {called[place]: error for place, error in failed.errors.items()}

    def _ended(self, jobs: Sequence[JobAttempt], raised: BaseException | None, errors: Errors) -> Errors:
        """Read what the call came to, for each job."""
        now = time.monotonic()
        for current in jobs:
            current.run_seconds = now - current.started
        called = [current for current in jobs if current not in errors and current.control is None]
        if raised is not None and issubclass(type(raised), BatchFailed):
            raised = self._read_failed(called, cast("BatchFailed", raised), errors)
        if raised is not None:
            errors |= dict.fromkeys(called, raised)
        known: dict[int, _Read] = {}
        for current, error in list(errors.items()):
            harmless = self._read_once(current, error, known)
            if (verdict := self._verdict(current, harmless)) is None:
                del errors[current]
            else:
                errors[current] = verdict
        for current in called:
            if current.cancel_requested and current not in errors:
                current.result, current.control = None, (AttemptOutcome.CANCELLED, 0.0)
        return errors

    def _read_failed(
        self, called: Sequence[JobAttempt], failed: BatchFailed, errors: Errors
    ) -> BaseException | None:
        """Note which jobs failed, and the results of the others; what is wrong with it fails all of them."""
        theirs: Errors = {}

        def read() -> None:
            theirs.update(self._failed_in(called, failed))
            self._share_out(called, failed.results, theirs)

        wrong = self._reading(called, read)
        if wrong is None:
            errors |= theirs
        return wrong

    def _reading(self, called: Sequence[JobAttempt], read: Callable[[], object]) -> BaseException | None:
        """What reading raised of what a handler left behind: that may run code of its own without end."""
        return self._armed(partial(self.interrupts.rearm, called[0], READING_SECONDS), read)

    def _read_once(self, current: JobAttempt, error: BaseException, known: dict[int, _Read]) -> BaseException:
        """Read an exception, which may be that of many jobs, the first time that it is met."""
        if id(error) not in known:
            try:
                harmless = self._read(current, error)
            except BaseException:  # noqa: BLE001  (the interrupt may land on the way into disarm)
                self.interrupts.disarm()
                harmless = self._stand_in(error, NO_TEXT)
                current.failure = id(harmless), look_at(current.type, harmless)
            known[id(error)] = _Read(harmless, current.failure)
        harmless, current.failure = known[id(error)]
        return harmless

    def _verdict(self, current: JobAttempt, error: BaseException) -> BaseException | None:
        """What its attempt failed with; None: it did not fail, and how it ended is noted."""
        current.result = None
        if type(error) in {TimeLimitExceeded, DeadlinePassed} and not self._is_its_own(current, error):
            current.interruption = current.interruption or AttemptOutcome.INTERRUPTED
        try:
            return None if self._is_no_failure(current, error) else error
        except BaseException as verdict:  # noqa: BLE001  (it stands for the error)
            return verdict

    def _is_its_own(self, current: JobAttempt, error: BaseException) -> bool:
        """Whether a batch was stopped for the time of this job: the others go back, unless they often did."""
        if current.fence - current.attempt >= UNSPENT_MAX:
            return True
        if type(error) is TimeLimitExceeded:
            return current.run_seconds >= self._limit_of(current)
        return current.deadline is not None and time.monotonic() >= current.deadline


def _share_confidence(jobs: Sequence[JobAttempt]) -> None:
    """Let no text of any of the jobs quote what may not be quoted of another: one error is that of all."""
    hidden = {value for job in jobs for value in job.claimed.hidden}
    encrypted = [job for job in jobs if job.claimed.encrypted]
    if hidden:
        for job in jobs:
            job.claimed.hidden = tuple(sorted(hidden, key=len, reverse=True))
    if encrypted and len(encrypted) < len(jobs):
        values = {value for job in encrypted for value in all_values(orjson.loads(job.claimed.payload))}
        for job in jobs:
            if not job.claimed.encrypted:
                job.claimed.hidden = tuple(sorted(hidden | values, key=len, reverse=True))


class AsyncBatchFunction(AsyncJobFunction, BatchFunction):
    """The function of an async batch actor."""

    def begin_together(
        self, jobs: Sequence[JobAttempt], errors: Errors, interrupt: Callable[[type[Interrupt]], None]
    ) -> Awaitable[Any] | None:
        """Arm the task of a batch, and make the coroutine of its handler. Call it in the task.

        Args:
            jobs: those that begin.
            errors: takes what is wrong with single ones.
            interrupt: cancels the task, from any thread.

        Returns:
            The coroutine; None where no payload can be read.

        Raises:
            Interrupted: all of them were stopped after their claim.
            DeadlinePassed: a deadline passed meanwhile.
        """
        _begin(jobs)
        self.interrupts.arm_task(jobs[0], self.limit_of(jobs), interrupt, jobs)
        called, payloads = self._payloads_of(jobs, errors)
        if not called:
            return None
        coroutine: Awaitable[Any] = call_handler(self.handler, (payloads,), {})
        return coroutine

    def end_together(
        self,
        jobs: Sequence[JobAttempt],
        value: Any,
        error: BaseException | None,
        errors: Errors,
        interrupted_by: type[Interrupt] | None,
        *,
        by_another: bool = False,
    ) -> Errors:
        """Read the end of a batch. Never raises.

        Args:
            jobs: those that began.
            value: what the handler returned.
            error: what it raised instead.
            errors: what was wrong with single jobs before.
            interrupted_by: what its task was cancelled for, if it was.
            by_another: its task was cancelled, and by nobody who may: by some handler on the same loop.
        """
        self.interrupts.disarm_task(jobs[0])
        if isinstance(error, CancelledError):
            if interrupted_by is not None:
                error = interrupted_by().with_traceback(frames_of(error))
            elif by_another:
                for current in jobs:
                    if current.fence - current.attempt < UNSPENT_MAX:
                        current.interruption = current.interruption or AttemptOutcome.INTERRUPTED
        called = [current for current in jobs if current not in errors and current.control is None]
        if error is None and called:
            error = self._reading(called, lambda: self._share_out(called, value, errors))
        return self._ended(jobs, error, errors)


def _begin(jobs: Sequence[JobAttempt]) -> None:
    """Note that their handler begins, for all of them at the same moment."""
    now = time.monotonic()
    for current in jobs:
        current.started = now
