"""The service itself: its statistics."""

from __future__ import annotations

from dataclasses import asdict

import falcon

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.insight import statistic_rows as statistics


class StatsResource:
    """The service at a glance."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Bounded counts, an estimate of the completed, and the last minute."""
        with self._context.read_database.autocommit() as connection:
            found = statistics.of_service(connection, lease_seconds=self._context.settings.lease_seconds)
        response.data = as_json(asdict(found) | {"counted_up_to": statistics.COUNTED_UP_TO})
