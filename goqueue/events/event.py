"""Events: what they are called, and what they say."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Event", "EventKind"]


class EventKind(enum.StrEnum):
    """The kinds of events. The text is what `events.kind` has, and what clients see."""

    #: A job exists.
    JOB_CREATED = "job.created"
    #: The jobs that it waited for have ended: it may start.
    JOB_RELEASED = "job.released"
    #: A worker has it. (What it has not begun it may give back: `job.returned`.)
    JOB_STARTED = "job.started"
    #: Its handler said how far it is.
    JOB_PROGRESS = "job.progress"
    #: An attempt failed, and it will run again.
    JOB_RETRIED = "job.retried"
    #: Its handler put it off.
    JOB_SNOOZED = "job.snoozed"
    #: An attempt ended by no fault of its own: a shutdown, a lost worker. It will run again.
    JOB_INTERRUPTED = "job.interrupted"
    #: It was claimed, had not begun, and waits again.
    JOB_RETURNED = "job.returned"
    #: It waits, and its payload, priority, start or requirements are others now.
    JOB_EDITED = "job.edited"
    #: It runs, and somebody wants it stopped.
    JOB_CANCEL_REQUESTED = "job.cancel_requested"
    #: It ended.
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_EXPIRED = "job.expired"
    #: It had ended, and somebody let it run again.
    JOB_REPLAYED = "job.replayed"
    #: Nothing of a queue starts; or its pause was changed.
    QUEUE_PAUSED = "queue.paused"
    #: Jobs of a queue start again.
    QUEUE_RESUMED = "queue.resumed"
    #: A limit or another setting of a queue is another one.
    QUEUE_CHANGED = "queue.changed"
    #: The circuit breaker of a type moved.
    BREAKER_OPENED = "breaker.opened"
    BREAKER_HALF_OPENED = "breaker.half_opened"
    BREAKER_CLOSED = "breaker.closed"
    #: A cron schedule came, went, or is another one.
    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_CHANGED = "schedule.changed"
    SCHEDULE_PAUSED = "schedule.paused"
    SCHEDULE_RESUMED = "schedule.resumed"
    SCHEDULE_DELETED = "schedule.deleted"
    #: A tick made its job; or it did not, and says why.
    SCHEDULE_FIRED = "schedule.fired"
    SCHEDULE_SKIPPED = "schedule.skipped"
    #: A worker process came, went, was found dead or silent, or was told something.
    WORKER_STARTED = "worker.started"
    WORKER_STOPPED = "worker.stopped"
    WORKER_LOST = "worker.lost"
    WORKER_QUIETED = "worker.quieted"
    WORKER_STOPPING = "worker.stopping"
    WORKER_RESUMED = "worker.resumed"
    #: A webhook is told nothing any more, because its receiver failed for days or is gone, or somebody said
    #: so; or it is told again. (No trigger writes these: whoever changes it does.)
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_ENABLED = "webhook.enabled"


@dataclass(frozen=True, slots=True)
class Event:
    """A change that was committed.

    Attributes:
        id: the text of the cursor behind it: a reader that goes on from there gets what follows it.
        kind: an `EventKind`.
        at: when it was written, by PostgreSQL's clock; the commit came after.
        job_id: the job that it is about, or that a tick made.
        queue, type: of the job, or of what else it is about.
        data: the rest; never anything that a job holds.
    """

    id: str
    kind: str
    at: datetime
    job_id: int | None
    queue: str | None
    type: str | None
    data: dict[str, Any]
