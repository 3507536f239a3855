"""The dispatch of suspects: jobs whose worker died run beside others once more, and then alone."""

from __future__ import annotations

from itertools import groupby

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.type_routes import TypeRoutes
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.ready_rows import ReadyJob
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import QUARANTINE_QUEUE


class Suspects:
    """Pushes suspects of all queues, limited ones too."""

    def __init__(self, settings: Settings, database: Database, runway: Runway, routes: TypeRoutes) -> None:
        self._database = database
        self._runway = runway
        self._routes = routes
        self._limit = settings.runway_min

    def push(self) -> int:
        """Push them to where a process that has no other suspect takes them first, and that can run them."""
        pushed = 0
        for queue, suspects in groupby(self._next(), key=lambda row: row.queue):
            for signature, messages in self._routes.split(queue, suspects).items():
                pushed += self._runway.dispatch_suspects(
                    queue, messages, limit=self._limit, signature=signature
                ).added
        return pushed

    def _next(self) -> list[ReadyJob]:
        """Of each queue; where nobody can run one, only those that somebody can: they may be many."""
        with self._database.autocommit() as connection:
            rows = ready_store.next_suspects(connection, self._limit)
            able = {
                row.queue: self._routes.able(row.queue) or []
                for row in rows
                if not self._routes.has_way(row.queue, row)
            }
            return ready_store.next_suspects(connection, self._limit, able=able) if able else rows

    def quarantine(self) -> int:
        """Push those that have to run alone."""
        able = self._routes.able(QUARANTINE_QUEUE)
        with self._database.autocommit() as connection:
            rows = ready_store.next_quarantined(connection, self._limit, able=able)
        if not rows:
            return 0
        added = 0
        for signature, messages in self._routes.split(QUARANTINE_QUEUE, rows).items():
            if signature is not None:
                pushed = self._runway.dispatch_to(QUARANTINE_QUEUE, signature, messages, limit=self._limit)
            else:
                pushed = self._runway.dispatch(QUARANTINE_QUEUE, messages, limit=self._limit, closed=True)
            added += pushed.added
        return added
