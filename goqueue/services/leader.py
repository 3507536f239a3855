"""Who leads: one of any number of scheduler processes, by a PostgreSQL advisory lock."""

from __future__ import annotations

import structlog

from goqueue.db import Connection, Database
from goqueue.errors import DatabaseUnavailableError
from goqueue.store.leadership import LEADER_LOCK

log = structlog.get_logger(__name__)


class Leader:
    """Holds the leadership as long as its connection lives.

    The lock belongs to the session, so a leader that dies loses it when PostgreSQL sees its socket close.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    @property
    def leads(self) -> bool:
        """Whether this process believes that it leads."""
        return self._connection is not None

    def try_to_lead(self) -> bool:
        """Become or stay the leader; False: somebody else is, or PostgreSQL does not answer."""
        try:
            if self._connection is None:
                self._connection = self._acquire()
            else:
                self._connection.exec_driver_sql("SELECT 1")
        except Exception as error:  # noqa: BLE001  (whatever is wrong with the session: the lock went with it)
            log.warning("leadership_lost", error=str(error).partition("\n")[0])
            self.resign()
        return self._connection is not None

    def resign(self) -> None:
        """Give the leadership up."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
            connection.close()

    def _acquire(self) -> Connection | None:
        try:
            connection = self._database.checkout()
        except Exception as error:
            raise DatabaseUnavailableError from error
        if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LEADER_LOCK})").scalar():
            log.info("leadership_won")
            return connection
        connection.close()
        return None
