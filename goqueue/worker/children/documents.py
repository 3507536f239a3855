"""The documents that a worker and its children send each other: JSON, nothing is ever unpickled.

The worker sends `run` (a claimed job), `cancelled`, `interrupt` and `parents`, the child `ready`, `progress`,
`log`, `parents` and `ended`.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from goqueue.errors import Discard, RetryAfter, Snooze
from goqueue.jobs import ClaimedJob, FailureKind
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.lifecycle import Failure
from goqueue.worker.interrupts import DeadlinePassed, Interrupted, TimeLimitExceeded
from goqueue.worker.verdicts import HarmfulError, HarmfulFinalError, ReadElsewhere, RetryRequested

__all__ = ["claimed_of", "document_of_error", "document_of_job", "error_of"]

_INTERRUPTS = {kind.__name__: kind for kind in (TimeLimitExceeded, DeadlinePassed, Interrupted)}

#: A limit that is over is still one.
_LEAST_SECONDS = 0.001


def document_of_job(current: JobAttempt, limit_seconds: float) -> dict[str, Any]:
    """Write a claimed job, with its limit, and the time that is left until its deadline."""
    document = dataclasses.asdict(current.claimed)
    document["time_limit_seconds"] = limit_seconds
    if current.deadline is not None:
        document["deadline_seconds"] = max(_LEAST_SECONDS, current.deadline - time.monotonic())
    return document


def claimed_of(document: dict[str, Any]) -> ClaimedJob:
    """Read a claimed job."""
    return ClaimedJob(**document)


def document_of_error(
    error: BaseException, failure: Failure, throws: tuple[type[BaseException], ...]
) -> dict[str, Any]:
    """Write what a handler raised: its verdict, or its class, and what was read of it."""
    kind = failure.kind
    return {
        **_verdict_of(error, throws),
        "error": failure.error,
        "traceback": failure.traceback,
        "kind": None if kind is None else dataclasses.asdict(kind),
    }


def _verdict_of(error: BaseException, throws: tuple[type[BaseException], ...]) -> dict[str, Any]:
    kind = type(error)
    if kind.__name__ in _INTERRUPTS and issubclass(kind, _INTERRUPTS[kind.__name__]):
        return {"raised": "interrupt", "name": kind.__name__}
    if isinstance(error, Snooze):
        return {"raised": "snooze", "seconds": error.seconds}
    if isinstance(error, RetryAfter):
        return {"raised": "retry_after", "seconds": error.seconds, "scope": error.scope}
    if isinstance(error, RetryRequested):
        return {"raised": "retry", "delay": error.delay}
    if isinstance(error, Discard):
        return {"raised": "discard"}
    is_final = any(one in type.mro(kind) for one in (*throws, HarmfulFinalError))
    return {"raised": "error", "name": kind.__name__, "module": kind.__module__, "final": is_final}


def error_of(document: dict[str, Any]) -> ReadElsewhere:
    """Read what a handler raised, as an exception that stands for it here."""
    kind = document["kind"]
    failure = Failure(document["error"], document["traceback"], None if kind is None else FailureKind(**kind))
    return ReadElsewhere(failure, _stand_in(document, failure.error.partition(": ")[2]))


def _stand_in(document: dict[str, Any], text: str) -> BaseException:
    match document["raised"]:
        case "interrupt":
            return _INTERRUPTS[document["name"]]()
        case "snooze":
            return Snooze(document["seconds"])
        case "retry_after":
            return RetryAfter(document["seconds"], text, scope=document["scope"])
        case "retry":
            return RetryRequested(text, delay=document["delay"])
        case "discard":
            return Discard(text)
    base = HarmfulFinalError if document["final"] else HarmfulError
    made: BaseException = type(document["name"], (base,), {"__module__": document["module"]})(text)
    return made
