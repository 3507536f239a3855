"""The application: everything wired, and every route on one screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon
from falcon.routing import BaseConverter

from goqueue.access.key_ring import KeyRing
from goqueue.actors import DEFAULT_TYPES
from goqueue.api.audit import AuditLinesResource, AuditResource
from goqueue.api.autoscale import AutoscaleResource
from goqueue.api.bulk_operations import (
    AbortBulkOperationResource,
    BulkOperationResource,
    BulkOperationsResource,
)
from goqueue.api.create import CreateBatchResource, CreateJobResource
from goqueue.api.dependencies import DependenciesResource
from goqueue.api.edits import EditableJobResource, RetryResource, VersionsResource
from goqueue.api.event_stream import EventsResource
from goqueue.api.explanation import BlockedKeysResource, ExplainResource
from goqueue.api.failures import FailureResource, FailuresResource, RetryFailureResource
from goqueue.api.frame.acting import Acting
from goqueue.api.frame.authorization import Authorization
from goqueue.api.frame.bodies import BodyLimits
from goqueue.api.frame.compression import Compression
from goqueue.api.frame.middleware import AnswerHeaders, RequestObservation
from goqueue.api.frame.namespace_frame import NamespaceFrame
from goqueue.api.frame.openapi import OpenApiResource
from goqueue.api.frame.problems import add_error_handlers
from goqueue.api.frame.quotas import CreateRateHeaders
from goqueue.api.frame.request_limits import RequestLimits
from goqueue.api.frame.security import Authentication, WebPages
from goqueue.api.frame.withholding import Withholding
from goqueue.api.job_actions import CancelManyResource, CancelResource, RetryManyResource
from goqueue.api.job_waiting import WaitResource
from goqueue.api.jobs import (
    AttemptsResource,
    IncrementResource,
    JobsResource,
    SaveResource,
    StatusResource,
)
from goqueue.api.keys import KeyResource, KeysResource, RevokeKeyResource, RotateKeyResource
from goqueue.api.leases import (
    CompleteLeaseResource,
    CompleteLeasesResource,
    FailLeaseResource,
    LeaseHeartbeatResource,
    LeaseLogResource,
    LeaseProgressResource,
    LeaseResource,
)
from goqueue.api.monitoring import (
    DatabaseHealthResource,
    HealthResource,
    LivenessResource,
    MetricsResource,
    ReadinessResource,
    StatsResource,
    Warnings,
)
from goqueue.api.namespaces import NamespaceResource, NamespacesResource
from goqueue.api.output_stream import OutputResource
from goqueue.api.queues import (
    PauseResource,
    QueueKeyResource,
    QueueKeysResource,
    QueueResource,
    QueuesResource,
    ResumeResource,
)
from goqueue.api.reports import LogsResource, ProgressResource
from goqueue.api.schedules import (
    PauseScheduleResource,
    PreviewResource,
    ResumeScheduleResource,
    RunScheduleResource,
    ScheduleResource,
    SchedulesResource,
    TicksResource,
)
from goqueue.api.service_gauges import NamespaceQuotasCollector, gauges_of
from goqueue.api.types import BreakerResource, TypeResource, TypeSecretResource, TypesResource
from goqueue.api.webhooks import (
    DeliveriesResource,
    DeliveryResource,
    DisableWebhookResource,
    EnableWebhookResource,
    PingWebhookResource,
    RedeliverRangeResource,
    RedeliverResource,
    RotateWebhookResource,
    WebhookResource,
    WebhooksResource,
)
from goqueue.api.workers import WorkerCommandResource, WorkersResource
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.instance import GoQueue, default
from goqueue.jobs import MAX_JOB_ID
from goqueue.limits.settings import BreakerState

App = falcon.App[falcon.Request, falcon.Response]

#: Before the name of a namespace in a path.
NAMESPACE_PREFIX = "/ns/"


class Application(App):
    """The WSGI application, which tells its server beforehand what it will refuse.

    Attributes:
        body_limit: of method, path, and Authorization of a request: how large its body may be.
    """

    def __init__(self, limits: BodyLimits) -> None:
        super().__init__()
        self.body_limit = limits.of

    def add_route(self, uri_template: str, resource: Any, **options: Any) -> None:
        """Add a route; what answers GET answers HEAD as well, without the body."""
        if hasattr(resource, "on_get") and not hasattr(resource, "on_head"):
            resource.on_head = resource.on_get
        super().add_route(uri_template, resource, **options)


@dataclass(frozen=True, slots=True)
class GuardedSite:
    """A site beside the API that is served by the same application.

    Attributes:
        is_its: whether a path belongs to it.
        add: adds its routes and its guard.
    """

    is_its: Callable[[str], bool]
    add: Callable[[App, GoQueue], None]


def create_app(
    settings: Settings,
    *,
    database: Database | None = None,
    read_database: Database | None = None,
    runway: Runway | None = None,
    site: GuardedSite | None = None,
) -> Application:
    """The API over the declared job types of this process. Nothing connects before the first request.

    A `site` is served beside it, by the same application.
    """
    goqueue = open_goqueue(settings, database=database, read_database=read_database, runway=runway)
    return app_of(goqueue, site=site)


def open_goqueue(
    settings: Settings,
    *,
    database: Database | None = None,
    read_database: Database | None = None,
    runway: Runway | None = None,
    home: GoQueue | None = None,
) -> GoQueue:
    """A GoQueue of the declared job types of this process, with connections for an API."""
    database = database or Database(settings)
    if read_database is None:
        read_database = Database(settings.for_reading()) if settings.read_database_url else database
    # Its own connections: those of the process's broker are a worker's.
    return GoQueue(
        settings,
        broker=default().broker,
        database=database,
        read_database=read_database,
        runway=runway,
        default_types=DEFAULT_TYPES,
        home=home,
    )


def app_of(
    goqueue: GoQueue, *, site: GuardedSite | None = None, limits: RequestLimits | None = None
) -> Application:
    """The API over one GoQueue.

    Args:
        goqueue: whose jobs these are.
        site: is served beside it.
        limits: where applications share what a key may ask for; those of the settings where none are given.
    """
    app = framed(goqueue.settings, goqueue, site=site, limits=limits)
    if goqueue.settings.is_one_of_several:
        app.add_middleware(NamespaceFrame(goqueue.settings.name_of_namespace))
    if goqueue.quota_door is not None:
        app.add_middleware(CreateRateHeaders(goqueue.quota_door))
    _add_routes(app, goqueue)
    if site is not None:
        site.add(app, goqueue)
    return app


def framed(
    settings: Settings,
    goqueue: GoQueue | None = None,
    *,
    site: GuardedSite | None = None,
    limits: RequestLimits | None = None,
) -> Application:
    """An application without routes: what every request passes before it reaches one, and its errors.

    Args:
        settings: of the service.
        goqueue: whose keys open it beside those of the settings; None: those alone.
        site: is served beside it.
        limits: as for `app_of`.
    """
    is_site = [site.is_its] if site else []
    keys = KeyRing(settings.api_keys) if goqueue is None else goqueue.key_ring
    app = Application(BodyLimits(settings, keys if settings.needs_api_key else None, *is_site))
    app.add_middleware(RequestObservation())
    app.add_middleware(Compression())
    app.add_middleware(WebPages(settings))
    app.add_middleware(Authentication(keys, *is_site, needs_key=settings.needs_api_key))
    app.add_middleware(AnswerHeaders(*is_site))
    app.add_middleware(limits or RequestLimits(settings, *is_site))
    app.add_middleware(Authorization(goqueue))
    app.add_middleware(Withholding())
    app.add_middleware(Acting())
    app.router_options.converters["job_id"] = JobIdConverter
    app.add_sink(_refuse_unknown_namespace, NAMESPACE_PREFIX)
    add_error_handlers(app)
    return app


def _add_routes(app: App, goqueue: GoQueue) -> None:
    _add_job_routes(app, goqueue)
    _add_queue_routes(app, goqueue)
    _add_schedule_routes(app, goqueue)
    _add_worker_routes(app, goqueue)
    _add_lease_routes(app, goqueue)
    _add_failure_routes(app, goqueue)
    _add_webhook_routes(app, goqueue)
    _add_key_routes(app, goqueue)
    _add_monitoring_routes(app, goqueue)
    app.add_route("/openapi.json", OpenApiResource(goqueue))


def _add_job_routes(app: App, goqueue: GoQueue) -> None:
    job = "/jobs/{job_id:job_id}"
    app.add_route("/jobs", JobsResource(goqueue))
    app.add_route("/jobs/create", CreateJobResource(goqueue))
    app.add_route("/jobs/batch", CreateBatchResource(goqueue))
    app.add_route("/jobs/retry", RetryManyResource(goqueue))
    app.add_route("/jobs/cancel", CancelManyResource(goqueue))
    app.add_route(job, EditableJobResource(goqueue))
    app.add_route(f"{job}/versions", VersionsResource(goqueue))
    app.add_route(f"{job}/attempts", AttemptsResource(goqueue))
    app.add_route(f"{job}/dependencies", DependenciesResource(goqueue))
    app.add_route(f"{job}/explain", ExplainResource(goqueue))
    app.add_route(f"{job}/progress", ProgressResource(goqueue))
    app.add_route(f"{job}/logs", LogsResource(goqueue))
    app.add_route(f"{job}/stream", OutputResource(goqueue))
    app.add_route(f"{job}/wait", WaitResource(goqueue))
    app.add_route(f"{job}/status", StatusResource(goqueue))
    app.add_route(f"{job}/increment", IncrementResource(goqueue))
    app.add_route(f"{job}/save", SaveResource(goqueue))
    app.add_route(f"{job}/retry", RetryResource(goqueue))
    app.add_route(f"{job}/cancel", CancelResource(goqueue))


def _add_queue_routes(app: App, goqueue: GoQueue) -> None:
    app.add_route("/queues", QueuesResource(goqueue))
    app.add_route("/queues/{name}", QueueResource(goqueue))
    app.add_route("/queues/{name}/keys", QueueKeysResource(goqueue))
    app.add_route("/queues/{name}/keys/{key:path}", QueueKeyResource(goqueue))
    app.add_route("/queues/{name}/blocked-keys", BlockedKeysResource(goqueue))
    app.add_route("/queues/{name}/autoscale", AutoscaleResource(goqueue))
    app.add_route("/queues/{name}/pause", PauseResource(goqueue))
    app.add_route("/queues/{name}/resume", ResumeResource(goqueue))


def _add_schedule_routes(app: App, goqueue: GoQueue) -> None:
    schedule = "/schedules/{name}"
    app.add_route("/schedules", SchedulesResource(goqueue))
    app.add_route(schedule, ScheduleResource(goqueue))
    app.add_route(f"{schedule}/pause", PauseScheduleResource(goqueue))
    app.add_route(f"{schedule}/resume", ResumeScheduleResource(goqueue))
    app.add_route(f"{schedule}/run", RunScheduleResource(goqueue))
    app.add_route(f"{schedule}/preview", PreviewResource(goqueue))
    app.add_route(f"{schedule}/ticks", TicksResource(goqueue))


def _add_worker_routes(app: App, goqueue: GoQueue) -> None:
    worker = "/workers/{worker_id:job_id}"
    app.add_route("/workers", WorkersResource(goqueue))
    app.add_route(f"{worker}/quiet", WorkerCommandResource(goqueue, WorkerCommand.QUIET))
    app.add_route(f"{worker}/resume", WorkerCommandResource(goqueue, None))
    app.add_route(f"{worker}/stop", WorkerCommandResource(goqueue, WorkerCommand.STOP))
    app.add_route("/types", TypesResource(goqueue))
    app.add_route("/types/{name}", TypeResource(goqueue))
    app.add_route("/types/{name}/secret", TypeSecretResource(goqueue))
    app.add_route("/types/{name}/breaker/open", BreakerResource(goqueue, BreakerState.OPEN))
    app.add_route("/types/{name}/breaker/close", BreakerResource(goqueue, BreakerState.CLOSED))


def _add_lease_routes(app: App, goqueue: GoQueue) -> None:
    lease = "/leases/{token}"
    app.add_route("/queues/{name}/lease", LeaseResource(goqueue))
    app.add_route("/leases/complete", CompleteLeasesResource(goqueue))
    app.add_route(f"{lease}/heartbeat", LeaseHeartbeatResource(goqueue))
    app.add_route(f"{lease}/complete", CompleteLeaseResource(goqueue))
    app.add_route(f"{lease}/fail", FailLeaseResource(goqueue))
    app.add_route(f"{lease}/progress", LeaseProgressResource(goqueue))
    app.add_route(f"{lease}/log", LeaseLogResource(goqueue))


def _add_failure_routes(app: App, goqueue: GoQueue) -> None:
    app.add_route("/failures", FailuresResource(goqueue))
    app.add_route("/failures/{fingerprint}", FailureResource(goqueue))
    app.add_route("/failures/{fingerprint}/retry", RetryFailureResource(goqueue))
    bulk_operation = "/bulk-operations/{operation_id:job_id}"
    app.add_route("/bulk-operations", BulkOperationsResource(goqueue))
    app.add_route(bulk_operation, BulkOperationResource(goqueue))
    app.add_route(f"{bulk_operation}/abort", AbortBulkOperationResource(goqueue))


def _add_webhook_routes(app: App, goqueue: GoQueue) -> None:
    webhook = "/webhooks/{name}"
    app.add_route("/webhooks", WebhooksResource(goqueue))
    app.add_route(webhook, WebhookResource(goqueue))
    app.add_route(f"{webhook}/ping", PingWebhookResource(goqueue))
    app.add_route(f"{webhook}/rotate", RotateWebhookResource(goqueue))
    app.add_route(f"{webhook}/enable", EnableWebhookResource(goqueue))
    app.add_route(f"{webhook}/disable", DisableWebhookResource(goqueue))
    app.add_route(f"{webhook}/redeliver", RedeliverRangeResource(goqueue))
    app.add_route(f"{webhook}/deliveries", DeliveriesResource(goqueue))
    delivery = f"{webhook}/deliveries/{{delivery_id:job_id}}"
    app.add_route(delivery, DeliveryResource(goqueue))
    app.add_route(f"{delivery}/redeliver", RedeliverResource(goqueue))


def _add_key_routes(app: App, goqueue: GoQueue) -> None:
    app.add_route("/keys", KeysResource(goqueue))
    app.add_route("/keys/{key_id}", KeyResource(goqueue))
    app.add_route("/keys/{key_id}/revoke", RevokeKeyResource(goqueue))
    app.add_route("/keys/{key_id}/rotate", RotateKeyResource(goqueue))
    app.add_route("/audit", AuditResource(goqueue))
    app.add_route("/audit/lines", AuditLinesResource(goqueue))


def _add_monitoring_routes(app: App, goqueue: GoQueue) -> None:
    warnings = Warnings(goqueue.settings, goqueue.database)
    app.add_route("/events", EventsResource(goqueue))
    app.add_route("/stats", StatsResource(goqueue))
    inside = goqueue.settings.database_namespace is not None
    of_all = None if inside else NamespaceQuotasCollector(goqueue.namespaces)
    app.add_route("/metrics", MetricsResource(gauges_of(goqueue), of_all, counts=not inside))
    app.add_route("/namespaces", NamespacesResource([goqueue], goqueue))
    app.add_route("/namespaces/{name}", NamespaceResource(goqueue))
    app.add_route("/health", HealthResource(warnings))
    app.add_route("/health/db", DatabaseHealthResource(goqueue, warnings))
    app.add_route("/health/live", LivenessResource())
    app.add_route("/health/ready", ReadinessResource(goqueue, warnings))


def _refuse_unknown_namespace(req: falcon.Request, resp: falcon.Response, **_: Any) -> None:  # noqa: ARG001
    # Which there are is for GET /namespaces.
    raise falcon.HTTPNotFound(description="there is no namespace of this name")


class JobIdConverter(BaseConverter):
    """A job's id in a path: what cannot be one leads to no route, and so to 404."""

    _ID = re.compile(r"[1-9][0-9]{0,18}")

    def convert(self, value: str) -> int | None:
        """The id, or None."""
        if not self._ID.fullmatch(value) or int(value) > MAX_JOB_ID:
            return None
        return int(value)
