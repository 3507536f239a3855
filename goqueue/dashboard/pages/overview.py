"""The service at a glance."""

from __future__ import annotations

import falcon

from goqueue.dashboard.page import Page
from goqueue.store import statistics

__all__ = ["OverviewPage", "RootPage"]


class RootPage:
    """The bare address of the service."""

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Go to the dashboard."""
        raise falcon.HTTPFound("/dashboard")


class OverviewPage(Page):
    """What happens now, and what happened."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The page."""
        lease_seconds = self._context.settings.lease_seconds
        with self._context.read_database.autocommit() as connection:
            service = statistics.of_service(connection, lease_seconds=lease_seconds)
            queues = statistics.by_queue(connection, lease_seconds=lease_seconds)
        self._renderer.page(request, response, "overview.html", service=service, queues=queues)
