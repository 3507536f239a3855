"""Connections to one of several servers, for which nobody waits while it is known to be away."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from goqueue.config.settings import Settings
from goqueue.db.database import BROKEN, Database, expect_primary
from goqueue.db.sqlstates import Verdict, verdict_of
from goqueue.errors import DatabaseUnavailableError, GoQueueError

__all__ = ["OutageAwareDatabase"]

log = structlog.get_logger(__name__)

#: How often a server that is away is asked whether it is back.
ASK_SECONDS = 0.5


class OutageAwareDatabase(Database):
    """A `Database` that refuses at once while its server is away, where others would wait for a time-out.

    Whoever is cut off, or finds nobody who takes a connection, begins an outage. From then on a thread asks
    the server twice a second, and ends the outage when it takes writes again. For a process that serves
    several databases: those who need this one must not hold what the others need.

    Args:
        settings: as of `Database`; the namespace stands in log lines and errors.
        **options: the other arguments of `Database`.
    """

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self._namespace = settings.namespace
        self._lock = threading.Lock()
        self._is_away = False
        self._closed = threading.Event()

    @property
    def is_away(self) -> bool:
        """Tell whether its server is known to be away."""
        return self._is_away

    def take(self) -> Connection:
        """Return an idle connection, or one of the pool.

        Raises:
            DatabaseUnavailableError: the server is known to be away. Other errors are the driver's.
        """
        self._expect_server()
        return super().take()

    def checkout(self) -> Connection:
        """Return a connection of the pool that the caller closes. Raises as `take`."""
        self._expect_server()
        return super().checkout()

    def translation_of(self, error: Exception) -> GoQueueError:
        """Return the error of ours for one of the driver's, and begin an outage where the server is gone."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        # What has a code was said by the server, which may be well but for one session.
        is_gone = verdict_of(cause) is Verdict.LOST and getattr(cause, "sqlstate", None) is None
        if is_gone and isinstance(cause, psycopg.Error):
            self._begin_outage()
        return super().translation_of(error)

    def close(self) -> None:
        """Close every pooled connection, and ask after the server no more."""
        self._closed.set()
        super().close()

    def _expect_server(self) -> None:
        if self._is_away:
            raise DatabaseUnavailableError(
                f"PostgreSQL: the server of the namespace {self._namespace} is away"
            )

    def _begin_outage(self) -> None:
        with self._lock:
            if self._is_away or self._closed.is_set():
                return
            self._is_away = True
        log.warning("namespace_unavailable", namespace=self._namespace)
        threading.Thread(target=self._wait_for_end, name=f"outage-{self._namespace}", daemon=True).start()

    def _wait_for_end(self) -> None:
        while not self._closed.wait(ASK_SECONDS):
            if self._answers():
                self._is_away = False
                log.info("namespace_available_again", namespace=self._namespace)
                return
        self._is_away = False

    def _answers(self) -> bool:
        try:
            connection = self.engine.connect()
        except (DBAPIError, psycopg.Error, *BROKEN):
            return False
        try:
            expect_primary(connection)
        except (DBAPIError, psycopg.Error, *BROKEN):
            connection.invalidate()
            return False
        finally:
            connection.close()
        return True
