"""Running one attempt: what is wrapped around the function of every declared actor."""

from __future__ import annotations

import contextvars
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import structlog

from goqueue.config.bounds import problem_of_value
from goqueue.engine.options.job_type import JobType, holds_nul, is_unsendable, plain
from goqueue.errors import (
    DeadlineExceeded,
    Discard,
    InvalidJobError,
    RetryAfter,
    Snooze,
    UndecryptablePayload,
    seconds_to_wait,
)
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt, Unreadable
from goqueue.middleware.current_batch import batch_in
from goqueue.middleware.current_job import CurrentJob
from goqueue.middleware.event_loop import EventLoopLostError
from goqueue.middleware.lifecycle import Failure, look_at
from goqueue.observability.exception_reader import NO_TEXT, frames_of
from goqueue.worker.dependencies import injecting
from goqueue.worker.interrupts import DeadlinePassed, Interrupted, Interrupts, TimeLimitExceeded
from goqueue.worker.verdicts import (
    HarmfulError,
    HarmfulFinalError,
    ReadElsewhere,
    RetryRequested,
    problem_of_wait,
    verdict_of,
)

log = structlog.get_logger(__name__)

_current: contextvars.ContextVar[JobAttempt] = contextvars.ContextVar("goqueue_current_job")

# Not orjson: it writes NaN as null, and a result that is not JSON must fail, not change.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

#: What is raised in a handler from outside.
INTERRUPTS = (TimeLimitExceeded, DeadlinePassed, Interrupted)

#: For so long at most an exception is read that a handler raised.
READING_SECONDS = 2.0

#: A queue is not slowed down for longer, whatever the other side asks for.
MAX_SLOW_DOWN_SECONDS = 86_400.0

#: A job whose event loop was lost goes back unspent, unless so many of its runs were: it may be who loses it.
UNSPENT_MAX = 10


class ResultError(TypeError):
    """The handler's result cannot be kept: it is not JSON, or too large."""


class PayloadError(ValueError):
    """The stored payload does not fit the type as this process knows it."""


def current_job() -> CurrentJob:
    """The job that the calling handler works on.

    Raises:
        LookupError: no job is being worked on here.
    """
    job = _current.get(None)
    if job is None:
        in_batch = batch_in(contextvars.copy_context()) is not None
        raise LookupError(
            "a batch is being worked on here: goqueue.current_batch() has its jobs"
            if in_batch
            else "no job is being worked on here"
        )
    return job


def job_in(context: contextvars.Context) -> CurrentJob | None:
    """The job that a context works on, if it does; of a batch, the first one."""
    batch = batch_in(context)
    return context.get(_current) if batch is None else batch[0]


def enter_job(current: JobAttempt) -> None:
    """Make this the job of the calling context, which ends with its task."""
    _current.set(current)


def attempt_here() -> JobAttempt | None:
    """Return the attempt that the calling handler is; None: no job is being worked on here."""
    return _current.get(None)


@contextmanager
def working_on(current: JobAttempt) -> Iterator[None]:
    """Let `current_job()` be this one inside the block."""
    token = _current.set(current)
    try:
        yield
    finally:
        _current.reset(token)


