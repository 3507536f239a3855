"""Sessions as a browser holds them: a signed cookie, and the token that every change has to bring.

The cookie holds a random name and until when it is good, signed with HMAC-SHA-256. What signs is a secret
that nobody can derive from the settings: `GOQUEUE_SESSION_SECRET`, or 256 random bits that the first process
of the service left in PostgreSQL.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from goqueue.access import secret_rows
from goqueue.config.settings import SESSION_MAX_SECONDS, Settings
from goqueue.db.database import Database

__all__ = ["COOKIE", "HOST_PREFIX", "LIFETIME_SECONDS", "SECURE_COOKIE", "Session", "SessionSigner"]

COOKIE = "goqueue_session"

#: Behind TLS: a browser takes a cookie of this prefix only from the host itself, over TLS (RFC 6265bis).
HOST_PREFIX = "__Host-"
SECURE_COOKIE = f"{HOST_PREFIX}{COOKIE}"

#: A working day: who shows a key in the morning has not to in the afternoon.
LIFETIME_SECONDS = SESSION_MAX_SECONDS

#: The secret among `service_secrets`.
SECRET = "dashboard sessions"  # noqa: S105  (its name)

#: The secret of a form and its mask have so many bytes; both in hexadecimal are its token.
_SECRET_BYTES = 32
_TOKEN = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session of one browser, with or without a key.

    Attributes:
        name: random; nobody else knows it.
        expires_at: seconds since the epoch.
    """

    name: str
    expires_at: int

    @property
    def name_hash(self) -> str:
        """The hash of the name, which is kept instead of it."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    @classmethod
    def begin(cls, seconds: int = LIFETIME_SECONDS) -> Session:
        """Make a new session, which is good for so many seconds and knows no key."""
        return cls(secrets.token_urlsafe(18), int(time.time()) + seconds)


class SessionSigner:
    """The signer of sessions and of the tokens of their forms, which knows its own again. Thread-safe."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._session_secret = settings.session_secret
        self._database = database

    def write(self, session: Session) -> str:
        """Return the value of the session's cookie."""
        text = f"{session.name}.{session.expires_at}"
        return f"{text}.{self.sign('session', text)}"

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None where it is not ours, or over."""
        text, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(self.sign("session", text).encode(), _bytes(signature)):
            return None
        name, expires_at = text.split(".")
        session = Session(name, int(expires_at))
        return session if session.expires_at > time.time() else None

    def token(self, session: Session) -> str:
        """Make the token that a form of this session has to bring, which no page of somebody else can know.

        Another text each time, so that no length of a compressed answer tells any of it (BREACH).
        """
        secret, mask = self._form_secret(session), secrets.token_bytes(_SECRET_BYTES)
        return (mask + _xor(secret, mask)).hex()

    def accepts(self, session: Session, token: str) -> bool:
        """Tell whether a form came from a page of this session."""
        found = bytes.fromhex(token) if _TOKEN.fullmatch(token) else bytes(2 * _SECRET_BYTES)
        secret = _xor(found[_SECRET_BYTES:], found[:_SECRET_BYTES])
        return hmac.compare_digest(self._form_secret(session), secret)

    def tag(self, session: Session) -> str:
        """Make a tag that tells this session's pages with forms from those of others; it opens nothing."""
        return self.sign("tag", session.name)[:8]

    def _form_secret(self, session: Session) -> bytes:
        return bytes.fromhex(self.sign("form", session.name))

    def sign(self, use: str, text: str) -> str:
        """Return the HMAC-SHA-256 of a text for one use, in hexadecimal; that of another use is another."""
        return hmac.new(self._secret, f"{use}:".encode() + _bytes(text), hashlib.sha256).hexdigest()

    @functools.cached_property
    def _secret(self) -> bytes:
        if self._session_secret is not None:
            return self._session_secret.get_secret_value().encode()
        with self._database.autocommit() as connection:
            return secret_rows.secret(connection, SECRET).encode()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))


def _bytes(text: str) -> bytes:
    """The text, whatever a browser sent: half a surrogate pair has no bytes of its own."""
    return text.encode("utf-8", "surrogatepass")
