"""The leader: one of any number of scheduler processes, by a lease in PostgreSQL.

The leader renews it every moment. Another takes it when the leader's sessions are gone, or when it has not
renewed for a lease: it is stopped, or cut off. Before the new leader does anything it ends the sessions of
the old one, and with them whatever they had begun. The old one, when it goes on, finds by its own clock that
its lease is over, and uses no connection any more.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.errors import DatabaseUnavailableError, GoQueueError
from goqueue.scheduler import leadership_rows as leadership
from goqueue.scheduler.leadership_rows import LeadershipLease

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger(__name__)

#: So many looks in a row must see no renewal before a lease is taken that has only expired by PostgreSQL's
#: clock: that clock may have been set.
LOOKS_BEFORE_TAKING = 3


def clock() -> float:
    """Count the seconds that also pass while the machine sleeps, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leader:
    """Wants to lead, and holds the lease while it does.

    Attributes:
        name: what the sessions of this process are called in pg_stat_activity.
        database: connections for the lease, and for whatever a standby asks, too.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = f"goqueue-scheduler {secrets.token_hex(4)}"
        # Behind a pooler a session is nobody's, and could not be ended.
        self.database = Database(settings.without_pooler(), pool_size=3, application_name=self.name)
        self.lease_seconds = settings.leader_lease_seconds
        self._patience_seconds = LOOKS_BEFORE_TAKING * settings.leader_check_seconds
        self._term: int | None = None
        self._renewed_at = 0.0
        self._seen: LeadershipLease | None = None
        self._seen_at = 0.0

    @property
    def term(self) -> int | None:
        """The term that this process took, and did not lose yet; its lease may be over."""
        return self._term

    @property
    def leads(self) -> bool:
        """Tell whether this process leads: nobody else can have taken its lease yet."""
        return self._term is not None and clock() - self._renewed_at < self.lease_seconds

    def try_to_lead(self) -> bool:
        """Become or stay the leader; False: somebody else is, or PostgreSQL does not answer for too long."""
        try:
            with self.database.autocommit() as connection:
                if self._term is not None:
                    self._renew(connection, self._term)
                else:
                    self._stand_by(connection)
        except GoQueueError as error:
            log.warning("leadership_not_renewed", error=str(error))
        if self._term is not None and not self.leads:
            self._lose("its lease is over")
        return self.leads

    def resign(self) -> None:
        """Give the leadership up: another may lead at once."""
        if self._term is None:
            return
        term, self._term = self._term, None
        try:
            with self.database.autocommit() as connection:
                leadership.resign(connection, self.name, term)
        except GoQueueError as error:
            log.warning("leadership_not_returned", error=str(error))

    def close(self) -> None:
        """Resign, and close every connection."""
        self.resign()
        self.database.close()

    def expect_to_lead(self) -> None:
        """See that the lease is not over.

        Raises:
            DatabaseUnavailableError: it is: somebody else may lead.
        """
        if not self.leads:
            raise DatabaseUnavailableError("the lease of the leadership is over")

    def expect_session(self, connection: psycopg.Connection[Any]) -> None:
        """See that a session that was just opened is the leader's: whoever took over ended those before it.

        Raises:
            psycopg.OperationalError: somebody else leads.
        """
        leadership.expect_holder(connection, self.name, self._term or 0)

    def _renew(self, connection: Connection, term: int) -> None:
        now = clock()
        if leadership.renew(connection, self.name, term, lease_seconds=self.lease_seconds):
            self._renewed_at = now
        else:
            self._lose("somebody else leads")

    def _lose(self, why: str) -> None:
        log.warning("leadership_lost", reason=why, term=self._term)
        self._term = None

    def _stand_by(self, connection: Connection) -> None:
        """Look at the lease, and take it when it is free."""
        now = clock()
        lease = leadership.look(connection)
        if self._seen is None or (lease.term, lease.renewals) != (self._seen.term, self._seen.renewals):
            self._seen_at = now
        self._seen = lease
        if not self._is_free(lease, now - self._seen_at):
            return
        term = leadership.take(connection, lease, self.name, lease_seconds=self.lease_seconds)
        if term is None:
            return
        if lease.holder not in {None, self.name}:
            self._end_sessions(connection, str(lease.holder))
        self._renewed_at, self._term = now, term
        log.info("leadership_won", term=term, after=lease.holder)

    def _is_free(self, lease: LeadershipLease, unchanged_seconds: float) -> bool:
        if lease.holder in {None, self.name} or not lease.has_sessions:
            return True
        if unchanged_seconds >= self.lease_seconds:
            return True
        return lease.has_expired and unchanged_seconds >= self._patience_seconds

    def _end_sessions(self, connection: Connection, name: str) -> None:
        left = leadership.end_sessions(connection, name)
        if left:
            log.warning("sessions_of_former_leader_left", sessions=left, leader=name)


class LeaderDatabase(Database):
    """The connections of what only the leader does: none is given out when its lease is over."""

    def __init__(self, settings: Settings, leader: Leader) -> None:
        super().__init__(
            settings.without_pooler(), application_name=leader.name, on_connect=leader.expect_session
        )
        self._leader = leader

    def take(self) -> Connection:
        """Take a connection, as `Database.take` does.

        Raises:
            DatabaseUnavailableError: this process leads no more.
        """
        self._leader.expect_to_lead()
        return super().take()

    def checkout(self) -> Connection:
        """Check a connection out, as `Database.checkout` does.

        Raises:
            DatabaseUnavailableError: this process leads no more.
        """
        self._leader.expect_to_lead()
        return super().checkout()
