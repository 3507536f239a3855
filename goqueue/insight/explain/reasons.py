"""The answer: which reasons there are, and what an explanation is made of."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from goqueue.jobs import JobStatus
from goqueue.observability.printable import printable


class ReasonCode(enum.StrEnum):
    """Why a job does not run, or what it does instead. Each is a row of the table in docs/explain.md."""

    # It runs, or is about to.
    RUNNING = "running"
    CLAIMED = "claimed"
    CANCEL_REQUESTED = "cancel_requested"
    WORKER_LOST = "worker_lost"
    # Its own time, and other jobs.
    EXPIRED = "expired"
    OUT_OF_ATTEMPTS = "out_of_attempts"
    DEPENDENCY_PENDING = "dependency_pending"
    NOT_RELEASED = "not_released"
    WAITS_FOR_TIME = "waits_for_time"
    # Its queue and its type are stopped, or nobody is there.
    QUEUE_PAUSED = "queue_paused"
    QUEUE_THROTTLED = "queue_throttled"
    NO_WORKER = "no_worker"
    UNKNOWN_TYPE = "unknown_type"
    UNREADABLE_PAYLOAD = "unreadable_payload"
    LABELS_MISSING = "labels_missing"
    VERSION_TOO_LOW = "version_too_low"
    WORKERS_TOO_SMALL = "workers_too_small"
    BREAKER_OPEN = "breaker_open"
    BREAKER_HALF_OPEN = "breaker_half_open"
    SUSPECTED = "suspected"
    QUARANTINED = "quarantined"
    # Limits.
    KEY_BLOCKED = "key_blocked"
    LIMIT_REACHED = "limit_reached"
    RATE_LIMITED = "rate_limited"
    RAMPING = "ramping"
    # Its place in the order.
    NOT_DISPATCHED = "not_dispatched"
    WAITING_FOR_TURN = "waiting_for_turn"
    JOBS_AHEAD = "jobs_ahead"
    WORKERS_BUSY = "workers_busy"
    STARTING_NOW = "starting_now"
    # A note.
    EXPIRING = "expiring"


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason why a job does not run, with its evidence.

    Attributes:
        message: a sentence for a human, without its full stop.
        evidence: what it was concluded from; its members depend on the code.
        ends_at: when it ends by itself; None where that is not known.
        waits: nobody knows when it ends.
    """

    code: ReasonCode
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    ends_at: datetime | None = None
    waits: bool = False

    def as_document(self) -> dict[str, Any]:
        """Return the reason as the API writes it in JSON."""
        return {"code": self.code.value, "message": self.message, "evidence": dict(self.evidence)}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation why a job does not run, at the moment of the question.

    Attributes:
        summary: one sentence.
        reasons: the first is the one that decides; empty for a finished job.
        ahead: how many jobs come before it, counted up to a bound (see the evidence); None: it has no place
            in the order now.
        expected_start_at: when it will start, if everything goes on as it does now; None: not known.
        rate_per_second: the starts of its queue a second, measured over the last minute; None: not asked.
    """

    job_id: int
    status: JobStatus
    summary: str
    reasons: tuple[Reason, ...] = ()
    ahead: int | None = None
    expected_start_at: datetime | None = None
    rate_per_second: float | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the explanation as the API writes it in JSON."""
        return {
            "job_id": self.job_id,
            "status": self.status.value,
            "summary": self.summary,
            "reasons": [reason.as_document() for reason in self.reasons],
            "ahead": self.ahead,
            "expected_start_at": self.expected_start_at,
            "rate_per_second": self.rate_per_second,
        }

    def as_text(self) -> str:
        """Return the explanation as a human reads it on a terminal: the summary, then a line a reason."""
        lines = [self.summary]
        lines += [f"  {number}. {reason.code.value}: {reason.message}" for number, reason in self._numbered()]
        if self.ahead is not None:
            lines.append(f"  ahead: {self.ahead}")
        if self.expected_start_at is not None:
            lines.append(f"  expected start: {self.expected_start_at:%Y-%m-%d %H:%M:%S} UTC")
        if self.rate_per_second is not None:
            lines.append(f"  starts of the queue: {self.rate_per_second:.3g} a second")
        # Names, keys and errors are what clients made them.
        return "\n".join(map(printable, lines))

    def _numbered(self) -> enumerate[Reason]:
        return enumerate(self.reasons, 1)
