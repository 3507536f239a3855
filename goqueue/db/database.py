"""Connections to PostgreSQL, and the one seam where driver errors become GoQueue's.

Statements of one round trip run in autocommit; `transaction()` is for what must be atomic over several.
"""

from __future__ import annotations

import functools
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from goqueue.config.settings import Settings
from goqueue.contents.contents import JobContents
from goqueue.db.server_connection import ServerConnection
from goqueue.db.session import create_engine_of
from goqueue.db.sqlstates import Verdict, verdict_of
from goqueue.db.statements import CONTENTS, HEAD_START
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError, GoQueueError
from goqueue.forks import call_in_children, disconnect_in_children

__all__ = ["Connection", "Database", "expect_primary", "retry_on_conflict"]

P = ParamSpec("P")
R = TypeVar("R")

#: A conflict is settled by running the statement again; more than a handful in a row is a bug, not load.
CONFLICT_TRIES = 10

CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

#: What SQLAlchemy says of a connection that broke before: whoever uses it sees an outage.
BROKEN = (DisconnectionError, PendingRollbackError, ResourceClosedError)

#: After all connections were given up they are not given up again for so long: an error that comes back all
#: the time must not have each statement connect anew.
GIVEN_UP_SECONDS = 1.0


class Database:
    """The connection pool of one process. Nothing connects before the first use.

    Args:
        settings: the URL, the pool's size and the time-outs.
        pool_size: connections kept, instead of the setting's.
        application_name: what `pg_stat_activity` shows.
        on_connect: is called with each new connection, which is not used when it raises a psycopg.Error.

    Attributes:
        contents: encrypts and decrypts what jobs hold, for statements on its connections.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pool_size: int | None = None,
        application_name: str = "goqueue",
        on_connect: Callable[[psycopg.Connection[Any]], None] | None = None,
    ) -> None:
        self.engine = create_engine_of(settings, pool_size or settings.database_pool_size, application_name)
        event.listen(self.engine, "connect", self._note_generation)
        self._head_start_seconds = settings.priority_head_start_seconds
        self.contents = JobContents.of_settings(settings)
        event.listen(self.engine, "connect", self._note_head_start)
        if on_connect is not None:
            event.listen(self.engine, "connect", lambda connection, _record: on_connect(connection))
        event.listen(self.engine, "checkout", self._refuse_bad_connection)
        # Checked out and open, for the next statement: going through the pool costs a single INSERT a tenth.
        self._idle: deque[Connection] = deque()
        self._generation = 0
        self._given_up_at = 0.0
        #: What a fork copied, kept: letting go of a connection makes SQLAlchemy talk to its server.
        self._of_parents: list[object] = []
        event.listen(self.engine, "connect", _cut_off_in_children)
        call_in_children(self._begin_in_child)

    def autocommit(self) -> AbstractContextManager[Connection]:
        """Lend a connection on which every statement is its own transaction.

        Raises:
            DatabaseUnavailableError: PostgreSQL cannot be reached, is shutting down, or gave up waiting.
            DatabaseRefusedError: it refused a statement.
        """
        return _Autocommit(self)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection in a READ COMMITTED transaction, committed at the end, rolled back on an error.

        Raises:
            DatabaseUnavailableError: as `autocommit`; also for a deadlock, which ended the transaction.
        """
        with self.connection() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection of the pool for a longer time.

        Raises:
            DatabaseUnavailableError: as `autocommit`.
        """
        with self._translated():
            connection = self.checkout()
            try:
                yield connection
            finally:
                _give_back(connection)

    def checkout(self) -> Connection:
        """A connection of the pool that the caller closes; errors are the driver's."""
        with suppress(IndexError):
            # The pool counts idle ones as used.
            self._idle.pop().close()
        return self.engine.connect()

    def close(self) -> None:
        """Close every pooled connection; the next use opens new ones."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()
        self.engine.dispose()

    def _begin_in_child(self) -> None:
        """Let a forked child open connections of its own; its parent goes on with what it has."""
        self._of_parents += [self._idle.copy(), self.engine.pool]
        self._idle.clear()
        self.engine.dispose(close=False)

    def give_up_connections(self) -> None:
        """Replace every connection that is open now, each before its next use: something is wrong there."""
        now = time.monotonic()
        if now - self._given_up_at >= GIVEN_UP_SECONDS:
            self._given_up_at = now
            self._generation += 1

    def take(self) -> Connection:
        """An idle connection, or one of the pool; errors are the driver's."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.engine.connect()
            driver = connection.connection.driver_connection
            if driver is not None and self._is_good(driver):
                return connection
            _give_back(connection, is_good=False)

    def keep(self, connection: Connection) -> None:
        """Keep a connection that is well for the next statement."""
        self._idle.append(connection)

    def translation_of(self, error: Exception) -> GoQueueError:
        """The error of ours that stands for one of the driver's; a bad server costs it its connections."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        verdict = verdict_of(cause)
        if verdict is Verdict.REFUSED:
            return DatabaseRefusedError(f"PostgreSQL: {_first_line(cause)}")
        if verdict in {Verdict.LOST, Verdict.DOUBTFUL}:
            self.give_up_connections()
        may_be_the_statement = verdict in {Verdict.BUSY, Verdict.DOUBTFUL}
        return DatabaseUnavailableError(
            f"PostgreSQL: {_first_line(cause)}", may_be_the_statement=may_be_the_statement
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError("no free connection to PostgreSQL") from error
        except (DBAPIError, psycopg.Error, *BROKEN) as error:
            raise self.translation_of(error) from error

    def _is_good(self, connection: psycopg.Connection[Any]) -> bool:
        generation = getattr(connection, "generation", 0)
        return generation == self._generation and not _was_closed_by_server(connection)

    def _note_generation(self, connection: ServerConnection, _record: object) -> None:
        connection.generation = self._generation

    def _note_head_start(self, _connection: object, record: ConnectionPoolEntry) -> None:
        record.info[HEAD_START] = self._head_start_seconds
        record.info[CONTENTS] = self.contents

    def _refuse_bad_connection(
        self, connection: psycopg.Connection[Any], _record: object, _proxy: object
    ) -> None:
        """Raising DisconnectionError makes the pool open a new one."""
        if not self._is_good(connection):
            raise DisconnectionError


class _Autocommit:
    """What `Database.autocommit` enters: an idle connection, or one of the pool."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Connection:
        try:
            self._connection = self._database.take()
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError("no free connection to PostgreSQL") from error
        except (DBAPIError, psycopg.Error, *BROKEN) as error:
            raise self._database.translation_of(error) from error
        return self._connection

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            self._database.keep(self._connection)
            return
        _give_back(self._connection)
        if isinstance(error, (DBAPIError, psycopg.Error, *BROKEN)):
            raise self._database.translation_of(error) from error


