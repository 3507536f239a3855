"""Who sits before a browser: a signed cookie, and the token that every change has to bring.

The cookie holds a random name and until when it is good, signed with HMAC-SHA-256. Whether its owner showed
an API key is a row of `dashboard_sessions`, so that a session can be listed and ended, and every API process
knows it. What signs is a secret that nobody can derive from the settings: `GOQUEUE_SESSION_SECRET`, or 256
random bits that the first process of the service left in PostgreSQL.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from goqueue.api.frame.security import ApiKey, KeyRing
from goqueue.config.settings import Settings
from goqueue.dashboard import session_rows as session_store
from goqueue.dashboard.session_rows import SignedIn
from goqueue.db.database import Database

__all__ = ["COOKIE", "LIFETIME_SECONDS", "SECURE_COOKIE", "Session", "Sessions"]

COOKIE = "goqueue_session"

#: Behind TLS: a browser takes a cookie of this prefix only from the host itself, over TLS (RFC 6265bis).
SECURE_COOKIE = f"__Host-{COOKIE}"

#: A working day: who shows a key in the morning has not to in the afternoon.
LIFETIME_SECONDS = 12 * 3600

#: So long a process remembers that a session knows a key: fifty polls a second are not fifty queries. A
#: session that is ended elsewhere goes on for so long at most.
REMEMBERED_SECONDS = 1.0
REMEMBERED_MAX = 10_000

#: The secret among `service_secrets`.
SECRET = "dashboard sessions"  # noqa: S105  (its name)

#: What is kept of who signed in.
TEXT_MAX_CHARACTERS = 300


#: The secret of a form and its mask have so many bytes; both in hexadecimal are its token.
_SECRET_BYTES = 32
_TOKEN = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Session:
    """One browser.

    Attributes:
        name: random; nobody else knows it.
        expires_at: seconds since the epoch.
    """

    name: str
    expires_at: int

    @property
    def name_hash(self) -> str:
        """What is kept of the name."""
        return hashlib.sha256(self.name.encode()).hexdigest()


class Sessions:
    """Makes sessions, knows its own, and which of them know a key. Thread-safe."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._keys = KeyRing(settings.api_keys)
        self._session_secret = settings.session_secret
        self._database = database
        self._known: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> Session:
        """A new session, which knows no key."""
        return Session(secrets.token_urlsafe(18), int(time.time()) + LIFETIME_SECONDS)

    def sign_in(self, key_hash: str, *, address: str | None, user_agent: str | None) -> Session:
        """A new session that showed a key.

        Raises:
            DatabaseUnavailableError: it could not be remembered.
        """
        session = self.begin()
        with self._database.autocommit() as connection:
            session_store.begin(
                connection,
                session.name_hash,
                key_hash,
                address=_short(address),
                user_agent=_short(user_agent),
                seconds=LIFETIME_SECONDS,
            )
        return session

    def key_of(self, session: Session) -> ApiKey | None:
        """The key that its owner showed, if the service still has it.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        name_hash, now = session.name_hash, time.monotonic()
        with self._lock:
            key, until = self._known.get(name_hash, (None, 0.0))
        if until > now:
            return key
        with self._database.autocommit() as connection:
            key = self._keys.of_hash(session_store.key_of(connection, name_hash))
        if key is not None:
            self._remember(name_hash, key, now + REMEMBERED_SECONDS)
        return key

    def sign_out(self, session: Session) -> None:
        """End a session: its cookie opens nothing any more."""
        with self._database.autocommit() as connection:
            session_store.end(connection, session.name_hash)
        self._forget_known()

    def end(self, session_ids: list[int]) -> list[int]:
        """End the sessions of these ids; of those that there were."""
        with self._database.autocommit() as connection:
            ended = session_store.end_by_id(connection, session_ids)
        self._forget_known()
        return ended

    def signed_in(self, limit: int) -> list[SignedIn]:
        """Those that know a key of the service, the newest first."""
        with self._database.autocommit() as connection:
            found = session_store.list_all(connection, limit=limit)
        return [one for one in found if self._keys.of_hash(one.key_hash) is not None]

    def write(self, session: Session) -> str:
        """The value of its cookie."""
        text = f"{session.name}.{session.expires_at}"
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where it is not ours, or over."""
        text, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(self._sign("session", text).encode(), _bytes(signature)):
            return None
        name, expires_at = text.split(".")
        session = Session(name, int(expires_at))
        return session if session.expires_at > time.time() else None

    def token(self, session: Session) -> str:
        """What a form of this session has to bring along, which a page of somebody else cannot know.

        Another text each time, so that no length of a compressed answer tells any of it (BREACH).
        """
        secret, mask = self._form_secret(session), secrets.token_bytes(_SECRET_BYTES)
        return (mask + _xor(secret, mask)).hex()

    def accepts(self, session: Session, token: str) -> bool:
        """Whether a form came from a page of this session."""
        found = bytes.fromhex(token) if _TOKEN.fullmatch(token) else bytes(2 * _SECRET_BYTES)
        secret = _xor(found[_SECRET_BYTES:], found[:_SECRET_BYTES])
        return hmac.compare_digest(self._form_secret(session), secret)

    def tag(self, session: Session) -> str:
        """Tells pages with forms of this session from those of others; it opens nothing."""
        return self._sign("tag", session.name)[:8]

    def _form_secret(self, session: Session) -> bytes:
        return bytes.fromhex(self._sign("form", session.name))

    def _sign(self, use: str, text: str) -> str:
        return hmac.new(self._secret, f"{use}:".encode() + _bytes(text), hashlib.sha256).hexdigest()

    @functools.cached_property
    def _secret(self) -> bytes:
        if self._session_secret is not None:
            return self._session_secret.get_secret_value().encode()
        with self._database.autocommit() as connection:
            return session_store.secret(connection, SECRET).encode()

    def _remember(self, name_hash: str, key: ApiKey, until: float) -> None:
        with self._lock:
            self._known[name_hash] = key, until
            self._known.move_to_end(name_hash)
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)

    def _forget_known(self) -> None:
        with self._lock:
            self._known.clear()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))


def _bytes(text: str) -> bytes:
    """The text, whatever a browser sent: half a surrogate pair has no bytes of its own."""
    return text.encode("utf-8", "surrogatepass")


def _short(text: str | None) -> str | None:
    return None if text is None else "".join(filter(str.isprintable, text))[:TEXT_MAX_CHARACTERS]
