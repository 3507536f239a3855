"""Documents that answer requests about jobs: a job, an attempt, a batch, and what a change did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, Seconds, reader_of
from goqueue.config.labels import by_name, version_of
from goqueue.engine.options.uniqueness import without_client
from goqueue.jobs import AttemptOutcome, Job, JobStatus
from goqueue.observability.tracing.context import trace_id_of


class JobDocument(Document):
    """A job, as it is now."""

    id: int
    queue: str
    type: str
    status: JobStatus
    payload: Annotated[dict[str, Any] | None, CONTENTS, Field(description=WITHHELD)]
    priority: int
    attempts: Annotated[int, Field(description="Runs so far that count.")]
    max_retries: int
    available_at: datetime
    time_limit_seconds: Annotated[Seconds | None, Field(description="Null: the type's.")]
    result: Annotated[Any, CONTENTS]
    error: Annotated[str | None, CONTENTS, Field(description=f"Empty where there is none. {WITHHELD}")]
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
    limit_cost: Annotated[int, Field(description="How many slots of each concurrency limit it takes.")]
    admitted: Annotated[bool, Field(description="The limits of its queue let it in: it holds a slot.")]
    expires_at: datetime | None
    deadline_at: datetime | None
    unique_key: str | None
    cancel_requested_at: datetime | None
    cancel_acknowledged_at: Annotated[datetime | None, Field(description="Its worker stops it.")]
    fingerprint: Annotated[str | None, Field(description="Which kind of failure: GET /failures.")]
    trace_id: Annotated[str | None, Field(description="The trace that it belongs to, as 32 hex digits.")]
    tags: Annotated[list[str], Field(description="What its client calls it by.")]
    requires: Annotated[dict[str, str], Field(description="The labels that its worker has to have.")]
    slots: Annotated[int, Field(description="How many threads of its worker it takes.")]
    encrypted_with: Annotated[
        str | None, Field(description="The id of the key that what it holds is encrypted with at rest.")
    ]
    undecryptable: Annotated[
        list[str],
        Field(
            description="Which of payload, result and error the API cannot decrypt: the first two are null "
            "then. Its key is not among GOQUEUE_PAYLOAD_KEYS, or the row was changed."
        ),
    ]
    min_version: Annotated[
        int | None, Field(description="The version that its worker has to have at least; null: any.")
    ]


CollectedHere = Annotated[
    bool, Field(description="Present, and true, where the job took the payload, beside its own.")
]


class DeduplicatedDocument(JobDocument):
    """The job that has the unique key: nothing was created."""

    deduplicated: Literal[True]
    collected: CollectedHere = False


class AttemptDocument(Document):
    """One run of a job that has ended."""

    attempt: int
    fence: int
    outcome: AttemptOutcome
    worker_id: int | None
    error: Annotated[str | None, CONTENTS, Field(description=f"Empty where there is none. {WITHHELD}")]
    traceback: Annotated[str | None, CONTENTS]
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
    collected: Annotated[
        int,
        Field(description="Present where there are any: of those, how many payloads these jobs took."),
    ] = 0


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


_members_of = reader_of(JobDocument, quarantined="runs_alone", trace_id="traceparent", min_version="requires")


def job_document(job: Job) -> dict[str, Any]:
    """Return the job as a `JobDocument`."""
    document = _members_of(job)
    document["error"] = job.error or ""
    document["requires"] = by_name(job.requires)
    document["min_version"] = version_of(job.requires) or None
    document["trace_id"] = trace_id_of(job.traceparent)
    for name in job.undecryptable:
        if name != "error":
            document[name] = None
    if job.status is not JobStatus.RUNNING:
        document["begun_at"] = None
    if job.unique_key is not None:
        document["unique_key"] = without_client(job.unique_key)
    return document
