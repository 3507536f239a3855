"""Subscriptions: while one is kept, changes are written down as events."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from goqueue.db.database import Database
from goqueue.errors import DatabaseUnavailableError
from goqueue.events import subscription_rows

__all__ = ["LINGER_SECONDS", "Subscriptions"]

log = structlog.get_logger(__name__)

#: So long after the last lease events are still written, so that a client that comes back has missed none.
LINGER_SECONDS = 300.0

#: The tables are wanted for a moment, so many times; between two, others work.
TRIES, REST_SECONDS = 5, 0.2


class Subscriptions:
    """The leases of those who listen. Thread-safe.

    Args:
        database: whose changes.
        wait: waits so many seconds.
    """

    def __init__(self, database: Database, *, wait: Callable[[float], object] = time.sleep) -> None:
        self._database = database
        self._wait = wait

    def keep(self, name: str, seconds: float, *, what: str = "") -> None:
        """Have changes written down for so long from now, and for `LINGER_SECONDS` more.

        When this returns they are: a cursor of a moment later misses none. Whoever wants more of them calls
        it again before the time is over.

        Args:
            name: of the subscription; one of this name is kept for longer.
            seconds: the length of the lease.
            what: says for people what it is for; the name where it is empty.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer, or a transaction writes for so long that the
                triggers cannot be made; later they can.
        """
        with self._database.transaction() as connection:
            if subscription_rows.renew(connection, name, what or name, seconds=seconds):
                return
        self._begin()

    def end(self, name: str) -> None:
        """End a subscription; one that is not there has ended.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self._database.autocommit() as connection:
            subscription_rows.end(connection, name)

    def _begin(self) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                with self._database.transaction() as connection:
                    has_begun = subscription_rows.write(connection, is_patient=not tries_left)
            except DatabaseUnavailableError as error:
                if not error.may_be_the_statement or not tries_left:
                    raise
                self._wait(REST_SECONDS)
            else:
                if has_begun:
                    log.info("events_begin")
                return