def expect_primary(connection: Connection) -> None:
    """See that the server accepts writes.

    Raises:
        psycopg.Error: it does not: it was demoted, or made read-only. Inside of `Database.autocommit` that is
            a DatabaseUnavailableError, as that of any statement.
    """
    asked = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
    if connection.exec_driver_sql(asked).scalar():
        raise psycopg.errors.ReadOnlySqlTransaction("the server accepts no writes")


def retry_on_conflict(function: Callable[P, R]) -> Callable[P, R]:
    """Run a statement again when PostgreSQL ended it for a deadlock or a serialization failure.

    Statements over many rows lock them in id order, so this is rare; it exists because an index scan and a
    bitmap scan of the same rows may still meet in the middle. Only on an autocommit connection: in a longer
    transaction the conflict ended more than this statement, and whoever began it has to begin again.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(CONFLICT_TRIES - 1):
            try:
                return function(*args, **kwargs)
            except CONFLICTS:
                connection = args[0]
                assert isinstance(connection, Connection)
                if not _is_autocommit(connection):
                    raise
        return function(*args, **kwargs)

    return run


def _is_autocommit(connection: Connection) -> bool:
    """Whether the conflict ended no more than its statement: on autocommit, and in no `rows.atomic` block."""
    driver = connection.connection.driver_connection
    return (
        driver is not None
        and bool(driver.autocommit)
        and driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    )


def _give_back(connection: Connection, *, is_good: bool = True) -> None:
    """Back to the pool, which resets it; or away with it, when the server closed it.

    Statements run on psycopg's connection, so SQLAlchemy does not see by itself when it breaks.
    """
    if not connection.invalidated:
        driver = connection.connection.driver_connection
        if driver is None or not is_good or _was_closed_by_server(driver):
            connection.invalidate()
    connection.close()


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _cut_off_in_children(connection: psycopg.Connection[Any], _record: object) -> None:
    disconnect_in_children(connection)


def _was_closed_by_server(connection: psycopg.Connection[Any]) -> bool:
    """Notice a server that went away while the connection lay idle, without a round trip.

    An idle connection has nothing to read, unless the server said goodbye: then the socket is readable.
    """
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
