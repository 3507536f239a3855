"""The message that Dramatiq's worker passes around for a claimed job, and what is noted on it on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import orjson
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry

from goqueue.config.bounds import is_number
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    AttemptOutcome,
    ClaimedJob,
    FailureKind,
    JobStatus,
    NewJob,
    Outcome,
)
from goqueue.observability.tracing import AttemptTrace

if TYPE_CHECKING:
    from goqueue.middleware.lifecycle import Failure


class Reports(Protocol):
    """Where what handlers say about their jobs goes: the reporter of their process."""

    def progress(self, current: CurrentJob, fraction: float, text: str | None) -> None:
        """Note how far a job has come; never blocks."""

    def log(self, current: CurrentJob, text: str) -> None:
        """Note a line of its log; never blocks."""


class ClaimTimes(NamedTuple):
    """When a batch of jobs was claimed.

    Attributes:
        asked_at, claimed_at: when the claim was asked for and answered, by this machine's monotonic clock.
        clock: what PostgreSQL's clock, in seconds since 1970, was ahead of that one.
        fresh_until: until then what people want of its jobs need not be looked at again.
    """

    asked_at: float
    claimed_at: float
    clock: float
    fresh_until: float

    @classmethod
    def of_claim(cls, claimed_at: float, asked_at: float, *, fresh_seconds: float = 0.0) -> Self:
        """The times of a claim that was answered just now, and made at `claimed_at` by PostgreSQL's clock."""
        now = time.monotonic()
        return cls(asked_at, now, claimed_at - now, asked_at + fresh_seconds)


class Unreadable(NamedTuple):
    """That a payload does not fit its type as this process knows it.

    Attributes:
        error: what is wrong with it.
        schema: the hash of the type's schema here.
        wait_seconds: how long the job waits for a worker with another schema.
    """

    error: str
    schema: str
    wait_seconds: float