class JobFunction:
    """The function of an actor. Called by Dramatiq's worker it runs an attempt; by anyone else, itself."""

    def __init__(
        self,
        function: Callable[..., Any],
        job_type: JobType,
        interrupts: Interrupts,
        *,
        result_max_bytes: int,
        has_callback: Callable[[], bool],
        throws: tuple[type[BaseException], ...] = (),
        begin_unrepeatable: Callable[[JobAttempt], bool] | None = None,
        unreadable_wait_seconds: float = 0.0,
    ) -> None:
        self.function = function
        self.job_type = job_type
        self.interrupts = interrupts
        self.result_max_bytes = result_max_bytes
        self.has_callback = has_callback
        self.throws = throws
        self.begin_unrepeatable = begin_unrepeatable
        self.unreadable_wait_seconds = unreadable_wait_seconds

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler."""
        if len(args) == 1 and isinstance(args[0], JobAttempt):
            return self.run(args[0])
        return self.function(*args, **kwargs)

    def run(self, current: JobAttempt) -> Any:
        """Run one attempt at a claimed job; return the result only where Dramatiq passes it on.

        Into a pipe, or to a callback.

        Raises:
            BaseException: what stands for the exception of the handler, as `Retries` is to see it.
        """
        if self.begin_unrepeatable is not None and not self.begin_unrepeatable(current):
            current.control = (AttemptOutcome.INTERRUPTED, 0.0)
            return None
        token = _current.set(current)
        current.begin()
        try:
            self._call_armed(current)
        except BaseException as error:
            if not self._is_no_failure(current, error):
                raise
        finally:
            current.end()
            _current.reset(token)
        return self.returned(current)

    def returned(self, current: JobAttempt) -> Any:
        """Return what Dramatiq is told that an attempt returned that did not fail."""
        if current.knows_of_cancel:
            current.control = (AttemptOutcome.CANCELLED, 0.0)
            return None
        if current.result is not None and (current.claimed.options or self.has_callback()):
            return json.loads(current.result)
        return None

    def _is_no_failure(self, current: JobAttempt, error: BaseException) -> bool:
        """Whether what a handler raised is none: then how the attempt ended is noted."""
        current.result = None
        return self._is_stopped(current, error) or self._is_given_back(current, error)

    @staticmethod
    def _is_stopped(current: JobAttempt, error: BaseException) -> bool:
        """Whether what a handler raised is no failure: then how the attempt ended is noted.

        Whatever a handler makes of its interrupt (an async one that is slow to end, a clean-up that fails),
        the attempt was stopped from outside.
        """
        if current.cancel_requested:
            current.control = (AttemptOutcome.CANCELLED, 0.0)
        elif isinstance(error, Snooze):
            current.control = (AttemptOutcome.SNOOZED, seconds_to_wait(error.seconds))
        elif isinstance(error, RetryAfter) and error.scope == "queue":
            seconds = min(seconds_to_wait(error.seconds, math.inf), MAX_SLOW_DOWN_SECONDS)
            current.slow_down = None if current.failure is None else current.failure[1].error
            current.control = (AttemptOutcome.SNOOZED, seconds)
        elif isinstance(error, RetryAfter):
            raise RetryRequested(str(error), delay=round(seconds_to_wait(error.seconds) * 1000)) from error
        elif current.interruption is not None:
            current.control = (current.interruption, 0.0)
        elif isinstance(error, EventLoopLostError) and current.fence - current.attempt < UNSPENT_MAX:
            current.control = (AttemptOutcome.INTERRUPTED, 0.0)
        elif current.deadline is not None and time.monotonic() >= current.deadline:
            current.failure = None
            raise DeadlineExceeded from error
        return current.control is not None

    def _is_given_back(self, current: JobAttempt, error: BaseException) -> bool:
        """Whether the job goes back because this version of its type cannot read its payload: another may.

        Raises:
            Discard: it may not wait for one any more.
        """
        wrong: BaseException | None = error if type(error) is PayloadError else None
        if _failed_to_call(error) and not self.job_type.takes(current.claimed.payload):
            wrong = error
        if wrong is None:
            return False
        text = f"the payload does not fit its type any more: {wrong}"
        current.failure = None
        is_final = not self.unreadable_wait_seconds or current.claimed.unreadable_is_over
        if is_final or is_unsendable(current.claimed.payload):
            raise Discard(text) from None
        schema = replace(self.job_type, name=current.type).schema_hash()
        current.unreadable = Unreadable(text, schema, self.unreadable_wait_seconds)
        current.control = (AttemptOutcome.INTERRUPTED, 0.0)
        log.warning("payload_unreadable", job_id=current.id, type=current.type, schema=schema)
        return True

    def _call_armed(self, current: JobAttempt) -> None:
        """The handler between arm and disarm: an interrupt may land in here and nowhere else."""
        limit = current.claimed.time_limit_seconds or self.job_type.time_limit_seconds
        raised: BaseException | None = None
        try:
            try:
                self.interrupts.arm(current, limit)
                args, kwargs = self._arguments(current)
                current.result = self._encoded(self.function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  (raised below, when it has been read)
                raised = self._read(current, error)
            finally:
                self.interrupts.disarm()
        except BaseException as error:
            # The one interrupt of an attempt may land on the way into disarm: then it is still armed.
            self.interrupts.disarm()
            if raised is None:
                error.__context__ = None
                raise
        if raised is not None:
            raise raised

    def _read(self, current: JobAttempt, error: BaseException) -> BaseException:
        """The exception, read and noted; or one that says the same and runs none of its code.

        What an exception says of itself is its handler's code, which may raise, exit, or never end.
        """
        self.interrupts.rearm(current, READING_SECONDS)
        failure: Failure | None = None
        harmless = error
        with suppress(*INTERRUPTS):
            failure, harmless = self._failure_of(current, error)
        if self.interrupts.disarm() or failure is None:
            harmless = self._stand_in(error, NO_TEXT).with_traceback(frames_of(error))
            failure = look_at(current.type, harmless)
        current.failure = id(harmless), failure
        return harmless

    def _failure_of(self, current: JobAttempt, error: BaseException) -> tuple[Failure, BaseException]:
        if type(error) is ReadElsewhere:
            return error.failure, error.stand_in
        failure = look_at(current.type, error, let_through=INTERRUPTS)
        text = failure.error.partition(": ")[2]
        try:
            harmless = verdict_of(error, failure)
        except BaseException as wrong:  # an attribute of a verdict may raise anything
            if type(wrong) in INTERRUPTS:
                raise
            why = problem_of_wait(wrong)
            text = f"{text} ({why})"
            failure = failure._replace(error=f"{failure.error} ({why})")
            return failure, self._stand_in(error, text).with_traceback(frames_of(error))
        if harmless is error and failure.is_harmful:
            harmless = self._stand_in(error, text)
        return failure, harmless if harmless is error else harmless.with_traceback(frames_of(error))

    def _stand_in(self, error: BaseException, text: str) -> HarmfulError:
        """A simple exception of the same name, and of `throws` where the other was."""
        is_final = any(kind in type.mro(type(error)) for kind in self.throws)
        module = type.__dict__["__dict__"].__get__(type(error)).get("__module__")
        made: HarmfulError = type(
            type.__dict__["__name__"].__get__(type(error)),
            (HarmfulFinalError if is_final else HarmfulError,),
            {"__module__": module if type(module) is str else "builtins"},
        )(text)
        return made

    def _arguments(self, current: JobAttempt) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if current.claimed.undecryptable is not None:
            raise UndecryptablePayload(f"the payload cannot be decrypted: {current.claimed.undecryptable}")
        try:
            return self.job_type.arguments(current.claimed.payload)
        except InvalidJobError as error:
            raise PayloadError(str(error)) from None

    def _encoded(self, result: Any) -> str | None:
        if result is None:
            return None
        try:
            value = plain(result)
            text = _encode(value)
            size = len(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultError(f"the result is not JSON: {error}") from None
        if size > self.result_max_bytes:
            raise ResultError(f"the result has {size} bytes; at most {self.result_max_bytes} are kept")
        if holds_nul(text):
            raise ResultError("the result is not JSON that PostgreSQL can keep: it holds a NUL character")
        if problem := problem_of_value(value, text):
            raise ResultError(f"the result cannot be read back: {problem}")
        return text


def call_handler(handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call an async handler, which makes its coroutine; it may not take these arguments."""
    return handler(*args, **kwargs)


def _failed_to_call(error: BaseException) -> bool:
    """Whether it was raised by calling the handler with arguments that it does not take, not in it."""
    if not issubclass(type(error), TypeError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(frames_of(error))]
    return bool(frames) and frames[-1].f_code.co_filename in {__file__, injecting.__file__}
