"""The message that Dramatiq's worker passes around for a claimed job, and what is noted on it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry

from goqueue.config.bounds import is_number
from goqueue.contents.redaction import scrubbed
from goqueue.engine.fingerprints import kind_of
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    AttemptOutcome,
    ClaimedJob,
    FailureKind,
    JobStatus,
    NewJob,
    Outcome,
)
from goqueue.middleware.attempt import JobAttempt

if TYPE_CHECKING:
    from goqueue.middleware.lifecycle import Failure


class JobMessage(MessageProxy):
    """A claimed job as a Dramatiq message.

    `Retries` gives its verdict by `fail()` or by `broker.enqueue(message, delay=…)`: both are only noted.
    The one argument is the JobAttempt, whose repr shows no payload: Dramatiq logs arguments.
    """

    def __init__(self, current: JobAttempt, *, throws: tuple[type[BaseException], ...]) -> None:
        # Not the base's constructor: it wants the Message, which hardly any job needs (see `_message`), and
        # its `__getattr__` would be called for every field that Dramatiq looks at. What only middleware asks
        # for is made when it does.
        self.failed = False
        self._exception: BaseException | None = None
        self.current = current
        self.queue_name = current.runway
        self.actor_name = current.claimed.type
        self.args: tuple[Any, ...] = (current,)
        self.retry_delay_ms: int | None = None
        self.outcome: Outcome | None = None
        #: The exceptions after which it is not retried.
        self.throws = throws

    @cached_property
    def kwargs(self) -> dict[str, Any]:  # type: ignore[override]  # made when asked for, as below
        """The keyword arguments of its call, while users' hooks look at it."""
        return {}

    @cached_property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        """The options of the message, as `Retries` and other middleware know them."""
        claimed = self.current.claimed
        return {
            **(readable_options(claimed.options) if claimed.options else _NO_OPTIONS),
            "retries": claimed.attempts - 1,
            "max_retries": claimed.max_retries,
            "throws": self.throws,
        }

    @cached_property
    def follow_ups(self) -> list[NewJob]:
        """The jobs that are created with the record of its outcome."""
        return []

    @property
    def message_id(self) -> str:  # type: ignore[override]
        """The text of the message in Redis: the job and the fence under which it was pushed."""
        claimed = self.current.claimed
        return f"{claimed.id}.{claimed.fence - 1}"

    @cached_property
    def _message(self) -> Message[Any]:  # type: ignore[override]  # the base sets it; here it is made when asked for
        return Message(
            queue_name=self.queue_name,
            actor_name=self.actor_name,
            args=self.args,
            kwargs=self.kwargs,
            options=self.options,
            message_id=self.message_id,
            message_timestamp=0,
        )

    @property
    def message(self) -> JobMessage:
        """The message itself: a job is its own item of Dramatiq's work queue."""
        return self

    @property
    def retry_is_requested(self) -> bool:
        """The handler itself said when to retry: what `Retries` then does not spread."""
        exception = self._exception
        return isinstance(exception, Retry) and exception.delay is not None

    @property
    def runway(self) -> str:
        """The runway that it was fetched from: its queue's, or the quarantine's."""
        return self.current.runway

    @property
    def failure(self) -> Failure | None:
        """The facts that were read of its failed attempt, once they were."""
        noted = self.current.failure
        return None if noted is None else noted[1]

    def conclude(
        self,
        status: JobStatus,
        attempt_outcome: AttemptOutcome,
        *,
        error: str | None = None,
        traceback: str | None = None,
        reason: str | None = None,
        delay_seconds: float = 0.0,
        failure_kind: FailureKind | None = None,
    ) -> None:
        """Note how the attempt ended, for the recorder."""
        current = self.current
        completed = status is JobStatus.COMPLETED
        follow_ups = tuple(self.follow_ups)
        if current.claimed.encrypted:
            follow_ups = tuple(replace(job, encrypted=True) for job in follow_ups)
        if current.claimed.encrypted or current.claimed.hidden:
            error, traceback, failure_kind = confided(current.claimed, error, traceback, failure_kind)
        self.outcome = Outcome(
            job_id=current.id,
            fence=current.fence,
            status=status,
            attempt_outcome=attempt_outcome,
            result=current.result if completed else None,
            error=error,
            traceback=traceback,
            reason=reason,
            delay_seconds=delay_seconds,
            refund=attempt_outcome in _REFUNDED,
            run_seconds=current.run_seconds,
            failure_kind=failure_kind,
            unreadable_by=current.unreadable and current.unreadable.schema,
            unreadable_wait_seconds=current.unreadable.wait_seconds if current.unreadable else 0.0,
            follow_ups=follow_ups,
            begun=current.times.clock + current.started if current.started else None,
            encrypted=current.claimed.encrypted,
        )

    def complete(self) -> None:
        """Note that the handler returned and nothing else happened."""
        current = self.current
        self.outcome = Outcome(
            current.id,
            current.fence,
            JobStatus.COMPLETED,
            AttemptOutcome.COMPLETED,
            current.result,
            run_seconds=current.run_seconds,
            begun=current.times.clock + current.started,
            encrypted=current.claimed.encrypted,
        )

    def show_call(self) -> None:
        """Let the message look as it was sent, for hooks of users."""
        called = self._call()
        self.args, self.kwargs = tuple(called["args"]), called["kwargs"]

    def hide_call(self) -> None:
        """Let the message be called with its job, for Dramatiq."""
        self.args, self.kwargs = (self.current,), {}

    def _call(self) -> dict[str, Any]:
        payload = orjson.loads(self.current.claimed.payload)
        is_call = isinstance(payload, dict) and payload.keys() <= {"args", "kwargs"}
        if not is_call:
            return {"args": [payload], "kwargs": {}}
        return {"args": payload.get("args", []), "kwargs": payload.get("kwargs", {})}

    def asdict(self) -> dict[str, Any]:
        """The message as a plain Dramatiq call of its job: what callbacks are told."""
        claimed = self.current.claimed
        called = self._call()
        options = {name: value for name, value in self.options.items() if name != "throws"}
        if "traceback" in options and self.failure is not None:
            options["traceback"] = self.failure.traceback
        return {
            "queue_name": claimed.queue,
            "actor_name": claimed.type,
            "args": called["args"],
            "kwargs": called["kwargs"],
            "options": options,
            "message_id": str(claimed.id),
            "message_timestamp": int(self.current.begun_at.timestamp() * 1000),
        }

    def release(self, attempt_outcome: AttemptOutcome = AttemptOutcome.INTERRUPTED) -> None:
        """Conclude that the job goes back unspent: it was not started, or stopped by no fault of its own."""
        self.conclude(JobStatus.QUEUED, attempt_outcome)


