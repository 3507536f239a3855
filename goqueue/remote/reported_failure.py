"""Failures that remote workers report, as the exceptions that stand for them here."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from goqueue.engine import fingerprints
from goqueue.errors import Discard, UndecryptablePayload
from goqueue.middleware.lifecycle import ERROR_MAX_CHARACTERS, TRACEBACK_MAX_CHARACTERS, Failure, storable
from goqueue.worker.verdicts import RetryRequested

__all__ = ["UNDECRYPTABLE", "Ending", "ReportedFailure"]

#: The class of an error of which the worker names none.
UNNAMED = "RemoteError"

#: The class of the error of a job that no worker is given, because its payload cannot be decrypted.
UNDECRYPTABLE = UndecryptablePayload.__name__


class Ending(enum.Enum):
    """The ways in which an attempt ends that did not complete."""

    #: It failed: the policy of its type decides whether and when it runs again.
    FAILED = enum.auto()
    #: It failed for good.
    DISCARDED = enum.auto()
    #: It was stopped because somebody wanted that.
    CANCELLED = enum.auto()
    #: It goes back unspent: its worker stops.
    INTERRUPTED = enum.auto()


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """An attempt that did not complete, in the words of its worker.

    Attributes:
        error: the text of the error.
        error_type: the class of the error, as its language names it.
        retry_after_seconds: when to run it again, instead of the backoff of its type.
    """

    error: str
    error_type: str | None = None
    traceback: str | None = None
    ending: Ending = Ending.FAILED
    retry_after_seconds: float | None = None

    def failure(self, job_type: str) -> Failure:
        """Return what is kept of it."""
        name, text = self.error_type or UNNAMED, storable(self.error)
        error = f"{name}: {text}" if self.error_type else text
        traceback = None if self.traceback is None else storable(self.traceback[-TRACEBACK_MAX_CHARACTERS:])
        kind = fingerprints.kind_of(job_type, name, text, None)
        return Failure(error[:ERROR_MAX_CHARACTERS], traceback, kind)

    def exception(self) -> BaseException:
        """Return what a handler here would have raised."""
        if self.ending is Ending.DISCARDED:
            kind = UndecryptablePayload if self.error_type == UNDECRYPTABLE else Discard
            return kind(self.error)
        if self.retry_after_seconds is not None:
            return RetryRequested(self.error, delay=round(self.retry_after_seconds * 1000))
        name = (self.error_type or UNNAMED).rpartition(".")[2]
        made: BaseException = type(name, (Exception,), {})(self.error)
        return made
