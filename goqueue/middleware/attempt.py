"""One attempt at a claimed job: what the engine notes of it, from its claim until its outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from goqueue.jobs import AttemptOutcome, ClaimedJob
from goqueue.middleware.current_job import CurrentJob, Reports
from goqueue.observability.tracing import AttemptTrace

if TYPE_CHECKING:
    from goqueue.middleware.lifecycle import Failure


class ClaimTimes(NamedTuple):
    """The times of the claim of a batch of jobs.

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
    """Notes that a payload does not fit its type as this process knows it.

    Attributes:
        error: what is wrong with it.
        schema: the hash of the type's schema here.
        wait_seconds: how long the job waits for a worker with another schema.
    """

    error: str
    schema: str
    wait_seconds: float


class JobAttempt(CurrentJob):
    """A claimed job, and what became of it on its way through this process.

    Attributes:
        times: when it was claimed.
        fresh_until: until then it may begin without a look at what people want of it, or at the clock.
        runway: where its message was fetched.
        lane: the signature of the lane of that runway which its message came from, if it came from one.
        has_async_slot: its place is a slot of the event loop, not of a thread.
        has_message: its own message stands in Redis until its outcome is recorded; a range has none.
        suspect: its worker died, and it runs beside others again: the one suspect of this process.
        started: when the handler began, by this machine's monotonic clock; 0 while it has not.
        run_seconds: for how long the handler ran.
        is_noted: its begin was noted, and its wait counted, while it still ran.
        result: the handler's result as JSON text, once it returned.
        control: set when the attempt ended without a success or a failure: how, and after how long to run
            again.
        failure: what was read of the exception that the handler raised, behind the id of what stands for it.
        slow_down: the error of a handler that asked to slow its queue down, if it did.
        unreadable: why its payload could not be read here, where another worker may.
        trace: the trace that it runs in, while it runs, if it has one.
        interruption: why it was interrupted from outside, if it was.
        deadline: when it must end, by this machine's monotonic clock.
    """

    __slots__ = (
        "control",
        "deadline",
        "failure",
        "fresh_until",
        "has_async_slot",
        "has_message",
        "interruption",
        "is_noted",
        "lane",
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
        # Longer than other functions: a call more for each job would be felt.
        self.claimed = claimed
        self.id = claimed.id
        self.attempt = claimed.attempt
        self.fence = claimed.fence
        self.times = times or ClaimTimes.of_claim(claimed.claimed_at, time.monotonic())
        self.fresh_until = self.times.fresh_until
        if claimed.expires_seconds is not None or claimed.deadline_seconds is not None:
            self.fresh_until = min(self.fresh_until, self.begins_before)
        self.deadline: float | None = None
        if claimed.deadline_seconds is not None:
            self.deadline = self.times.claimed_at + claimed.deadline_seconds
        self._ask_parents = ask_parents
        self._reports = reports
        self.report = None
        self.runway = runway
        self.lane = ""
        self.has_async_slot = False
        self.has_message = True
        self.suspect = False
        self.started = 0.0
        self.run_seconds = 0.0
        self.is_noted = False
        self.result: str | None = None
        self.control: tuple[AttemptOutcome, float] | None = None
        self.failure: tuple[int, Failure] | None = None
        self.slow_down: str | None = None
        self.unreadable: Unreadable | None = None
        self.trace: AttemptTrace | None = None
        self.interruption: AttemptOutcome | None = None
        self.cancel_requested = False
        self.knows_of_cancel = False

    @property
    def begins_before(self) -> float:
        """Tell until when it may begin, by the monotonic clock; infinite where nothing limits its time.

        PostgreSQL looked at its clock after the claim was asked for: so what is left counts from then.
        """
        left = (self.claimed.expires_seconds, self.claimed.deadline_seconds)
        return self.times.asked_at + min((one for one in left if one is not None), default=math.inf)

    @property
    def wait_seconds(self) -> float:
        """The time from the moment at which the job could have started until its handler began."""
        return self.claimed.wait_seconds + self.started - self.times.claimed_at

    @property
    def begun(self) -> float | None:
        """Tell when its handler began, in seconds since 1970 by PostgreSQL's clock; None: it has not."""
        return self.times.clock + self.started if self.started else None

    @property
    def begun_at(self) -> datetime:
        """Tell when its handler began, by PostgreSQL's clock; while it has not, when it was claimed."""
        return datetime.fromtimestamp(
            self.times.clock + self.started if self.started else self.claimed.claimed_at, UTC
        )

    def begin(self) -> None:
        """Note when the handler starts."""
        self.started = time.monotonic()

    def end(self) -> None:
        """Note for how long it ran."""
        self.run_seconds = time.monotonic() - self.started
