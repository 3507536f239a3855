"""Every operation of the API, as the table that the OpenAPI document is made of."""

# One table, a row for each operation: longer than other modules, and nothing to decide in it.
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache

from pydantic import BaseModel

from goqueue.access.keys import NewKey
from goqueue.access.quotas import NewNamespace, QuotaChanges
from goqueue.access.scopes import Scope
from goqueue.api import (
    audit,
    autoscale,
    bulk_operations,
    dependencies,
    documents,
    edits,
    event_stream,
    explanation,
    failures,
    job_waiting,
    keys,
    lease_models,
    monitoring,
    namespaces,
    output_stream,
    queues,
    reports,
    schedule_models,
    schemas,
    types,
    webhooks,
    workers,
)
from goqueue.limits.flow_settings import KeySettings, QueueSettings, TypeSettings
from goqueue.webhooks.requests import NewWebhook, RedeliverRange, RotateWebhook, WebhookChanges

Model = type[BaseModel]


class Reach(Enum):
    """The ways in which operations keep to the queues and types that a key is restricted to."""

    #: It does not: a restricted key may not use it.
    ALL = auto()
    #: It is about one job, which exists for the key or does not.
    JOB = auto()
    #: It is about queues, one by one, and so nothing for a key that is restricted to types.
    QUEUE = auto()
    #: It is about types, one by one, and so nothing for a key that is restricted to queues.
    TYPE = auto()
    #: It lists, creates or changes only what exists for the key.
    NARROWED = auto()


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Attributes:
        answer: the model of the successful answer; None where it has no body.
        many: the answer is an array of them.
        other_answers: status → model of other successful answers.
        text: the successful answer is plain text.
        stream: the successful answer is a stream of Server-Sent Events, and this is the data of each.
        expensive: it reads many rows or computes for long: only so many run at once for one key.
        refusals: statuses besides 401, 403, 429, 500 and 503, which every operation may answer.
        scope: what the key has to allow; None: nothing, and where no key is needed not even a key.
        reach: how it keeps to the queues and types that a key is restricted to.
    """

    summary: str
    answer: Model | None
    status: int = 200
    many: bool = False
    text: bool = False
    stream: Model | None = None
    body: Model | None = None
    body_required: bool = True
    query: Model | None = None
    idempotent: bool = False
    expensive: bool = False
    refusals: tuple[int, ...] = field(default=())
    other_answers: Mapping[int, Model] = field(default_factory=dict)
    scope: Scope | None = field(kw_only=True)
    reach: Reach = field(default=Reach.ALL, kw_only=True)


_CREATE = Operation(
    "Create a job, unless another one has its unique key",
    dependencies.CreatedDocument,
    201,
    body=schemas.CreateJob,
    idempotent=True,
    refusals=(400, 409, 413, 415, 422),
    other_answers={200: documents.DeduplicatedDocument},
    scope=Scope.JOBS_CREATE,
    reach=Reach.NARROWED,
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
        scope=Scope.JOBS_READ,
        reach=Reach.NARROWED,
    ),
    ("POST", "/jobs/batch"): Operation(
        "Create up to 10,000 jobs, all or none",
        documents.BatchDocument,
        201,
        body=schemas.CreateBatch,
        idempotent=True,
        refusals=(400, 409, 413, 415, 422),
        scope=Scope.JOBS_CREATE,
        reach=Reach.NARROWED,
    ),
    ("POST", "/jobs/retry"): Operation(
        "Queue failed or cancelled jobs again",
        documents.RetriedDocument,
        body=schemas.RetrySelection,
        expensive=True,
        refusals=(400, 413, 415),
        scope=Scope.JOBS_MANAGE,
        reach=Reach.NARROWED,
    ),
    ("POST", "/jobs/cancel"): Operation(
        "Cancel unfinished jobs",
        documents.CancelledDocument,
        body=schemas.CancelSelection,
        expensive=True,
        refusals=(400, 413, 415),
        scope=Scope.JOBS_MANAGE,
        reach=Reach.NARROWED,
    ),
    ("GET", "/jobs/{job_id}"): Operation(
        "A job", documents.JobDocument, refusals=(404,), scope=Scope.JOBS_READ, reach=Reach.JOB
    ),
    ("PATCH", "/jobs/{job_id}"): Operation(
        "Edit a job that waits; what it was is kept as a version",
        documents.JobDocument,
        body=edits.EditJob,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_MANAGE,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/versions"): Operation(
        "What a job was before each of its edits, and what it is now",
        edits.VersionDocument,
        many=True,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/attempts"): Operation(
        "The attempts of a job that have ended",
        documents.AttemptDocument,
        many=True,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/dependencies"): Operation(
        "What a job waits for, and the first 1,000 jobs that wait for it",
        dependencies.DependenciesDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/explain"): Operation(
        "Why a job does not run, with the evidence; of a running or finished one, that it is",
        explanation.ExplanationDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/progress"): Operation(
        "How far the latest attempt of a job has come",
        reports.ProgressDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/logs"): Operation(
        "What an attempt of a job logged",
        reports.LogLineDocument,
        many=True,
        query=reports.LogQuery,
        refusals=(400, 404),
        scope=Scope.PAYLOADS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/stream"): Operation(
        "What a job streams, as Server-Sent Events: all of it so far, and then as it comes",
        None,
        stream=output_stream.OutputDocument,
        refusals=(400, 404),
        scope=Scope.PAYLOADS_READ,
        reach=Reach.JOB,
    ),
    ("GET", "/jobs/{job_id}/wait"): Operation(
        "A job when it has ended, or as it is when the time is over",
        documents.JobDocument,
        query=job_waiting.WaitQuery,
        refusals=(400, 404),
        scope=Scope.JOBS_READ,
        reach=Reach.JOB,
    ),
    ("PUT", "/jobs/{job_id}/status"): Operation(
        "Move a job that the client runs itself",
        None,
        204,
        body=schemas.SetStatus,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.JOB,
    ),
    ("POST", "/jobs/{job_id}/increment"): Operation(
        "Count one more attempt", None, 204, refusals=(404, 409), scope=Scope.JOBS_RUN, reach=Reach.JOB
    ),
    ("POST", "/jobs/{job_id}/save"): Operation(
        "Keep a result and an error with a job",
        None,
        204,
        body=schemas.SaveResult,
        refusals=(400, 404, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.JOB,
    ),
    ("POST", "/jobs/{job_id}/retry"): Operation(
        "Queue a failed or cancelled job again, edited or as it is",
        documents.JobDocument,
        body=edits.EditAndRetry,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_MANAGE,
        reach=Reach.JOB,
    ),
    ("POST", "/jobs/{job_id}/cancel"): Operation(
        "Cancel a job; a queued one never starts afterwards, a running one is asked to stop",
        documents.JobDocument,
        refusals=(404, 409),
        scope=Scope.JOBS_MANAGE,
        reach=Reach.JOB,
    ),
    ("GET", "/queues"): Operation(
        "The queues and what waits in them",
        queues.QueueDocument,
        many=True,
        scope=Scope.JOBS_READ,
        reach=Reach.QUEUE,
    ),
    ("GET", "/queues/{name}"): Operation(
        "A queue: what waits in it, and its settings",
        queues.QueueDetailDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.QUEUE,
    ),
    ("PUT", "/queues/{name}"): Operation(
        "Change how a queue lets its jobs in; only what is given changes, null is the default",
        queues.QueueSettingsDocument,
        body=QueueSettings,
        refusals=(400, 404, 413, 415),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.QUEUE,
    ),
    ("GET", "/queues/{name}/keys"): Operation(
        "The concurrency keys that have settings of their own",
        queues.QueueKeyDocument,
        many=True,
        refusals=(404,),
        scope=Scope.JOBS_READ,
        reach=Reach.QUEUE,
    ),
    ("PUT", "/queues/{name}/keys/{key}"): Operation(
        "Change the settings of one key; only what is given changes, null is the default",
        queues.QueueKeyDocument,
        body=KeySettings,
        refusals=(400, 404, 413, 415),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.QUEUE,
    ),
    ("DELETE", "/queues/{name}/keys/{key}"): Operation(
        "Make a key like every other",
        None,
        204,
        refusals=(400, 404),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.QUEUE,
    ),
    ("GET", "/queues/{name}/blocked-keys"): Operation(
        "The keys in strict order whose oldest job holds up later ones; the next page is in the Link header",
        explanation.BlockedKeyDocument,
        many=True,
        query=explanation.BlockedKeysQuery,
        expensive=True,
        refusals=(400, 404),
        scope=Scope.JOBS_READ,
        reach=Reach.QUEUE,
    ),
    ("GET", "/queues/{name}/autoscale"): Operation(
        "How many workers a queue needs for its objective, with everything that this follows from",
        autoscale.AutoscaleDocument,
        query=autoscale.AutoscaleQuery,
        refusals=(400, 404),
        scope=Scope.METRICS_READ,
        reach=Reach.QUEUE,
    ),
    ("POST", "/queues/{name}/pause"): Operation(
        "Start no more jobs of a queue, for good or until the end that is given",
        queues.PausedDocument,
        body=queues.PauseRequest,
        body_required=False,
        refusals=(400, 404, 413, 415),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.QUEUE,
    ),
    ("POST", "/queues/{name}/resume"): Operation(
        "Start the jobs of a queue again",
        queues.PausedDocument,
        refusals=(404,),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.QUEUE,
    ),
    ("GET", "/schedules"): Operation(
        "List schedules by name; the next page is in the Link header",
        schedule_models.ScheduleDocument,
        many=True,
        query=schedule_models.SchedulesQuery,
        refusals=(400,),
        scope=Scope.JOBS_READ,
    ),
    ("POST", "/schedules"): Operation(
        "Create a schedule",
        schedule_models.ScheduleDocument,
        201,
        body=schedule_models.CreateSchedule,
        refusals=(400, 409, 413, 415),
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("GET", "/schedules/{name}"): Operation(
        "A schedule", schedule_models.ScheduleDocument, refusals=(404,), scope=Scope.JOBS_READ
    ),
    ("PUT", "/schedules/{name}"): Operation(
        "Define a schedule anew, or create it",
        schedule_models.ScheduleDocument,
        body=schedule_models.PutSchedule,
        refusals=(400, 409, 413, 415),
        other_answers={201: schedule_models.ScheduleDocument},
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("DELETE", "/schedules/{name}"): Operation(
        "Delete a schedule and its history; its jobs stay",
        None,
        204,
        refusals=(404,),
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("POST", "/schedules/{name}/pause"): Operation(
        "Fire nothing until it is resumed",
        schedule_models.ScheduleDocument,
        body=schedule_models.PauseSchedule,
        body_required=False,
        refusals=(400, 404, 413, 415),
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("POST", "/schedules/{name}/resume"): Operation(
        "Go on with the next tick from now",
        schedule_models.ScheduleDocument,
        refusals=(404,),
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("POST", "/schedules/{name}/run"): Operation(
        "Create the schedule's job now",
        documents.JobDocument,
        201,
        refusals=(404, 409),
        other_answers={200: documents.DeduplicatedDocument},
        scope=Scope.SCHEDULES_MANAGE,
    ),
    ("GET", "/schedules/{name}/preview"): Operation(
        "The next ticks, with clock changes and blackouts marked",
        schedule_models.TickPreviewDocument,
        many=True,
        query=schedule_models.PreviewQuery,
        expensive=True,
        refusals=(400, 404),
        scope=Scope.JOBS_READ,
    ),
    ("GET", "/schedules/{name}/ticks"): Operation(
        "What became of its ticks, the newest first; the next page is in the Link header",
        schedule_models.TickDocument,
        many=True,
        query=schedule_models.TicksQuery,
        refusals=(400, 404),
        scope=Scope.JOBS_READ,
    ),
    ("GET", "/workers"): Operation(
        "The worker processes", workers.WorkerDocument, many=True, scope=Scope.JOBS_READ
    ),
    ("POST", "/workers/{worker_id}/quiet"): Operation(
        "Let a worker process take no more jobs; it finishes those that it has, and stays",
        workers.WorkerDocument,
        refusals=(404, 409),
        scope=Scope.WORKERS_MANAGE,
    ),
    ("POST", "/workers/{worker_id}/resume"): Operation(
        "Let a quiet worker process take jobs again",
        workers.WorkerDocument,
        refusals=(404, 409),
        scope=Scope.WORKERS_MANAGE,
    ),
    ("POST", "/workers/{worker_id}/stop"): Operation(
        "Let a worker process end as after SIGTERM; goqueue worker starts no other in its place",
        workers.WorkerDocument,
        refusals=(404, 409),
        scope=Scope.WORKERS_MANAGE,
    ),
    ("GET", "/types"): Operation(
        "The declared job types", types.TypeDocument, many=True, scope=Scope.JOBS_READ, reach=Reach.TYPE
    ),
    ("GET", "/types/{name}"): Operation(
        "A job type", types.TypeDocument, refusals=(404,), scope=Scope.JOBS_READ, reach=Reach.TYPE
    ),
    ("PUT", "/types/{name}"): Operation(
        "Declare a type, or change how the jobs of one are let in and found; only what is given changes, "
        "null is none",
        types.TypeDocument,
        body=TypeSettings,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.TYPE,
    ),
    ("DELETE", "/types/{name}"): Operation(
        "Remove a type that was declared over REST, when no job waits for it",
        None,
        204,
        refusals=(404, 409),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.TYPE,
    ),
    ("POST", "/types/{name}/secret"): Operation(
        "Give a type that is sent to a URL another secret; the one before stays good for a while",
        types.SecretDocument,
        body=keys.RotateKey,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.TYPE,
    ),
    ("POST", "/types/{name}/breaker/open"): Operation(
        "Open a circuit breaker: nothing of the type starts until its cooldown has passed",
        types.TypeDocument,
        refusals=(404, 409),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.TYPE,
    ),
    ("POST", "/types/{name}/breaker/close"): Operation(
        "Close a circuit breaker",
        types.TypeDocument,
        refusals=(404, 409),
        scope=Scope.QUEUES_MANAGE,
        reach=Reach.TYPE,
    ),
    ("POST", "/queues/{name}/lease"): Operation(
        "Lease jobs of a queue to a worker outside of GoQueue, or wait until there is one",
        lease_models.LeasesDocument,
        body=lease_models.LeaseJobs,
        refusals=(400, 404, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/complete"): Operation(
        "Complete up to 100 leased jobs in one commit",
        lease_models.EndsDocument,
        body=lease_models.CompleteJobs,
        refusals=(400, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/{token}/heartbeat"): Operation(
        "Renew the lease of a job, and of others; the answer says what is wanted of them",
        lease_models.HeartbeatDocument,
        body=lease_models.Heartbeat,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/{token}/complete"): Operation(
        "Complete a leased job; saying it twice is as good as once",
        lease_models.EndDocument,
        body=lease_models.CompleteJob,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/{token}/fail"): Operation(
        "End an attempt at a leased job that did not complete; its type decides whether it runs again",
        lease_models.EndDocument,
        body=lease_models.FailJob,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/{token}/progress"): Operation(
        "Note how far a leased job has come",
        None,
        204,
        body=lease_models.ReportProgress,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("POST", "/leases/{token}/log"): Operation(
        "Add lines to the log of an attempt at a leased job",
        lease_models.LoggedDocument,
        body=lease_models.LogLines,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.JOBS_RUN,
        reach=Reach.NARROWED,
    ),
    ("GET", "/failures"): Operation(
        "The failed jobs, in groups of one kind of failure each",
        failures.FailureDocument,
        many=True,
        query=failures.FailuresQuery,
        expensive=True,
        refusals=(400,),
        scope=Scope.JOBS_READ,
    ),
    ("GET", "/failures/{fingerprint}"): Operation(
        "A group of failed jobs, and the newest of them",
        failures.FailureDetailDocument,
        query=failures.FailureQuery,
        expensive=True,
        refusals=(400, 404),
        scope=Scope.JOBS_READ,
    ),
    ("POST", "/failures/{fingerprint}/retry"): Operation(
        "Begin a bulk operation that runs a group of failed jobs again",
        bulk_operations.BulkOperationDocument,
        202,
        body=bulk_operations.RetryGroup,
        body_required=False,
        expensive=True,
        refusals=(400, 404, 413, 415),
        other_answers={200: bulk_operations.BulkPreviewDocument},
        scope=Scope.JOBS_MANAGE,
    ),
    ("GET", "/bulk-operations"): Operation(
        "The operations over many jobs, newest first; the next page is in the Link header",
        bulk_operations.BulkOperationDocument,
        many=True,
        query=bulk_operations.BulkOperationsQuery,
        refusals=(400,),
        scope=Scope.JOBS_READ,
    ),
    ("POST", "/bulk-operations"): Operation(
        "Begin an operation over many jobs, or (dry_run) tell what it would be done to",
        bulk_operations.BulkOperationDocument,
        202,
        body=bulk_operations.CreateBulkOperation,
        expensive=True,
        refusals=(400, 413, 415),
        other_answers={200: bulk_operations.BulkPreviewDocument},
        scope=Scope.JOBS_MANAGE,
    ),
    ("GET", "/bulk-operations/{operation_id}"): Operation(
        "An operation over many jobs, and how far it has come",
        bulk_operations.BulkOperationDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
    ),
    ("POST", "/bulk-operations/{operation_id}/abort"): Operation(
        "Stop an operation over many jobs; what it has done stays done",
        bulk_operations.BulkOperationDocument,
        refusals=(404, 409),
        scope=Scope.JOBS_MANAGE,
    ),
    ("GET", "/webhooks"): Operation(
        "The webhooks, without their secrets",
        webhooks.WebhookDocument,
        many=True,
        scope=Scope.EVENTS_READ,
    ),
    ("POST", "/webhooks"): Operation(
        "Make a webhook; its secret is in this answer alone",
        webhooks.MadeWebhookDocument,
        201,
        body=NewWebhook,
        refusals=(400, 409, 413, 415),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("GET", "/webhooks/{name}"): Operation(
        "A webhook, and how many deliveries it has",
        webhooks.WebhookCountsDocument,
        refusals=(404,),
        scope=Scope.EVENTS_READ,
    ),
    ("PATCH", "/webhooks/{name}"): Operation(
        "Change a webhook; only what is given changes",
        webhooks.WebhookDocument,
        body=WebhookChanges,
        refusals=(400, 404, 413, 415),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("DELETE", "/webhooks/{name}"): Operation(
        "Delete a webhook: nothing is delivered to it any more",
        None,
        204,
        refusals=(404,),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("POST", "/webhooks/{name}/ping"): Operation(
        "Deliver a webhook.ping, once, also to one that is disabled",
        webhooks.DeliveryDocument,
        202,
        refusals=(404,),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("POST", "/webhooks/{name}/rotate"): Operation(
        "Give a webhook another secret; the one before signs as well for a while",
        webhooks.MadeWebhookDocument,
        body=RotateWebhook,
        body_required=False,
        refusals=(400, 404, 413, 415),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("POST", "/webhooks/{name}/enable"): Operation(
        "Tell a webhook of events again, from where it stood",
        webhooks.WebhookDocument,
        refusals=(404,),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("POST", "/webhooks/{name}/disable"): Operation(
        "Tell a webhook of nothing until it is enabled",
        webhooks.WebhookDocument,
        body=webhooks.DisableWebhook,
        body_required=False,
        refusals=(400, 404, 413, 415),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("POST", "/webhooks/{name}/redeliver"): Operation(
        "Deliver again what failed, or was delivered, of events of a time",
        webhooks.RedeliveredDocument,
        202,
        body=RedeliverRange,
        expensive=True,
        refusals=(400, 404, 413, 415),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("GET", "/webhooks/{name}/deliveries"): Operation(
        "What a webhook was told, newest first; the next page is in the Link header",
        webhooks.DeliveryDocument,
        many=True,
        query=webhooks.DeliveriesQuery,
        refusals=(400, 404),
        scope=Scope.EVENTS_READ,
    ),
    ("GET", "/webhooks/{name}/deliveries/{delivery_id}"): Operation(
        "A delivery with its body, and the calls that it took",
        webhooks.DeliveryDetailsDocument,
        refusals=(404,),
        scope=Scope.EVENTS_READ,
    ),
    ("POST", "/webhooks/{name}/deliveries/{delivery_id}/redeliver"): Operation(
        "Deliver again what has been delivered or has failed",
        webhooks.DeliveryDocument,
        202,
        refusals=(404, 409),
        scope=Scope.WEBHOOKS_MANAGE,
    ),
    ("GET", "/keys"): Operation(
        "The API keys, newest first, without their secrets",
        keys.KeyDocument,
        many=True,
        scope=Scope.KEYS_MANAGE,
    ),
    ("POST", "/keys"): Operation(
        "Make an API key; its text is in this answer alone",
        keys.MadeKeyDocument,
        201,
        body=NewKey,
        refusals=(400, 413, 415),
        scope=Scope.KEYS_MANAGE,
    ),
    ("GET", "/keys/{key_id}"): Operation(
        "An API key, without its secret", keys.KeyDocument, refusals=(404,), scope=Scope.KEYS_MANAGE
    ),
    ("POST", "/keys/{key_id}/revoke"): Operation(
        "Revoke an API key for good: within two seconds it opens nothing",
        keys.KeyDocument,
        refusals=(404,),
        scope=Scope.KEYS_MANAGE,
    ),
    ("POST", "/keys/{key_id}/rotate"): Operation(
        "Give an API key another secret; the one before stays good for a while",
        keys.MadeKeyDocument,
        body=keys.RotateKey,
        body_required=False,
        refusals=(400, 404, 409, 413, 415),
        scope=Scope.KEYS_MANAGE,
    ),
    ("GET", "/audit"): Operation(
        "Who changed what, the newest first; the next page is in the Link header",
        audit.AuditEntryDocument,
        many=True,
        query=audit.AuditQuery,
        refusals=(400,),
        scope=Scope.ADMIN,
    ),
    ("GET", "/audit/lines"): Operation(
        "The same as JSON lines, up to 10,000; the next ones are in the Link header",
        None,
        text=True,
        query=audit.AuditLinesQuery,
        expensive=True,
        refusals=(400,),
        scope=Scope.ADMIN,
    ),
    ("GET", "/events"): Operation(
        "What changes, as Server-Sent Events; behind Last-Event-ID, or from now on",
        None,
        stream=event_stream.EventDocument,
        query=event_stream.EventsQuery,
        refusals=(400, 410),
        scope=Scope.EVENTS_READ,
        reach=Reach.NARROWED,
    ),
    ("GET", "/stats"): Operation("The service at a glance", monitoring.StatsDocument, scope=Scope.JOBS_READ),
    ("GET", "/namespaces"): Operation(
        "The namespaces that exist for the key, each with its state and its counts",
        namespaces.NamespaceDocument,
        many=True,
        scope=Scope.JOBS_READ,
    ),
    ("POST", "/namespaces"): Operation(
        "Make a namespace inside of the database; within two seconds every process serves it",
        namespaces.InnerNamespaceDocument,
        201,
        body=NewNamespace,
        refusals=(400, 409, 413, 415),
        scope=Scope.ADMIN,
    ),
    ("GET", "/namespaces/{name}"): Operation(
        "A namespace inside of the database: its quotas, and what it uses of them",
        namespaces.NamespaceUseDocument,
        refusals=(404,),
        scope=Scope.JOBS_READ,
    ),
    ("PATCH", "/namespaces/{name}"): Operation(
        "Change quotas of a namespace; within two seconds every process holds to them",
        namespaces.InnerNamespaceDocument,
        body=QuotaChanges,
        refusals=(400, 404, 413, 415),
        scope=Scope.ADMIN,
    ),
    ("DELETE", "/namespaces/{name}"): Operation(
        "Delete a namespace with all that is in it, and revoke its keys",
        None,
        204,
        query=namespaces.DeleteNamespace,
        refusals=(400, 404, 409),
        scope=Scope.ADMIN,
    ),
    ("GET", "/metrics"): Operation("What Prometheus reads", None, text=True, scope=Scope.METRICS_READ),
    ("GET", "/health"): Operation("Whether the process answers", monitoring.HealthReportDocument, scope=None),
    ("GET", "/health/db"): Operation(
        "Whether PostgreSQL answers", monitoring.HealthReportDocument, scope=None
    ),
    ("GET", "/health/live"): Operation(
        "Whether the process should go on: start it again when it does not answer",
        monitoring.LivenessDocument,
        scope=None,
    ),
    ("GET", "/health/ready"): Operation(
        "Whether requests should be sent here: PostgreSQL answers and has the schema",
        monitoring.ReadinessDocument,
        scope=None,
    ),
    ("GET", "/openapi.json"): Operation("This document", None, scope=None),
}

_CONVERTER = re.compile(r":\w+(?=\})")


def plain_template(template: str | None) -> str:
    """Return a route's template without converters, as the tables of operations and pages have it."""
    return _CONVERTER.sub("", template or "")


@lru_cache(maxsize=1_024)
def operation_of(method: str, template: str | None) -> Operation | None:
    """Return the operation of a route, by its template as the application has it; None: it is none of these.

    A HEAD is answered as a GET.
    """
    method = "GET" if method == "HEAD" else method
    return OPERATIONS.get((method, plain_template(template)))