class CurrentJob:
    """The job that a handler works on: what `goqueue.current_job()` returns.

    Its methods may be called from any thread, also from one that the handler started and gave it to.

    Attributes:
        id: the job's id.
        attempt: which run this is, from 1.
        fence: the number under which this worker holds the job.
        queue, type, max_retries: as the job was created.
    """

    __slots__ = (
        "ask_parents",
        "attempt",
        "cancel_requested",
        "claimed",
        "control",
        "deadline",
        "failure",
        "fence",
        "fresh_until",
        "id",
        "interruption",
        "is_noted",
        "knows_of_cancel",
        "lane",
        "report",
        "reports",
        "result",
        "run_seconds",
        "runway",
        "slow_down",
        "started",
        "suspect",
        "times",
        "trace",
        "unreadable",
    )

    def __init__(
        self,
        claimed: ClaimedJob,
        runway: str,
        reports: Reports | None = None,
        ask_parents: Callable[[int], dict[int, Any]] | None = None,
        times: ClaimTimes | None = None,
    ) -> None:
        self.claimed = claimed
        self.times = times or ClaimTimes.of_claim(claimed.claimed_at, time.monotonic())
        #: Until then it may begin without a look at what people want of it, or at the clock.
        self.fresh_until = self.times.fresh_until
        if claimed.expires_seconds is not None or claimed.deadline_seconds is not None:
            self.fresh_until = min(self.fresh_until, self.begins_before)
        #: Reads what the parents of a job returned.
        self.ask_parents = ask_parents
        self.reports = reports
        #: What the reporter keeps of it, once it said something.
        self.report: Any = None
        self.runway = runway
        #: The signature of the lane of that runway which its message came from, if it came from one.
        self.lane = ""
        #: Its worker died, and it runs beside others again: the one suspect of this process.
        self.suspect = False
        self.id = claimed.id
        self.attempt = claimed.attempt
        self.fence = claimed.fence
        #: When the handler began, by the same clock; 0 while it has not.
        self.started = 0.0
        self.run_seconds = 0.0
        #: Its begin was noted, and its wait counted, while it still ran.
        self.is_noted = False
        #: The handler's result as JSON text, once it returned.
        self.result: str | None = None
        #: Set when the attempt ended without a success or a failure: how, and after how long to run again.
        self.control: tuple[AttemptOutcome, float] | None = None
        #: What was read of the exception that the handler raised, behind the id of what stands for it.
        self.failure: tuple[int, Failure] | None = None
        #: The error of a handler that asked to slow its queue down, if it did.
        self.slow_down: str | None = None
        #: Why its payload could not be read here, where another worker may.
        self.unreadable: Unreadable | None = None
        #: The trace that it runs in, while it runs, if it has one.
        self.trace: AttemptTrace | None = None
        #: Why it was interrupted from outside, if it was.
        self.interruption: AttemptOutcome | None = None
        #: Someone wants it stopped.
        self.cancel_requested = False
        #: And the handler knows: it asked, or was interrupted for it.
        self.knows_of_cancel = False
        #: When it must end, by this machine's monotonic clock.
        self.deadline: float | None = None
        if claimed.deadline_seconds is not None:
            self.deadline = self.times.claimed_at + claimed.deadline_seconds

    @property
    def cancelled(self) -> bool:
        """Whether someone wants this job stopped: the handler should tidy up and return.

        What it returns then is not kept: the job is `cancelled`. A handler that goes on is interrupted after
        `cancel_cooperation_seconds`.
        """
        if self.cancel_requested:
            self.knows_of_cancel = True
        return self.cancel_requested

    def progress(self, fraction: float, text: str | None = None) -> None:
        """Say how far the job has come; the latest counts, and can be read within half a second.

        Args:
            fraction: 0 to 1.
            text: what is being done, in a few words; at most 1,000 characters are kept.

        Raises:
            ValueError: the fraction is out of range, or not a number.
        """
        try:
            number = math.nan if isinstance(fraction, str | bytes) else float(fraction)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1:
            raise ValueError(f"progress: expected 0 to 1, got {fraction!r}")
        if self.reports is not None:
            self.reports.progress(self, number, text)

    def log(self, text: str) -> None:
        """Add a line to the log of this attempt, of which `attempt_log_max_bytes` are kept."""
        if self.reports is not None:
            self.reports.log(self, text)

    def parent_results(self) -> dict[int, Any]:
        """What the jobs that this one waited for returned: id → result; read anew at each call.

        A parent that did not complete (this job runs all the same by its policy), or was deleted since, is
        left out.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self.ask_parents(self.id) if self.ask_parents is not None else {}

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

    @property
    def begins_before(self) -> float:
        """It may not begin after this, by the monotonic clock; infinite where nothing limits its time.

        PostgreSQL looked at its clock after the claim was asked for: so what is left counts from then.
        """
        left = (self.claimed.expires_seconds, self.claimed.deadline_seconds)
        return self.times.asked_at + min((one for one in left if one is not None), default=math.inf)

    @property
    def wait_seconds(self) -> float:
        """From the moment at which it could have started until its handler began."""
        return self.claimed.wait_seconds + self.started - self.times.claimed_at

    @property
    def begun(self) -> float | None:
        """When its handler began, in seconds since 1970 by PostgreSQL's clock; None: it has not."""
        return self.times.clock + self.started if self.started else None

    @property
    def begun_at(self) -> datetime:
        """When its handler began, by PostgreSQL's clock; while it has not, when it was claimed."""
        return datetime.fromtimestamp(
            self.times.clock + self.started if self.started else self.claimed.claimed_at, UTC
        )

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
        self.args: tuple[Any, ...] = (current,)
        self.kwargs: dict[str, Any] = {}
        self.options: dict[str, Any] = {
            **(readable_options(claimed.options) if claimed.options else _NO_OPTIONS),
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
        """The handler itself said when to retry: what `Retries` then does not spread."""
        exception = self._exception
        return isinstance(exception, Retry) and exception.delay is not None

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
        failure_kind: FailureKind | None = None,
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
            failure_kind=failure_kind,
            unreadable_by=current.unreadable and current.unreadable.schema,
            unreadable_wait_seconds=current.unreadable.wait_seconds if current.unreadable else 0.0,
            follow_ups=tuple(self.follow_ups),
            begun=current.times.clock + current.started if current.started else None,
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
        return {
            "queue_name": claimed.queue,
            "actor_name": claimed.type,
            "args": called["args"],
            "kwargs": called["kwargs"],
            "options": {name: value for name, value in self.options.items() if name != "throws"},
            "message_id": str(claimed.id),
            "message_timestamp": int(self.current.begun_at.timestamp() * 1000),
        }

    def release(self, attempt_outcome: AttemptOutcome = AttemptOutcome.INTERRUPTED) -> None:
        """Conclude that the job goes back unspent: it was not started, or stopped by no fault of its own."""
        self.conclude(JobStatus.QUEUED, attempt_outcome)


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
