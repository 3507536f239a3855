"""The answers, as models for the description and as plain dictionaries for the wire.

A dictionary is built by hand and written by orjson: a model would validate again what the database just said.
A test holds each dictionary against its model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from goqueue.engine.options.uniqueness import without_client
from goqueue.engine.worker_rows import WorkerCommand
from goqueue.jobs import AttemptOutcome, Job, JobStatus
from goqueue.limits.settings import BreakerState
from goqueue.observability.tracing.context import trace_id_of

Seconds = float


class Document(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class JobDocument(Document):
    """A job, as it is now."""

    id: int
    queue: str
    type: str
    status: JobStatus
    payload: dict[str, Any]
    priority: int
    attempts: Annotated[int, Field(description="Runs so far that count.")]
    max_retries: int
    available_at: datetime
    time_limit_seconds: Annotated[Seconds | None, Field(description="Null: the type's.")]
    result: Any
    error: Annotated[str, Field(description="Empty where there is none.")]
    reason: Annotated[str | None, Field(description="A machine-readable word beside the error.")]
    fence: Annotated[int, Field(description="Raised by every claim.")]
    deaths: Annotated[int, Field(description="Worker processes that died while they ran only this job.")]
    quarantined: Annotated[bool, Field(description="It runs next alone: its worker processes died.")]
    suspicion: Annotated[
        int,
        Field(
            ge=0,
            le=2,
            description="0: none. 1: its last worker process died, and it runs again beside others. 2: two "
            "died in a row, and it runs alone.",
        ),
    ]
    worker_id: int | None
    created_at: datetime
    updated_at: datetime
    started_at: Annotated[
        datetime | None, Field(description="When its last run began; of a job that has not begun, its claim.")
    ]
    begun_at: Annotated[
        datetime | None,
        Field(description="Of a running job: since when its handler runs. Null: it was claimed just now."),
    ]
    finished_at: datetime | None
    concurrency_key: str | None
    rate_cost: int
    admitted: Annotated[bool, Field(description="The limits of its queue let it in: it holds a slot.")]
    expires_at: datetime | None
    deadline_at: datetime | None
    unique_key: str | None
    cancel_requested_at: datetime | None
    cancel_acknowledged_at: Annotated[datetime | None, Field(description="Its worker stops it.")]
    fingerprint: Annotated[str | None, Field(description="Which kind of failure: GET /failures.")]
    trace_id: Annotated[str | None, Field(description="The trace that it belongs to, as 32 hex digits.")]
    tags: Annotated[list[str], Field(description="What its client calls it by.")]


class DeduplicatedDocument(JobDocument):
    """The job that has the unique key: nothing was created."""

    deduplicated: Literal[True]


class AttemptDocument(Document):
    """One run of a job that has ended."""

    attempt: int
    fence: int
    outcome: AttemptOutcome
    worker_id: int | None
    error: str
    traceback: str | None
    started_at: datetime
    finished_at: datetime
    run_seconds: Seconds
    progress: Annotated[float | None, Field(description="How far it said it had come, 0 to 1.")]


class BatchDocument(Document):
    """The ids of the jobs of a batch, in its order."""

    ids: list[int]
    count: int
    deduplicated: Annotated[
        int,
        Field(description="How many were not created: their ids are those of jobs with their keys."),
    ]


MoreSelected = Annotated[
    bool,
    Field(
        description="Present, and true, where there were more than the 10,000 of one request: ask again, or "
        "begin a bulk operation."
    ),
]


class RetriedDocument(Document):
    """How many jobs were queued again."""

    retried: int
    more: MoreSelected = False


class CancelledDocument(Document):
    """How many jobs were cancelled, and how many their workers were asked to stop."""

    cancelled: int
    requested: int
    more: MoreSelected = False


class QueueDocument(Document):
    """A queue. Counts stop at `counted_up_to` of GET /stats."""

    name: str
    paused: bool
    paused_at: datetime | None
    paused_until: Annotated[datetime | None, Field(description="It goes on by itself then.")]
    paused_by: str | None
    pause_reason: str | None
    throttled_until: Annotated[
        datetime | None, Field(description="A handler asked to slow it down: nothing starts before.")
    ]
    ready: Annotated[int, Field(description="Queued jobs that may start now.")]
    waiting: Annotated[int, Field(description="Queued jobs whose time has not come.")]
    quarantined: Annotated[int, Field(description="Queued jobs that will run alone.")]
    running: int
    failed: int
    oldest_ready_age_seconds: Annotated[Seconds | None, Field(description="Null where none is ready.")]
    workers: Annotated[int, Field(description="Live worker processes that serve it.")]
    threads: Annotated[int, Field(description="Their worker threads.")]


class PausedDocument(Document):
    """A queue that was paused or resumed."""

    name: str
    paused: bool
    paused_at: datetime | None
    paused_until: datetime | None
    paused_by: str | None
    pause_reason: str | None


class WorkerDocument(Document):
    """A worker process."""

    id: int
    hostname: str
    pid: int
    queues: list[str]
    threads: int
    busy: int
    alive: Annotated[bool, Field(description="Its lease has not run out.")]
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    memory_bytes: Annotated[
        int | None, Field(description="Its own at its last heartbeat, without what it shares. Null: unknown.")
    ]
    command: Annotated[
        WorkerCommand | None,
        Field(description="It was told to take no more jobs (quiet), or to end after them (stop)."),
    ]
    commanded_at: datetime | None


class JobCounts(Document):
    """Exact counts of jobs, up to `counted_up_to`."""

    ready: int
    waiting: int
    quarantined: int
    blocked: int
    running: int
    failed: int
    cancelled: int
    expired: int


class FinishedCounts(Document):
    """Jobs that became final."""

    completed: int
    failed: int
    cancelled: int
    expired: int


class StatsDocument(Document):
    """The service at a glance."""

    counts: JobCounts
    counted_up_to: Annotated[int, Field(description="A count of this number means: this many or more.")]
    completed_estimate: Annotated[int, Field(description="From the planner's statistics, not counted.")]
    finished_last_minute: FinishedCounts
    oldest_ready_age_seconds: Seconds | None
    workers: int
    threads: int
    busy: int


class BreakerDocument(Document):
    """The circuit breaker of a job type: its settings, and where it stands."""

    failure_rate: float
    minimum: int
    window_seconds: Seconds
    cooldown_seconds: Seconds
    probes: int
    state: BreakerState
    changed_at: datetime | None
    reason: Annotated[str | None, Field(description="Why it stands where it does.")]


class TypeDocument(Document):
    """A declared job type."""

    name: str
    queue: str
    default_of: Annotated[
        list[str], Field(description="Queues whose jobs have this type when they say none.")
    ]
    max_retries: int
    min_backoff_seconds: Seconds
    max_backoff_seconds: Seconds
    time_limit_seconds: Seconds
    concurrency: Annotated[int | None, Field(description="The most jobs that run at once.")]
    breaker: BreakerDocument | None
    payload_schema: dict[str, Any]


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: Annotated[str, Field(description="The detail again, where older clients look for it.")]
    fields: Annotated[
        dict[str, str] | None, Field(description="The path of a value → what is wrong with it.")
    ] = None


def as_json(document: Any) -> bytes:
    """The bytes of an answer; times are UTC and end in Z."""
    return orjson.dumps(document, option=orjson.OPT_UTC_Z)


def job_document(job: Job) -> dict[str, Any]:
    """A JobDocument."""
    return {
        "id": job.id,
        "queue": job.queue,
        "type": job.type,
        "status": job.status.value,
        "payload": job.payload,
        "priority": job.priority,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "available_at": job.available_at,
        "time_limit_seconds": job.time_limit_seconds,
        "result": job.result,
        "error": job.error or "",
        "reason": job.reason,
        "fence": job.fence,
        "deaths": job.deaths,
        "quarantined": job.runs_alone,
        "suspicion": job.suspicion,
        "worker_id": job.worker_id,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "begun_at": job.begun_at if job.status is JobStatus.RUNNING else None,
        "finished_at": job.finished_at,
        "concurrency_key": job.concurrency_key,
        "rate_cost": job.rate_cost,
        "admitted": job.admitted,
        "expires_at": job.expires_at,
        "deadline_at": job.deadline_at,
        "unique_key": None if job.unique_key is None else without_client(job.unique_key),
        "cancel_requested_at": job.cancel_requested_at,
        "cancel_acknowledged_at": job.cancel_acknowledged_at,
        "fingerprint": job.fingerprint,
        "trace_id": trace_id_of(job.traceparent),
        "tags": list(job.tags),
    }
