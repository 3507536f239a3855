"""Bearer keys: who may use the API, and where it may be opened without them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable

import falcon

from goqueue.config import Settings
from goqueue.errors import ConfigurationError

#: What a load balancer and a code generator may read without a key.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})


class KeyRing:
    """The API keys that are accepted.

    Args:
        key_hashes: SHA-256 of each key, in hexadecimal.
    """

    def __init__(self, key_hashes: tuple[str, ...]) -> None:
        self._key_hashes = [key_hash.encode() for key_hash in key_hashes]

    def accepts(self, key: str) -> bool:
        """Whether a key is one of them."""
        # A header is Latin-1; a key is compared as the bytes that were sent.
        given = hashlib.sha256(key.encode("latin-1", errors="replace")).hexdigest().encode()
        matches = [hmac.compare_digest(given, key_hash) for key_hash in self._key_hashes]
        return any(matches)  # after all were compared: the time does not tell which one fits

    def accepts_header(self, authorization: str) -> bool:
        """Whether the value of an Authorization header is one of them, as a bearer."""
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.accepts(key.strip())


class BearerAuthentication:
    """Falcon middleware: refuses requests without one of the configured keys.

    Args:
        is_open: whether a path is guarded in another way.
    """

    def __init__(self, keys: KeyRing, is_open: Callable[[str], bool] = lambda _path: False) -> None:
        self._keys = keys
        self._is_open = is_open

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Let the request pass, or answer 401."""
        if request.path in OPEN_PATHS or self._is_open(request.path):
            return
        if self._keys.accepts_header(request.get_header("Authorization", default="")):
            return
        raise falcon.HTTPUnauthorized(
            description="expected Authorization: Bearer with a key that this service knows",
            challenges=['Bearer realm="goqueue"'],
        )


def refuse_open_bind(settings: Settings) -> None:
    """An API that more than this machine reaches needs keys.

    Raises:
        ConfigurationError: `api_host` is not loopback and no keys are configured.
    """
    if not settings.api_keys and not _is_loopback(settings.api_host):
        problem = (
            "GOQUEUE_API_KEYS: expected at least one key (make one with `goqueue key`), because "
            f"GOQUEUE_API_HOST is {settings.api_host}, which is not loopback"
        )
        raise ConfigurationError([problem])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
