"""The service itself: workers, statistics, declared types, health."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import falcon

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.broker.job_type import JobType
from goqueue.store import statistics
from goqueue.store import workers as worker_store


class WorkersResource:
    """The worker processes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Live workers and those that are still remembered, the newest first."""
        with self._context.database.autocommit() as connection:
            workers = worker_store.list_all(connection, lease_seconds=self._context.settings.lease_seconds)
        response.data = as_json([asdict(worker) for worker in workers])


class StatsResource:
    """The service at a glance."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Bounded counts, an estimate of the completed, and the last minute."""
        with self._context.database.autocommit() as connection:
            found = statistics.of_service(connection, lease_seconds=self._context.settings.lease_seconds)
        response.data = as_json(asdict(found) | {"counted_up_to": statistics.COUNTED_UP_TO})


class TypesResource:
    """The declared job types."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """The types, by name, with the schemas of their payloads."""
        types = sorted(self._context.broker.job_types.values(), key=lambda job_type: job_type.name)
        response.data = as_json([self._document(job_type) for job_type in types])

    def _document(self, job_type: JobType) -> dict[str, Any]:
        context = self._context
        queues = sorted(context.queues.declared())
        return {
            "name": job_type.name,
            "queue": job_type.queue,
            "default_of": [name for name in queues if context.requests.default_type(name) == job_type.name],
            "max_retries": job_type.retry.max_retries,
            "min_backoff_seconds": job_type.retry.min_backoff_seconds,
            "max_backoff_seconds": job_type.retry.max_backoff_seconds,
            "time_limit_seconds": job_type.time_limit_seconds,
            "payload_schema": job_type.schema.json_schema(),
        }


class HealthResource:
    """Whether this process answers."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """It does."""
        response.data = as_json({"status": "ok"})


class DatabaseHealthResource:
    """Whether PostgreSQL answers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask it; 503 where it does not answer."""
        with self._context.database.autocommit() as connection:
            connection.exec_driver_sql("SELECT 1")
        response.data = as_json({"status": "ok"})