def confided(
    claimed: ClaimedJob, error: str | None, traceback: str | None, kind: FailureKind | None
) -> tuple[str | None, str | None, FailureKind | None]:
    """Return what is kept of an error: without redacted values; and its kind without a message.

    The kind of a failure is told of all jobs of a type: where it could quote an encrypted payload, or a
    redacted value, jobs are told apart by their exceptions and places alone.
    """
    texts = [None if text is None else scrubbed(text, claimed.hidden) for text in (error, traceback)]
    quotes = claimed.encrypted or texts != [error, traceback]
    if kind is not None and quotes:
        kind = kind_of(kind.type, kind.exception, "", kind.frame)
    return texts[0], texts[1], kind


def readable_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a job without backoffs that `Retries` cannot compute with: it would give no verdict."""
    if all(is_number(options.get(name, 0), 0, MAX_DELAY_SECONDS * 1000) for name in BACKOFF_OPTIONS):
        return options
    return {name: value for name, value in options.items() if name not in BACKOFF_OPTIONS}


#: Waits before retries, in milliseconds: the first, and the longest.
BACKOFF_OPTIONS = ("min_backoff", "max_backoff")

_NO_OPTIONS: Mapping[str, Any] = {}

#: What was not the job's fault is not counted.
_REFUNDED = frozenset({AttemptOutcome.SNOOZED, AttemptOutcome.INTERRUPTED})
