"""The application: everything wired, and every route on one screen."""

from __future__ import annotations

import re

import falcon
from falcon.routing import BaseConverter

from goqueue.actors import DEFAULT_TYPES
from goqueue.api.context import Context
from goqueue.api.create import CreateBatchResource, CreateJobResource
from goqueue.api.job_actions import CancelManyResource, CancelResource, RetryManyResource, RetryResource
from goqueue.api.job_requests import JobRequests, QueueDirectory
from goqueue.api.jobs import (
    AttemptsResource,
    IncrementResource,
    JobResource,
    JobsResource,
    SaveResource,
    StatusResource,
)
from goqueue.api.middleware import RequestObservation
from goqueue.api.openapi import OpenApiResource
from goqueue.api.problems import add_error_handlers
from goqueue.api.queues import PauseResource, QueuesResource, ResumeResource
from goqueue.api.security import BearerAuthentication
from goqueue.api.service import (
    DatabaseHealthResource,
    HealthResource,
    StatsResource,
    TypesResource,
    WorkersResource,
)
from goqueue.broker.runway import Runway
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.jobs import MAX_JOB_ID
from goqueue.submit import Submitter, current_broker

App = falcon.App[falcon.Request, falcon.Response]


def create_app(settings: Settings, *, database: Database | None = None, runway: Runway | None = None) -> App:
    """The API over the declared job types of this process. Nothing connects before the first request."""
    context = _context(settings, database or Database(settings), runway or Runway(settings))
    app: App = falcon.App()
    app.add_middleware(RequestObservation())
    if settings.api_keys:
        app.add_middleware(BearerAuthentication(settings.api_keys))
    app.router_options.converters["job_id"] = JobIdConverter
    add_error_handlers(app)
    _add_routes(app, context)
    return app


def _add_routes(app: App, context: Context) -> None:
    job = "/jobs/{job_id:job_id}"
    app.add_route("/jobs", JobsResource(context))
    app.add_route("/jobs/create", CreateJobResource(context))
    app.add_route("/jobs/batch", CreateBatchResource(context))
    app.add_route("/jobs/retry", RetryManyResource(context))
    app.add_route("/jobs/cancel", CancelManyResource(context))
    app.add_route(job, JobResource(context))
    app.add_route(f"{job}/attempts", AttemptsResource(context))
    app.add_route(f"{job}/status", StatusResource(context))
    app.add_route(f"{job}/increment", IncrementResource(context))
    app.add_route(f"{job}/save", SaveResource(context))
    app.add_route(f"{job}/retry", RetryResource(context))
    app.add_route(f"{job}/cancel", CancelResource(context))
    app.add_route("/queues", QueuesResource(context))
    app.add_route("/queues/{name}/pause", PauseResource(context))
    app.add_route("/queues/{name}/resume", ResumeResource(context))
    app.add_route("/workers", WorkersResource(context))
    app.add_route("/types", TypesResource(context))
    app.add_route("/stats", StatsResource(context))
    app.add_route("/health", HealthResource())
    app.add_route("/health/db", DatabaseHealthResource(context))
    app.add_route("/openapi.json", OpenApiResource(context))


class JobIdConverter(BaseConverter):
    """A job's id in a path: what cannot be one leads to no route, and so to 404."""

    _ID = re.compile(r"[1-9][0-9]{0,18}")

    def convert(self, value: str) -> int | None:
        """The id, or None."""
        if not self._ID.fullmatch(value) or int(value) > MAX_JOB_ID:
            return None
        return int(value)


def _context(settings: Settings, database: Database, runway: Runway) -> Context:
    broker = current_broker()
    queues = QueueDirectory(broker, database, DEFAULT_TYPES)
    return Context(
        settings=settings,
        database=database,
        runway=runway,
        broker=broker,
        submitter=Submitter(settings, database, runway),
        queues=queues,
        requests=JobRequests(broker, DEFAULT_TYPES, queues, job_max_bytes=settings.job_max_bytes),
    )
