"""Queues: what waits in them, pause and resume."""

from __future__ import annotations

from dataclasses import asdict

import falcon
import structlog

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.errors import QueueNotFoundError, RedisUnavailableError
from goqueue.store import queues as queue_store
from goqueue.store import statistics
from goqueue.store.queues import Queue

log = structlog.get_logger(__name__)


class QueuesResource:
    """All queues."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """The queues, by name, with their counts; also declared ones that no job has used yet."""
        context = self._context
        with context.database.autocommit() as connection:
            rows = statistics.by_queue(connection, lease_seconds=context.settings.lease_seconds)
        unused = context.queues.declared() - {row.name for row in rows}
        rows += [statistics.QueueStatistics(name) for name in unused]
        rows.sort(key=lambda row: row.name)
        response.data = as_json([asdict(row) | {"paused": row.paused_at is not None} for row in rows])


class PauseResource:
    """Pausing: no job of the queue starts any more; running ones go on."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Pause the queue; a paused one stays as it is."""
        queue = _set_paused(self._context, name, paused=True)
        # Best effort: the claim refuses jobs of a paused queue whatever Redis holds.
        try:
            self._context.runway.close_gate(name)
        except RedisUnavailableError as error:
            log.warning("gate_not_closed", queue=name, error=str(error))
        response.data = as_json(_paused_document(queue))


class ResumeResource:
    """Resuming."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let the queue's jobs start again."""
        queue = _set_paused(self._context, name, paused=False)
        # Best effort: the dispatcher looks by itself every moment.
        try:
            self._context.runway.wake_dispatcher()
        except RedisUnavailableError as error:
            log.warning("dispatcher_not_woken", queue=name, error=str(error))
        response.data = as_json(_paused_document(queue))


def _set_paused(context: Context, name: str, *, paused: bool) -> Queue:
    if not name.isprintable():
        raise QueueNotFoundError(name)
    with context.database.autocommit() as connection:
        if name in context.queues.declared():
            queue_store.ensure(connection, [name])
        return queue_store.set_paused(connection, name, paused=paused)


def _paused_document(queue: Queue) -> dict[str, object]:
    return {"name": queue.name, "paused": queue.paused_at is not None, "paused_at": queue.paused_at}
