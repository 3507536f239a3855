"""Who sits before a browser: a signed cookie, and the token that every change has to bring.

The cookie holds a random name, whether its owner showed an API key, and until when it is good, signed with
HMAC-SHA-256. Nothing of it is kept on the server, so every API process accepts it. The secret is derived from
settings that all of them share; other keys, or another database, end every session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from goqueue.config import Settings

__all__ = ["COOKIE", "LIFETIME_SECONDS", "Session", "Sessions"]

COOKIE = "goqueue_session"

#: A working day: who shows a key in the morning has not to in the afternoon.
LIFETIME_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """One browser.

    Attributes:
        name: random; nobody else knows it.
        knows_key: its owner showed an API key.
        expires_at: seconds since the epoch.
    """

    name: str
    knows_key: bool
    expires_at: int


class Sessions:
    """Makes sessions, and knows its own."""

    def __init__(self, settings: Settings) -> None:
        parts = (settings.database_url.get_secret_value(), settings.namespace, *settings.api_keys)
        self._secret = hashlib.sha256("\n".join(("goqueue dashboard", *parts)).encode()).digest()

    def begin(self, *, knows_key: bool) -> Session:
        """A new session."""
        return Session(secrets.token_urlsafe(18), knows_key, int(time.time()) + LIFETIME_SECONDS)

    def write(self, session: Session) -> str:
        """The value of its cookie."""
        text = f"{session.name}.{int(session.knows_key)}.{session.expires_at}"
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where it is not ours, or over."""
        text, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(self._sign("session", text).encode(), signature.encode()):
            return None
        name, knows_key, expires_at = text.split(".")
        session = Session(name, knows_key == "1", int(expires_at))
        return session if session.expires_at > time.time() else None

    def token(self, session: Session) -> str:
        """What a form of this session has to bring along, which a page of somebody else cannot know."""
        return self._sign("form", session.name)

    def accepts(self, session: Session, token: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(self.token(session).encode(), token.encode())

    def _sign(self, use: str, text: str) -> str:
        return hmac.new(self._secret, f"{use}:{text}".encode(), hashlib.sha256).hexdigest()
