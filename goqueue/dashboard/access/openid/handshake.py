"""The sign-in that a browser has begun at the provider, as a short-lived cookie of that browser alone.

The cookie has a random name, a time and where to go afterwards, signed together with the session of the
browser. State, nonce and the verifier of PKCE are derived from the name by the secret that signs, so they
stand nowhere.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import quote, unquote

from goqueue.dashboard.access.signing import Session, SessionSigner

__all__ = ["HANDSHAKE_COOKIE", "HANDSHAKE_SECONDS", "Handshake", "HandshakeSigner"]

HANDSHAKE_COOKIE = "goqueue_sign_in"

#: Whoever has to find a second factor first has time for it.
HANDSHAKE_SECONDS = 600

#: A longer place is not gone back to: a cookie has 4 KiB.
PLACE_MAX_CHARACTERS = 2_000

_COOKIE = re.compile(r"([A-Za-z0-9_-]{24})\.([0-9]{1,12})\.([A-Za-z0-9_.%~-]*)\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Handshake:
    """A sign-in that a browser has begun.

    Attributes:
        name: random.
        expires_at: seconds since the epoch.
        place: where the browser wanted to be, on this dashboard.
        state: what the provider has to send back with the browser.
        nonce: what the provider has to write into the ID token.
        verifier: what the code is worth nothing without (RFC 7636).
    """

    name: str
    expires_at: int
    place: str
    state: str
    nonce: str
    verifier: str

    def has_state(self, given: str) -> bool:
        """Tell whether a browser came back with the state of this sign-in."""
        return hmac.compare_digest(self.state.encode(), given.encode("utf-8", "surrogatepass"))


class HandshakeSigner:
    """The signer of sign-ins that were begun. Thread-safe.

    Args:
        signer: has the secret.
    """

    def __init__(self, signer: SessionSigner) -> None:
        self._signer = signer

    def begin(self, place: str) -> Handshake:
        """Begin a sign-in of a browser that wants to be at a place of this dashboard."""
        kept = place if len(quote(place, safe="")) <= PLACE_MAX_CHARACTERS else ""
        return self._handshake(secrets.token_urlsafe(18), int(time.time()) + HANDSHAKE_SECONDS, kept)

    def write(self, handshake: Handshake, session: Session) -> str:
        """Return the value of the cookie of a sign-in, which is good for this session alone."""
        text = f"{handshake.name}.{handshake.expires_at}.{quote(handshake.place, safe='')}"
        return f"{text}.{self._signature(text, session)}"

    def read(self, cookie: str, session: Session) -> Handshake | None:
        """Return the sign-in of a cookie; None: it is not ours, of another session, or too long ago."""
        found = _COOKIE.fullmatch(cookie)
        if found is None:
            return None
        signature = self._signature(cookie.rpartition(".")[0], session)
        if not hmac.compare_digest(signature, found[4]) or int(found[2]) <= time.time():
            return None
        return self._handshake(found[1], int(found[2]), unquote(found[3]))

    def _handshake(self, name: str, expires_at: int, place: str) -> Handshake:
        derived = (self._signer.sign(f"sign-in {use}", name) for use in ("state", "nonce", "verifier"))
        return Handshake(name, expires_at, place, *derived)

    def _signature(self, text: str, session: Session) -> str:
        return self._signer.sign("sign-in", f"{text}.{session.name}")
