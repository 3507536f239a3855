"""The provider as it describes itself: its addresses, and the keys that it signs with; read lazily."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from authlib.oidc.discovery import get_well_known_url
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

from goqueue.dashboard.access.openid.calls import ProviderCalls
from goqueue.errors import ProviderUnavailableError

__all__ = ["Provider", "ProviderAddresses", "PublicKey"]

T = TypeVar("T")

#: So long a process believes what the provider said of itself.
GOOD_FOR_SECONDS = 3_600.0

#: A provider that did not describe itself is not asked again for so long.
AWAY_SECONDS = 5.0

#: A key of a signature that everybody may check. Symmetric ones are none.
PublicKey = RSAKey | ECKey


@dataclass(frozen=True, slots=True)
class ProviderAddresses:
    """The addresses of a provider (OpenID Connect Discovery 1.0, RFC 8414, RFC 9207).

    Attributes:
        userinfo, end_session: None: the provider has no such address.
        auth_methods: how a client may show its secret at `token`.
        names_itself: the provider sends its name along with the browser, always.
    """

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    end_session: str | None
    auth_methods: tuple[str, ...]
    names_itself: bool


class Provider:
    """A provider of OpenID Connect. Thread-safe.

    Args:
        issuer: exactly as the provider calls itself.
        calls: make the calls.
    """

    def __init__(self, issuer: str, calls: ProviderCalls) -> None:
        self.issuer = issuer
        self._calls = calls
        self._addresses = _Kept(self._read_addresses)
        self._keys = _Kept(self._read_keys)

    def addresses(self) -> ProviderAddresses:
        """Return where the provider is asked what.

        Raises:
            ProviderUnavailableError: it does not answer, or is another one than it should be.
        """
        return self._addresses.get()

    def key(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """Return the key with this id, for this algorithm; None: the provider has none such now.

        Args:
            key_id: as a token names it. None: a provider with one key alone need not name it.
            algorithm: as a token names it. A key that is for another one is none.

        Raises:
            ProviderUnavailableError: it does not answer.
        """
        found = None if key_id is None else _chosen(self._keys.get(), key_id, algorithm)
        # It may have changed its keys since they were read; a key without a name is never known again.
        return found or _chosen(self._keys.get_anew(), key_id, algorithm)

    def _read_addresses(self) -> ProviderAddresses:
        document = self._calls.get(get_well_known_url(self.issuer, external=True))
        if document.get("issuer") != self.issuer:
            raise ProviderUnavailableError("it calls itself something else than GOQUEUE_OIDC_ISSUER")
        methods = document.get("token_endpoint_auth_methods_supported")
        return ProviderAddresses(
            authorization=self._address(document, "authorization_endpoint"),
            token=self._address(document, "token_endpoint"),
            keys=self._address(document, "jwks_uri"),
            userinfo=self._address_if_any(document, "userinfo_endpoint"),
            end_session=self._address_if_any(document, "end_session_endpoint"),
            auth_methods=tuple(methods) if isinstance(methods, list) else ("client_secret_basic",),
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _address_if_any(self, document: Mapping[str, Any], member: str) -> str | None:
        return self._address(document, member) if document.get(member) is not None else None

    def _address(self, document: Mapping[str, Any], member: str) -> str:
        """An address that is no less safe than the issuer's own."""
        found = document.get(member)
        schemes = {"https", urlsplit(self.issuer).scheme}
        if not isinstance(found, str) or not _is_address(found, schemes):
            raise ProviderUnavailableError(f"it names no {member} that can be used")
        return found

    def _read_keys(self) -> tuple[PublicKey, ...]:
        found = self._calls.get(self.addresses().keys).get("keys")
        if not isinstance(found, list):
            raise ProviderUnavailableError("it tells no keys")
        return tuple(key for key in map(_key_of, found) if key is not None)


class _Kept(Generic[T]):
    """What was read of the provider, for an hour; and for seconds, that it could not be."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._found: tuple[T, float] | None = None
        self._away: tuple[str, float] | None = None

    def get(self) -> T:
        now = time.monotonic()
        with self._lock:
            found, away = self._found, self._away
        if found is not None and now < found[1]:
            return found[0]
        if away is not None and now < away[1]:
            raise ProviderUnavailableError(away[0])
        return self.get_anew()

    def get_anew(self) -> T:
        now = time.monotonic()
        try:
            value = self._read()
        except ProviderUnavailableError as error:
            with self._lock:
                # From its end on: what took the whole time is not begun again at once.
                self._away = str(error), time.monotonic() + AWAY_SECONDS
            raise
        with self._lock:
            self._found, self._away = (value, now + GOOD_FOR_SECONDS), None
        return value


def _is_address(text: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return text.isprintable() and " " not in text and parts.scheme in schemes and bool(parts.hostname)


def _key_of(document: Any) -> PublicKey | None:
    """A key of the provider that signatures may be checked with; None: it is for something else."""
    if not isinstance(document, dict) or document.get("use") not in (None, "sig"):
        return None
    try:
        key = JWKRegistry.import_key(document)
    except (JoseError, ValueError, TypeError, KeyError):
        return None  # of a kind that is not known here: there may be others
    return key if isinstance(key, RSAKey | ECKey) else None


def _chosen(keys: tuple[PublicKey, ...], key_id: str | None, algorithm: str) -> PublicKey | None:
    """The one key that can have signed a token. That it is for this algorithm the library looks at again."""
    fitting = [key for key in keys if key.alg in (None, algorithm)]
    if key_id is None:
        return fitting[0] if len(fitting) == 1 else None
    return next((key for key in fitting if key.kid == key_id), None)
