"""The message that Dramatiq's worker passes around for a claimed job, and what is noted on it on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import orjson
from dramatiq import Message
from dramatiq.broker import MessageProxy

from goqueue.jobs import AttemptOutcome, ClaimedJob, JobStatus, NewJob, Outcome


class CurrentJob:
    """The job that a handler works on: what `goqueue.current_job()` returns.

    Attributes:
        id: the job's id.
        attempt: which run this is, from 1.
        fence: the number under which this worker holds the job.
        queue, type, max_retries: as the job was created.
    """

    __slots__ = (
        "attempt",
        "claimed",
        "control",
        "fence",
        "id",
        "interruption",
        "result",
        "run_seconds",
        "runway",
        "started",
    )

    def __init__(self, claimed: ClaimedJob, runway: str) -> None:
        self.claimed = claimed
        self.runway = runway
        self.id = claimed.id
        self.attempt = claimed.attempt
        self.fence = claimed.fence
        self.started = 0.0
        self.run_seconds = 0.0
        #: The handler's result as JSON text, once it returned.
        self.result: str | None = None
        #: Set when the attempt ended without a success or a failure: how, and after how long to run again.
        self.control: tuple[AttemptOutcome, float] | None = None
        #: Why it was interrupted from outside, if it was.
        self.interruption: AttemptOutcome | None = None

    @property
    def queue(self) -> str:
        """The queue that the job was created in."""
        return self.claimed.queue

    @property
    def type(self) -> str:
        """The job's type."""
        return self.claimed.type

    @property
    def max_retries(self) -> int:
        """Retries after the first run."""
        return self.claimed.max_retries

    def begin(self) -> None:
        """Note when the handler starts."""
        self.started = time.monotonic()

    def end(self) -> None:
        """Note for how long it ran."""
        self.run_seconds = time.monotonic() - self.started

    def __repr__(self) -> str:
        return repr(self.claimed)


class JobMessage(MessageProxy):
    """A claimed job as a Dramatiq message.

    `Retries` gives its verdict by `fail()` or by `broker.enqueue(message, delay=…)`: both are only noted.
    The one argument is the CurrentJob, whose repr shows no payload: Dramatiq logs arguments.
    """

    def __init__(self, current: CurrentJob, *, throws: tuple[type[BaseException], ...]) -> None:
        # Not the base's constructor: it wants the Message, which hardly any job needs (see `_message`), and
        # its `__getattr__` would be called for every field that Dramatiq looks at.
        claimed = current.claimed
        self.failed = False
        self._exception: BaseException | None = None
        self.current = current
        self.queue_name = current.runway
        self.actor_name = claimed.type
        self.args = (current,)
        self.kwargs: dict[str, Any] = {}
        self.options: dict[str, Any] = {
            **(claimed.options or _NO_OPTIONS),
            "retries": claimed.attempts - 1,
            "max_retries": claimed.max_retries,
            "throws": throws,
        }
        #: The text of the message in Redis: the job and the fence under which it was pushed.
        self.message_id = f"{claimed.id}.{claimed.fence - 1}"
        self.retry_delay_ms: int | None = None
        self.outcome: Outcome | None = None
        self.follow_ups: list[NewJob] = []

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
        """Itself: a job is its own item of Dramatiq's work queue."""
        return self

    @property
    def retry_is_requested(self) -> bool:
        """The handler itself said when to retry."""
        return getattr(self._exception, "delay", None) is not None

    @property
    def runway(self) -> str:
        """The runway that it was fetched from: its queue's, or the quarantine's."""
        return self.current.runway

    def conclude(
        self,
        status: JobStatus,
        attempt_outcome: AttemptOutcome,
        *,
        error: str | None = None,
        traceback: str | None = None,
        reason: str | None = None,
        delay_seconds: float = 0.0,
    ) -> None:
        """Note how the attempt ended, for the recorder."""
        current = self.current
        completed = status is JobStatus.COMPLETED
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
            follow_ups=tuple(self.follow_ups),
        )

    def asdict(self) -> dict[str, Any]:
        """The message as a plain Dramatiq call of its job: what callbacks are told."""
        claimed = self.current.claimed
        payload = orjson.loads(claimed.payload)
        called = payload if set(payload) == {"args", "kwargs"} else {"args": [payload], "kwargs": {}}
        return {
            "queue_name": claimed.queue,
            "actor_name": claimed.type,
            "args": called["args"],
            "kwargs": called["kwargs"],
            "options": {name: value for name, value in self.options.items() if name != "throws"},
            "message_id": str(claimed.id),
            "message_timestamp": int(claimed.started_at.timestamp() * 1000),
        }

    def release(self, attempt_outcome: AttemptOutcome = AttemptOutcome.INTERRUPTED) -> None:
        """Conclude that the job goes back unspent: it was not started, or stopped by no fault of its own."""
        self.conclude(JobStatus.QUEUED, attempt_outcome)


_NO_OPTIONS: Mapping[str, Any] = {}

#: What was not the job's fault is not counted.
_REFUNDED = frozenset({AttemptOutcome.SNOOZED, AttemptOutcome.INTERRUPTED})
