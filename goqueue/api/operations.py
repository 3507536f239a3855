"""Every operation of the API, as the table that the OpenAPI document is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from goqueue.api import documents, schemas

Model = type[BaseModel]


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Attributes:
        answer: the model of the successful answer; None where it has no body.
        many: the answer is an array of them.
        refusals: statuses besides 401, 500 and 503, which every operation may answer.
    """

    summary: str
    answer: Model | None
    status: int = 200
    many: bool = False
    body: Model | None = None
    query: Model | None = None
    idempotent: bool = False
    refusals: tuple[int, ...] = field(default=())


_CREATE = Operation(
    "Create a job",
    documents.JobDocument,
    201,
    body=schemas.CreateJob,
    idempotent=True,
    refusals=(400, 413, 415, 422),
)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/jobs"): _CREATE,
    ("POST", "/jobs/create"): _CREATE,
    ("GET", "/jobs"): Operation(
        "List jobs, newest first; the next page is in the Link header",
        documents.JobDocument,
        many=True,
        query=schemas.ListQuery,
        refusals=(400,),
    ),
    ("POST", "/jobs/batch"): Operation(
        "Create up to 10,000 jobs, all or none",
        documents.BatchDocument,
        201,
        body=schemas.CreateBatch,
        idempotent=True,
        refusals=(400, 413, 415, 422),
    ),
    ("POST", "/jobs/retry"): Operation(
        "Queue failed or cancelled jobs again",
        documents.RetriedDocument,
        body=schemas.RetrySelection,
        refusals=(400, 413, 415),
    ),
    ("POST", "/jobs/cancel"): Operation(
        "Cancel unfinished jobs",
        documents.CancelledDocument,
        body=schemas.CancelSelection,
        refusals=(400, 413, 415),
    ),
    ("GET", "/jobs/{job_id}"): Operation("A job", documents.JobDocument, refusals=(404,)),
    ("GET", "/jobs/{job_id}/attempts"): Operation(
        "The attempts of a job that have ended", documents.AttemptDocument, many=True, refusals=(404,)
    ),
    ("PUT", "/jobs/{job_id}/status"): Operation(
        "Move a job that the client runs itself",
        None,
        204,
        body=schemas.SetStatus,
        refusals=(400, 404, 409, 413, 415),
    ),
    ("POST", "/jobs/{job_id}/increment"): Operation("Count one more attempt", None, 204, refusals=(404, 409)),
    ("POST", "/jobs/{job_id}/save"): Operation(
        "Keep a result and an error with a job",
        None,
        204,
        body=schemas.SaveResult,
        refusals=(400, 404, 413, 415),
    ),
    ("POST", "/jobs/{job_id}/retry"): Operation(
        "Queue a failed or cancelled job again", documents.JobDocument, refusals=(404, 409)
    ),
    ("POST", "/jobs/{job_id}/cancel"): Operation(
        "Cancel a job; a queued one never starts afterwards", documents.JobDocument, refusals=(404, 409)
    ),
    ("GET", "/queues"): Operation("The queues and what waits in them", documents.QueueDocument, many=True),
    ("POST", "/queues/{name}/pause"): Operation(
        "Start no more jobs of a queue", documents.PausedDocument, refusals=(404,)
    ),
    ("POST", "/queues/{name}/resume"): Operation(
        "Start the jobs of a queue again", documents.PausedDocument, refusals=(404,)
    ),
    ("GET", "/workers"): Operation("The worker processes", documents.WorkerDocument, many=True),
    ("GET", "/types"): Operation("The declared job types", documents.TypeDocument, many=True),
    ("GET", "/stats"): Operation("The service at a glance", documents.StatsDocument),
    ("GET", "/health"): Operation("Whether the process answers", documents.HealthDocument),
    ("GET", "/health/db"): Operation("Whether PostgreSQL answers", documents.HealthDocument),
    ("GET", "/openapi.json"): Operation("This document", None),
}
