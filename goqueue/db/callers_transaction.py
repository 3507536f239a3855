"""An application's own transaction, in which GoQueue inserts jobs: they exist when it commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import Connection, NestedTransaction, event

from goqueue.config.settings import Settings
from goqueue.contents.contents import JobContents
from goqueue.db.statements import CONTENTS, HEAD_START

# Six megabytes in every worker, which never gets a session: whoever hands one over has imported it.
if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

__all__ = ["CallersTransaction", "at_commit", "joined"]

#: What an application may hand over.
CallersTransaction: TypeAlias = "Session | scoped_session[Any] | Connection"


def joined(transaction: CallersTransaction, settings: Settings, contents: JobContents) -> Connection:
    """Return the connection of a caller's session, whose transaction GoQueue's statements join.

    Args:
        transaction: a session or a connection of SQLAlchemy's, on psycopg 3.
        settings: what the statements have to know of them is noted in the connection's `info`.
        contents: encrypts what the jobs hold.

    Raises:
        TypeError: it is nothing that GoQueue's statements can run on; the text says what to pass.
    """
    from sqlalchemy.orm import Session, scoped_session  # noqa: PLC0415

    if isinstance(transaction, (Session, scoped_session)):
        transaction = transaction.connection()
    if not isinstance(transaction, Connection):
        raise TypeError(
            "session: expected a Session or Connection of SQLAlchemy, on psycopg 3, got "
            f"{type(transaction).__module__}.{type(transaction).__qualname__}"
        )
    if not isinstance(transaction.connection.driver_connection, psycopg.Connection):
        raise TypeError(
            "session: expected one whose engine was made with postgresql+psycopg://, "
            f"got one on {transaction.dialect.name}+{transaction.dialect.driver}"
        )
    transaction.info[HEAD_START] = settings.priority_head_start_seconds
    transaction.info[CONTENTS] = contents
    return transaction


def at_commit(transaction: CallersTransaction, action: Callable[[], None]) -> None:
    """Call `action` once, when the caller's transaction has committed; never, when it is rolled back.

    A savepoint that is rolled back takes what was done within it along. SQLAlchemy tells of a bare
    connection's commit just before it happens: where PostgreSQL refuses that, the action is called all the
    same.
    """
    from sqlalchemy.orm import Session, scoped_session  # noqa: PLC0415

    if isinstance(transaction, scoped_session):
        at_commit(transaction(), action)
    elif isinstance(transaction, Session):
        _of_sessions.setdefault(transaction, _SessionActions()).add(transaction, action)
    else:
        _of_connections.setdefault(transaction, _ConnectionActions()).add(transaction, action)


class _SessionActions:
    """Waits for the end of a session's transactions."""

    def __init__(self) -> None:
        #: Each action, with the transaction and the savepoints in which it was added.
        self._actions: list[tuple[list[SessionTransaction], Callable[[], None]]] = []
        self._listens = False

    def add(self, session: Session, action: Callable[[], None]) -> None:
        """Call the action at the commit."""
        if not self._listens:
            self._listens = True
            event.listen(session, "after_commit", self._committed)
            event.listen(session, "after_soft_rollback", self._rolled_back)
        self._actions.append((_enclosing(session), action))

    def _committed(self, session: Session) -> None:
        if session.get_nested_transaction() is not None:
            # A savepoint was released: SQLAlchemy tells that as a commit, too.
            return
        actions, self._actions = self._actions, []
        for _, action in actions:
            action()

    def _rolled_back(self, _session: Session, ended: SessionTransaction) -> None:
        self._actions = [(within, action) for within, action in self._actions if ended not in within]


class _ConnectionActions:
    """Waits for the end of a bare connection's transactions."""

    def __init__(self) -> None:
        #: Each action, with the savepoint in which it was added.
        self._actions: list[tuple[NestedTransaction | None, Callable[[], None]]] = []
        self._listens = False

    def add(self, connection: Connection, action: Callable[[], None]) -> None:
        """Call the action at the commit."""
        if not self._listens:
            self._listens = True
            event.listen(connection, "commit", self._committed)
            event.listen(connection, "rollback", self._rolled_back)
            event.listen(connection, "rollback_savepoint", self._rolled_back_to_savepoint)
        self._actions.append((connection.get_nested_transaction(), action))

    def _committed(self, _connection: Connection) -> None:
        actions, self._actions = self._actions, []
        for _, action in actions:
            action()

    def _rolled_back(self, _connection: Connection) -> None:
        self._actions = []

    def _rolled_back_to_savepoint(self, connection: Connection, *_: object) -> None:
        ended = connection.get_nested_transaction()
        self._actions = [(within, action) for within, action in self._actions if within is not ended]


def _enclosing(session: Session) -> list[SessionTransaction]:
    """The transaction of a session, and every savepoint that is open in it."""
    transactions = []
    current = session.get_nested_transaction() or session.get_transaction()
    while current is not None:
        transactions.append(current)
        current = current.parent
    return transactions


#: The sessions and connections whose end is waited for, as long as they live.
_of_sessions: WeakKeyDictionary[Session, _SessionActions] = WeakKeyDictionary()
_of_connections: WeakKeyDictionary[Connection, _ConnectionActions] = WeakKeyDictionary()
