"""The function of an async actor: how an attempt begins on the event loop, and how its end is read."""

from __future__ import annotations

import functools
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import Any

from dramatiq.asyncio import async_to_sync
from dramatiq.middleware import Interrupt

from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.observability.exception_reader import frames_of
from goqueue.worker.execution import (
    READING_SECONDS,
    UNSPENT_MAX,
    JobFunction,
    call_handler,
    enter_job,
)
from goqueue.worker.verdicts import HandlerExited

__all__ = ["AsyncJobFunction", "is_async"]


class AsyncJobFunction(JobFunction):
    """The function of an async actor. Called by anyone but the event loop, it waits for its handler there.

    Attributes:
        handler: the coroutine function.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self.handler: Callable[..., Awaitable[Any]] = function.__wrapped__  # type: ignore[attr-defined]  # functools.wraps sets it
        super().__init__(_keeping_the_loop(self.handler), *arguments, **options)

    def begin(self, current: JobAttempt, interrupt: Callable[[type[Interrupt]], None]) -> Awaitable[Any]:
        """Arm the task of an attempt, and make the coroutine of its handler. Call it in the task.

        Args:
            current: the job.
            interrupt: cancels the task, from any thread.

        Raises:
            Interrupted: the job was stopped after its claim.
            DeadlinePassed: its deadline passed meanwhile.
            Exception: its payload cannot be read here.
        """
        enter_job(current)
        current.begin()
        limit = current.claimed.time_limit_seconds or self.job_type.time_limit_seconds
        self.interrupts.arm_task(current, limit, interrupt)
        args, kwargs = self._arguments(current)
        coroutine: Awaitable[Any] = call_handler(self.handler, args, kwargs)
        return coroutine

    def end(
        self,
        current: JobAttempt,
        value: Any,
        error: BaseException | None,
        interrupted_by: type[Interrupt] | None,
        *,
        by_another: bool = False,
    ) -> Any:
        """Read the end of an attempt. Returns the result only where Dramatiq passes it on.

        Args:
            current: the job.
            value: what the handler returned.
            error: what it raised instead.
            interrupted_by: what its task was cancelled for, if it was.
            by_another: its task was cancelled, and by nobody who may: by some handler on the same loop.

        Raises:
            BaseException: the attempt failed, with this.
        """
        current.end()
        self.interrupts.disarm_task(current)
        if isinstance(error, CancelledError):
            if interrupted_by is not None:
                error = interrupted_by().with_traceback(frames_of(error))
            elif by_another and current.fence - current.attempt < UNSPENT_MAX:
                current.interruption = current.interruption or AttemptOutcome.INTERRUPTED
        try:
            self._conclude_armed(current, value, error)
        except BaseException as raised:
            if not self._is_no_failure(current, raised):
                raise
        return self.returned(current)

    def _conclude_armed(self, current: JobAttempt, value: Any, error: BaseException | None) -> None:
        """Encode the result, or read the exception: both may run code of the handler, which may never end."""
        raised: BaseException | None = None
        try:
            try:
                if error is None:
                    self.interrupts.rearm(current, READING_SECONDS)
                    current.result = self._encoded(value)
                else:
                    raised = self._read(current, error)
            except BaseException as wrong:  # noqa: BLE001  (raised below, when it has been read)
                raised = self._read(current, wrong)
            finally:
                self.interrupts.disarm()
        except BaseException as wrong:
            # An interrupt may land on the way into disarm: then the thread of the loop is still armed.
            self.interrupts.disarm()
            if raised is None:
                wrong.__context__ = None
                raise
        if raised is not None:
            raise raised


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether a function is Dramatiq's wrapper around an async one; decorators of users are none."""
    return getattr(function, "__code__", None) is _ASYNC_WRAPPER


def _keeping_the_loop(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The handler, to be waited for by a thread, such that nothing it raises ends the loop."""

    @functools.wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await handler(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExited from error

    return async_to_sync(run)


#: How Dramatiq's wrapper around an async function is told from a user's own decorators.
_ASYNC_WRAPPER = async_to_sync(_keeping_the_loop).__code__  # type: ignore[arg-type]  # only its code is wanted
