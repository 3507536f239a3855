"""The sessions that know an API key: who is signed in, and ending that.

Whether the owner of a session showed a key is a row of `dashboard_sessions`, so that a session can be listed
and ended, and every API process knows it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from goqueue.access.key_ring import KeyRing
from goqueue.access.principal import Principal
from goqueue.api.frame.acting import actor_of
from goqueue.audit import audit_rows as audit
from goqueue.audit.actor import acting_as
from goqueue.config.settings import Settings
from goqueue.dashboard.access import session_rows as session_store
from goqueue.dashboard.access.session_rows import SignedIn
from goqueue.dashboard.access.signing import LIFETIME_SECONDS, Session, SessionSigner
from goqueue.db.database import Database

__all__ = ["Sessions"]

#: So long a process remembers that a session knows a key: fifty polls a second are not fifty queries. A
#: session that is ended elsewhere goes on for so long at most.
REMEMBERED_SECONDS = 1.0
REMEMBERED_MAX = 10_000

#: What is kept of who signed in.
TEXT_MAX_CHARACTERS = 300


class Sessions:
    """The sessions that showed a key of the service. Thread-safe.

    Attributes:
        signer: writes their cookies and tokens.
        keys: those that may be shown.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.keys = KeyRing(settings.api_keys, database)
        self.signer = SessionSigner(settings, database)
        self._database = database
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._lock = threading.Lock()

    def sign_in(self, principal: Principal, *, address: str | None, user_agent: str | None) -> Session:
        """Return a new session that showed a key.

        Raises:
            DatabaseUnavailableError: it could not be remembered.
        """
        session = Session.begin()
        with acting_as(actor_of(principal, address)), self._database.transaction() as connection:
            audit.record(connection, "session.begin", "dashboard")
            session_store.begin(
                connection,
                session.name_hash,
                principal.key_hash,
                key_id=principal.key_id,
                address=_short(address),
                user_agent=_short(user_agent),
                seconds=LIFETIME_SECONDS,
            )
        return session

    def principal_of(self, session: Session) -> Principal | None:
        """Return what the key that its owner showed allows, if the key is still good.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        name_hash, now = session.name_hash, time.monotonic()
        with self._lock:
            principal, until = self._known.get(name_hash, (None, 0.0))
        if until > now:
            return principal
        with self._database.autocommit() as connection:
            shown = session_store.key_of(connection, name_hash)
        principal = None if shown is None else self.keys.of_session(*shown)
        if principal is not None:
            self._remember(name_hash, principal, now + REMEMBERED_SECONDS)
        return principal

    def sign_out(self, session: Session) -> None:
        """End a session: its cookie opens nothing any more."""
        with self._database.transaction() as connection:
            if session_store.end(connection, session.name_hash) is not None:
                audit.record(connection, "session.end", "dashboard")
        self._forget_known()

    def end(self, session_ids: list[int]) -> list[int]:
        """End the sessions of these ids; of those that there were."""
        with self._database.transaction() as connection:
            ended = session_store.end_by_id(connection, session_ids)
            if ended:
                audit.record(connection, "session.end", "dashboard", after={"sessions": ended})
        self._forget_known()
        return ended

    def signed_in(self, limit: int) -> list[SignedIn]:
        """List the sessions whose key is still good, the newest first."""
        with self._database.autocommit() as connection:
            found = session_store.list_all(connection, limit=limit)
        return [one for one in found if self.keys.of_session(one.key_hash, one.key_id) is not None]

    def _remember(self, name_hash: str, principal: Principal, until: float) -> None:
        with self._lock:
            self._known[name_hash] = principal, until
            self._known.move_to_end(name_hash)
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)

    def _forget_known(self) -> None:
        with self._lock:
            self._known.clear()


def _short(text: str | None) -> str | None:
    return None if text is None else "".join(filter(str.isprintable, text))[:TEXT_MAX_CHARACTERS]
