"""The sessions that know an API key or a user: who is signed in, and ending that.

Whether the owner of a session showed a key, or signed in at a provider, is a row of `dashboard_sessions`, so
that a session can be listed and ended, and every API process knows it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from goqueue.access.key_ring import KeyRing
from goqueue.access.principal import Principal
from goqueue.access.users import principal_of_user
from goqueue.api.frame.acting import actor_of
from goqueue.audit import audit_rows as audit
from goqueue.audit.actor import acting_as
from goqueue.config.settings import Settings
from goqueue.dashboard.access import session_rows as session_store
from goqueue.dashboard.access.session_rows import EndedSession, Owner, SignedIn
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
    """The sessions that showed a key of the service, or whose users signed in. Thread-safe.

    Attributes:
        signer: writes their cookies and tokens.
        keys: those that may be shown.
        home: those of the installation, where these are of a namespace inside of its database: who may act in
            all namespaces signs in once.

    Args:
        settings: may have the secret that cookies are signed with.
        database: where the sessions are rows.
        keys: those that may be shown; of the same database where none are given.
        home: as the attribute.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        keys: KeyRing | None = None,
        *,
        home: Sessions | None = None,
    ) -> None:
        self.keys = keys or KeyRing(settings.api_keys, database)
        self.home = home
        self.signer = SessionSigner(settings, database)
        self._issuer = settings.oidc_issuer
        self._rules = settings.oidc_roles
        self._user_seconds = int(settings.oidc_session_seconds)
        self._database = database
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._lock = threading.Lock()

    def sign_in(
        self,
        principal: Principal,
        *,
        address: str | None,
        user_agent: str | None,
        claims: Mapping[str, Any] | None = None,
        id_token: str | None = None,
    ) -> Session:
        """Return a new session that showed a key, or whose user signed in.

        Args:
            principal: whoever signs in.
            address: where the browser is.
            user_agent: what it calls itself.
            claims: of a user: what the rules look at.
            id_token: of a user: what the provider is shown when the user signs out there, too.

        Raises:
            DatabaseUnavailableError: it could not be remembered.
        """
        seconds = LIFETIME_SECONDS if principal.user is None else self._user_seconds
        session = Session.begin(seconds)
        with acting_as(actor_of(principal, address)), self._database.transaction() as connection:
            audit.record(connection, "session.begin", "dashboard")
            session_store.begin(
                connection,
                session.name_hash,
                principal,
                claims=claims or {},
                id_token=id_token,
                address=_short(address),
                user_agent=_short(user_agent),
                seconds=seconds,
            )
        return session

    def principal_of(self, session: Session) -> Principal | None:
        """Return what the owner of a session may do, if its key or its user is still good.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        name_hash, now = session.name_hash, time.monotonic()
        with self._lock:
            principal, until = self._known.get(name_hash, (None, 0.0))
        if until > now:
            return principal
        with self._database.autocommit() as connection:
            owner = session_store.owner_of(connection, name_hash)
        principal = None if owner is None else self.principal_of_owner(owner)
        if principal is not None:
            self._remember(name_hash, principal, now + REMEMBERED_SECONDS)
        return principal

    def principal_of_owner(self, owner: Owner) -> Principal | None:
        """Return what the owner of a session may do now, by the keys and the rules of now; None: nothing.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        if owner.user is None:
            return self.keys.of_session(owner.key_hash, owner.key_id)
        if owner.user.issuer != self._issuer:
            return None
        found = principal_of_user(self._rules, owner.user, owner.claims)
        namespace = self.keys.namespace
        return found if found is None or namespace is None or found.opens(namespace) else None

    def sign_out(self, session: Session) -> EndedSession | None:
        """End a session, and return it: its cookie opens nothing any more. None: there was none."""
        with self._database.transaction() as connection:
            ended = session_store.end(connection, session.name_hash)
            if ended is not None:
                audit.record(connection, "session.end", "dashboard")
        self._forget_known()
        return ended

    def end(self, session_ids: list[int]) -> list[int]:
        """End the sessions of these ids; of those that there were."""
        with self._database.transaction() as connection:
            ended = session_store.end_by_id(connection, session_ids)
            if ended:
                audit.record(connection, "session.end", "dashboard", after={"sessions": ended})
        self._forget_known()
        return ended

    def signed_in(self, limit: int) -> list[SignedIn]:
        """List the sessions whose key or user is still good, the newest first."""
        with self._database.autocommit() as connection:
            found = session_store.list_all(connection, limit=limit)
        return [one for one in found if self.principal_of_owner(one.owner) is not None]

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
