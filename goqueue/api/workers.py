"""The worker processes, and what they are told."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import Field

from goqueue.api.frame.answers import Document, as_json
from goqueue.api.frame.resource import Resource
from goqueue.config.labels import by_name, version_of
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.engine.workers.worker_rows import Worker, WorkerCommand
from goqueue.instance import GoQueue


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
    shutdown_reason: Annotated[
        str | None,
        Field(
            description="Why it ended, or drains: signal, requested, max_jobs, max_memory or broken. Null: "
            "it does neither, or was lost."
        ),
    ]
    async_slots: Annotated[
        int, Field(description="Async jobs that it runs at once, beside those of its threads. 0: no type is.")
    ]
    async_busy: Annotated[int, Field(description="Async slots that were taken at its last heartbeat.")]
    async_types: Annotated[list[str], Field(description="Types that it runs on its event loop.")]
    client: Annotated[
        str | None,
        Field(description="Of a worker that leases over HTTP: whose key it has. Null: a process of GoQueue."),
    ]
    language: Annotated[str | None, Field(description="Of such a worker: what it is written in.")]
    address: Annotated[str | None, Field(description="Of such a worker: from where it registered.")]
    labels: Annotated[dict[str, str], Field(description="What it is, for jobs that require it.")]
    version: Annotated[int, Field(description="For jobs that need one at least; 0: it says none.")]


class WorkersResource(Resource):
    """The list of worker processes."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List live workers and those that are still remembered, the newest first."""
        with self._goqueue.database.autocommit() as connection:
            workers = worker_store.list_all(connection, lease_seconds=self._goqueue.settings.lease_seconds)
        response.data = as_json([worker_document(worker) for worker in workers])


class WorkerCommandResource:
    """The command that tells a worker what to do. None: to take jobs again."""

    def __init__(self, goqueue: GoQueue, command: WorkerCommand | None) -> None:
        self._goqueue = goqueue
        self._command = command

    def on_post(self, _request: falcon.Request, response: falcon.Response, worker_id: int) -> None:
        """Note the command, which the worker learns with its next heartbeat; the answer is the worker."""
        goqueue = self._goqueue
        worker = tell_worker(goqueue.database, goqueue.settings, worker_id, self._command)
        response.data = as_json(worker_document(worker))


def worker_document(worker: Worker) -> dict[str, Any]:
    """Return the worker as a `WorkerDocument`."""
    return asdict(worker) | {"labels": by_name(worker.labels), "version": version_of(worker.labels)}
