"""How many workers a queue needs: what an autoscaler asks."""

from __future__ import annotations

import falcon

from goqueue.api.autoscale_models import AutoscaleQuery, autoscale_document
from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.api.schemas import validate
from goqueue.insight.autoscaling import autoscale_queue


class AutoscaleResource:
    """The workers that a queue needs for its objective."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """The number, and everything that it follows from."""
        query = validate(AutoscaleQuery, request.params, whole="query")
        context, settings = self._context, self._context.settings
        answer = autoscale_queue(
            context.database,
            settings,
            name,
            declared_queues=context.queues.declared(),
            window_seconds=query.window_seconds,
            assumed_run_seconds=query.assumed_run_seconds,
        )
        threads = query.threads_per_worker or settings.worker_processes * settings.worker_threads
        response.data = as_json(autoscale_document(name, answer, query, threads))
