"""The worker processes, and what they are told."""

from __future__ import annotations

from dataclasses import asdict

import falcon

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.api.frame.resource import Resource
from goqueue.engine import worker_rows as worker_store
from goqueue.engine.worker_rows import WorkerCommand
from goqueue.worker.commands import tell_worker


class WorkersResource(Resource):
    """The worker processes."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Live workers and those that are still remembered, the newest first."""
        with self._context.database.autocommit() as connection:
            workers = worker_store.list_all(connection, lease_seconds=self._context.settings.lease_seconds)
        response.data = as_json([asdict(worker) for worker in workers])


class WorkerCommandResource:
    """Telling one what to do. None: to take jobs again."""

    def __init__(self, context: Context, command: WorkerCommand | None) -> None:
        self._context = context
        self._command = command

    def on_post(self, _request: falcon.Request, response: falcon.Response, worker_id: int) -> None:
        """Note it; the worker as it is now, which learns it with its next heartbeat."""
        context = self._context
        response.data = as_json(
            asdict(tell_worker(context.database, context.settings, worker_id, self._command))
        )
