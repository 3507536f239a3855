"""Operations over many jobs: what they may do to which jobs, and how fast they go. Pure Python."""

from __future__ import annotations

import enum
import math
from datetime import datetime, timedelta

from goqueue.jobs import PRIORITY_RANGE, JobStatus

MIN_RATE = 0.001
MAX_RATE = 100_000.0
MAX_CANARY = 1_000

#: Jobs of one step, and so of one transaction: it holds their locks for some tens of milliseconds.
STEP_MAX = 500

#: A step may catch up so much of the time in which nothing was done; more would be a burst.
BURST = timedelta(seconds=1)


class BulkAction(enum.StrEnum):
    """What is done to each job. The words are those of single jobs."""

    RETRY = "retry"
    CANCEL = "cancel"
    DELETE = "delete"
    SET_PRIORITY = "set_priority"


class BulkState(enum.StrEnum):
    """Where an operation stands.

    canary: it does the first few jobs, or waits for their end. The operator moves it to running, stopped or
        completed.
    running: it does the others. The operator moves it to completed, or to stopped when PostgreSQL refuses.
    completed: it is through. Final.
    aborted: someone stopped it. Final.
    stopped: a canary did not complete. Final.
    """

    CANARY = "canary"
    RUNNING = "running"
    COMPLETED = "completed"
    ABORTED = "aborted"
    STOPPED = "stopped"


#: The statuses that each action changes. The first is the default; what is deleted has to be said.
STATUSES: dict[BulkAction, tuple[JobStatus, ...]] = {
    BulkAction.RETRY: (JobStatus.FAILED, JobStatus.CANCELLED),
    BulkAction.CANCEL: (JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.RUNNING),
    BulkAction.DELETE: (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.COMPLETED, JobStatus.EXPIRED),
    BulkAction.SET_PRIORITY: (JobStatus.QUEUED, JobStatus.BLOCKED),
}


def status_of(action: BulkAction, status: JobStatus | None, *, of_a_kind: bool) -> JobStatus | None:
    """Return the status of the jobs that an action shall change; None where the caller has to name it.

    Args:
        action: what is done.
        status: what was said.
        of_a_kind: a fingerprint was said, and so: failed jobs.
    """
    if status is not None:
        return status
    if of_a_kind:
        return JobStatus.FAILED
    return None if action is BulkAction.DELETE else STATUSES[action][0]


def problems_of(
    action: BulkAction,
    status: JobStatus | None,
    *,
    of_a_kind: bool = False,
    priority: int | None = None,
    rate: float | None = None,
    canary: int | None = None,
) -> dict[str, str]:
    """Say what is wrong with an operation, as field → what was expected, given what `status_of` returned."""
    problems = {}
    allowed = STATUSES[action]
    if status is None or status not in allowed:
        problems["filter.status"] = f"expected one of {', '.join(allowed)} to {action}"
    elif of_a_kind and status is not JobStatus.FAILED:
        problems["filter.status"] = "expected failed, or none, with a fingerprint"
    if action is BulkAction.SET_PRIORITY:
        low, high = PRIORITY_RANGE
        if not isinstance(priority, int) or not low <= priority <= high:
            problems["arguments.priority"] = f"expected a number from {low} to {high}"
    elif priority is not None:
        problems["arguments.priority"] = f"expected none: {action} takes no arguments"
    if rate is not None and not (_is_number(rate) and MIN_RATE <= rate <= MAX_RATE):
        problems["rate"] = f"expected {MIN_RATE:g} to {MAX_RATE:g} jobs a second"
    if canary is not None and action is not BulkAction.RETRY:
        problems["canary"] = "expected none: only what is retried can succeed"
    elif canary is not None and not (isinstance(canary, int) and 1 <= canary <= MAX_CANARY):
        problems["canary"] = f"expected 1 to {MAX_CANARY} jobs"
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def allowance(rate: float | None, next_at: datetime, now: datetime) -> int:
    """Return how many jobs the next step may change now.

    Args:
        rate: jobs a second; None is without limit.
        next_at: when the next job is due.
        now: PostgreSQL's time.
    """
    if rate is None:
        return STEP_MAX
    credit = min(now - next_at, BURST).total_seconds()
    return 0 if credit < 0 else min(STEP_MAX, math.floor(credit * rate) + 1)


def due_after(rate: float | None, next_at: datetime, now: datetime, done: int) -> datetime:
    """Return when the next job is due after a step of `done` jobs: each takes its part of a second."""
    if rate is None:
        return now
    return max(next_at, now - BURST) + timedelta(seconds=done / rate)
