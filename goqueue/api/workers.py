"""The worker processes, and what they are told."""

from __future__ import annotations

from dataclasses import asdict

import falcon

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.engine import worker_rows as worker_store
from goqueue.engine.worker_commands import tell_worker
from goqueue.engine.worker_rows import WorkerCommand


class WorkersResource:
    """The worker processes, alive or still remembered."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List live workers and those that are still remembered, the newest first."""
        with self._context.database.autocommit() as connection:
            workers = worker_store.list_all(connection, lease_seconds=self._context.settings.lease_seconds)
        response.data = as_json([asdict(worker) for worker in workers])


class WorkerCommandResource:
    """The command that tells a worker what to do. None: to take jobs again."""

    def __init__(self, context: Context, command: WorkerCommand | None) -> None:
        self._context = context
        self._command = command

    def on_post(self, _request: falcon.Request, response: falcon.Response, worker_id: int) -> None:
        """Note the command, which the worker learns with its next heartbeat; the answer is the worker."""
        context = self._context
        response.data = as_json(
            asdict(tell_worker(context.database, context.settings, worker_id, self._command))
        )
