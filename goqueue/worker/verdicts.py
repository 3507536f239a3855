"""Substitutes for exceptions of handlers: a verdict in Dramatiq's words, or an exception of the same name."""

from __future__ import annotations

import math
from typing import Any

from dramatiq.errors import Retry

from goqueue.errors import RetryAfter, Snooze, Translated
from goqueue.jobs import MAX_DELAY_SECONDS
from goqueue.middleware.lifecycle import Failure


class RetryRequested(Translated, Retry):
    """A handler's RetryAfter in Dramatiq's words; what the handler raised is its cause."""


class HandlerExited(Translated):
    """An async handler's SystemExit or KeyboardInterrupt: raised as such it would end the event loop."""


class ReadElsewhere(Exception):  # noqa: N818  (it only carries what a handler raised)
    """Carries what a handler raised in another process, where it was read."""

    def __init__(self, failure: Failure, stand_in: BaseException) -> None:
        super().__init__(failure.error)
        self.failure = failure
        self.stand_in = stand_in


class HarmfulError(Exception):
    """Stands for an exception that raises when it is looked at: nobody after the handler meets that one."""


class HarmfulFinalError(HarmfulError):
    """A HarmfulError for one of the exceptions after which the type is not retried."""


def verdict_of(error: BaseException, failure: Failure) -> BaseException:
    """Make a handler's verdict anew, with the attributes that it has now; another exception is itself.

    Raises:
        BaseException: what reading them raised.
    """
    kind = type(error)
    if issubclass(kind, Snooze):
        return Snooze(_number(error.seconds))  # type: ignore[attr-defined]  # a Snooze has them
    text = failure.error.partition(": ")[2]
    if issubclass(kind, RetryAfter):
        return RetryAfter(_number(error.seconds), text, scope=error.scope)  # type: ignore[attr-defined]
    if issubclass(kind, Retry):
        delay = error.delay  # type: ignore[attr-defined]
        requested = RetryRequested(text, delay=None if delay is None else round(_within_a_decade(delay)))
        requested.__cause__ = None if failure.is_harmful else error
        return requested
    return error


def problem_of_wait(wrong: BaseException) -> str:
    """Tell what is wrong with how long to wait: as `seconds_to_wait` says it, or that it cannot be read."""
    told = BaseException.__dict__["args"].__get__(wrong)
    is_ours = type(wrong) in {TypeError, ValueError} and len(told) == 1 and type(told[0]) is str
    return told[0] if is_ours and told[0].startswith("seconds: ") else "for how long to wait cannot be read"


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(f"seconds: expected a number of seconds to wait, got {value!r}"[:200])
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _within_a_decade(milliseconds: Any) -> float:
    number = _number(milliseconds)
    if not 0 <= number <= MAX_DELAY_SECONDS * 1000:
        raise ValueError("expected a time to wait")
    return number
