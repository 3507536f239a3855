"""Running one attempt: what is wrapped around the function of every declared actor."""

from __future__ import annotations

import contextvars
import functools
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
from dramatiq.asyncio import async_to_sync
from dramatiq.errors import Retry

from goqueue.broker.interrupts import Interrupts
from goqueue.broker.job_type import JobType, holds_nul, plain
from goqueue.errors import DeadlineExceeded, Discard, InvalidJobError, RetryAfter, Snooze
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.job_message import CurrentJob, Unreadable
from goqueue.middleware.lifecycle import describe

log = structlog.get_logger(__name__)

_current: contextvars.ContextVar[CurrentJob] = contextvars.ContextVar("goqueue_current_job")

# Not orjson: it writes NaN as null, and a result that is not JSON must fail, not change.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


#: A queue is not slowed down for longer, whatever the other side asks for.
MAX_SLOW_DOWN_SECONDS = 86_400.0


class ResultError(TypeError):
    """The handler's result cannot be kept: it is not JSON, or too large."""


class PayloadError(ValueError):
    """The stored payload does not fit the type as this process knows it."""


class RetryRequested(Retry):
    """A handler's RetryAfter in Dramatiq's words; what the handler raised is its cause."""

    goqueue_translated = True


class HandlerExited(Exception):  # noqa: N818  (a verdict in other words: its cause is the error)
    """An async handler's SystemExit or KeyboardInterrupt: raised as such it would end the event loop."""

    goqueue_translated = True


def current_job() -> CurrentJob:
    """The job that the calling handler works on.

    Raises:
        LookupError: no job is being worked on here.
    """
    job = _current.get(None)
    if job is None:
        raise LookupError("no job is being worked on here")
    return job


class JobFunction:
    """An actor's function. Called by Dramatiq's worker it runs an attempt; called by anyone else, itself."""

    def __init__(
        self,
        function: Callable[..., Any],
        job_type: JobType,
        interrupts: Interrupts,
        *,
        result_max_bytes: int,
        has_callback: bool,
        unreadable_wait_seconds: float = 0.0,
    ) -> None:
        self.function = _keeping_the_loop(function)
        self.job_type = job_type
        self.interrupts = interrupts
        self.result_max_bytes = result_max_bytes
        self.has_callback = has_callback
        self.unreadable_wait_seconds = unreadable_wait_seconds

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler."""
        if len(args) == 1 and isinstance(args[0], CurrentJob):
            return self._run(args[0])
        return self.function(*args, **kwargs)

    def _run(self, current: CurrentJob) -> Any:
        """One attempt. Returns the result only where Dramatiq passes it on (a pipe, a callback)."""
        token = _current.set(current)
        current.begin()
        try:
            self._call_armed(current)
        except BaseException as error:
            current.result = None
            if not self._is_stopped(current, error) and not self._is_given_back(current, error):
                raise
        finally:
            current.end()
            _current.reset(token)
        if current.knows_of_cancel:
            current.control = (AttemptOutcome.CANCELLED, 0.0)
            return None
        if current.result is not None and (self.has_callback or current.claimed.options):
            return json.loads(current.result)
        return None

    @staticmethod
    def _is_stopped(current: CurrentJob, error: BaseException) -> bool:
        """Whether what a handler raised is no failure: then how the attempt ended is noted.

        Whatever a handler makes of its interrupt (an async one that is slow to end, a clean-up that fails),
        the attempt was stopped from outside.
        """
        if current.cancel_requested:
            current.control = (AttemptOutcome.CANCELLED, 0.0)
        elif isinstance(error, Snooze):
            current.control = (AttemptOutcome.SNOOZED, error.seconds)
        elif isinstance(error, RetryAfter) and error.scope == "queue":
            current.slow_down = describe(error)[0]
            current.control = (AttemptOutcome.SNOOZED, min(max(0.0, error.seconds), MAX_SLOW_DOWN_SECONDS))
        elif isinstance(error, RetryAfter):
            raise RetryRequested(str(error), delay=max(0, round(error.seconds * 1000))) from error
        elif current.interruption is not None:
            current.control = (current.interruption, 0.0)
        elif current.deadline is not None and time.monotonic() >= current.deadline:
            raise DeadlineExceeded from error
        return current.control is not None

    def _is_given_back(self, current: CurrentJob, error: BaseException) -> bool:
        """Whether the job goes back because this version of its type cannot read its payload: another may.

        Raises:
            Discard: it may not wait for one any more.
        """
        wrong: BaseException | None = error if isinstance(error, PayloadError) else None
        if _failed_to_call(error) and not self.job_type.takes(current.claimed.payload):
            wrong = error
        if wrong is None:
            return False
        text = f"the payload does not fit its type any more: {wrong}"
        if not self.unreadable_wait_seconds or current.claimed.unreadable_is_over:
            raise Discard(text) from None
        schema = replace(self.job_type, name=current.type).schema_hash()
        current.unreadable = Unreadable(text, schema, self.unreadable_wait_seconds)
        current.control = (AttemptOutcome.INTERRUPTED, 0.0)
        log.warning("payload_unreadable", job_id=current.id, type=current.type, schema=schema)
        return True

    def _call_armed(self, current: CurrentJob) -> None:
        """The handler between arm and disarm: an interrupt may land in here and nowhere else."""
        limit = current.claimed.time_limit_seconds or self.job_type.time_limit_seconds
        try:
            try:
                self.interrupts.arm(current, limit)
                args, kwargs = self._arguments(current)
                current.result = self._encoded(self.function(*args, **kwargs))
            finally:
                self.interrupts.disarm()
        except BaseException:
            # The one interrupt of an attempt may land on the way into disarm: then it is still armed.
            self.interrupts.disarm()
            raise

    def _arguments(self, current: CurrentJob) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return self.job_type.arguments(current.claimed.payload)
        except InvalidJobError as error:
            raise PayloadError(str(error)) from None

    def _encoded(self, result: Any) -> str | None:
        if result is None:
            return None
        try:
            text = _encode(plain(result))
            size = len(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultError(f"the result is not JSON: {error}") from None
        if size > self.result_max_bytes:
            raise ResultError(f"the result has {size} bytes; at most {self.result_max_bytes} are kept")
        if holds_nul(text):
            raise ResultError("the result is not JSON that PostgreSQL can keep: it holds a NUL character")
        return text


def _failed_to_call(error: BaseException) -> bool:
    """Whether it was raised by calling the handler with arguments that it does not take, not in it."""
    if not isinstance(error, TypeError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename == __file__


def _keeping_the_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; an async one such that nothing it raises ends the event loop of its process."""
    if getattr(function, "__code__", None) is not _ASYNC_WRAPPER:
        return function
    handler = function.__wrapped__  # type: ignore[attr-defined]  # functools.wraps sets it

    @functools.wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await handler(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExited from error

    return async_to_sync(run)


#: How Dramatiq's wrapper around an async function is told from a user's own decorators.
_ASYNC_WRAPPER = async_to_sync(_keeping_the_loop).__code__  # type: ignore[arg-type]  # only its code is wanted
