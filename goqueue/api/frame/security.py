"""The guard of the API: bearer keys, where it may be opened without them, and which web pages may ask it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import falcon

from goqueue.config.settings import Settings
from goqueue.errors import ConfigurationError
from goqueue.observability.monitoring_server import answers_to, is_loopback

#: What a load balancer and a code generator may read without a key.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})


#: Methods that change nothing (RFC 9110 section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is accepted.

    Attributes:
        hash: SHA-256 of the key, in hexadecimal.
        name: what its entry in the settings calls it; empty where it has no name.
    """

    hash: str
    name: str = ""

    @property
    def label(self) -> str:
        """The label that people know the key by: its name, or how its hash begins."""
        return self.name or f"{self.hash[:8]}…"


class KeyRing:
    """The API keys that are accepted.

    Args:
        entries: as `Settings.api_keys` has them: a SHA-256 in hexadecimal, or a name, a colon and the hash.
    """

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._keys = [_key_of(entry) for entry in entries]

    def find(self, key: str) -> ApiKey | None:
        """Find the accepted key that this text is; None: it is none."""
        # A header is Latin-1; a key is compared as the bytes that were sent.
        given = hashlib.sha256(key.encode("latin-1", errors="replace")).hexdigest().encode()
        matches = [known for known in self._keys if hmac.compare_digest(given, known.hash.encode())]
        return matches[-1] if matches else None  # after all were compared: the time does not tell which fits

    def in_header(self, authorization: str) -> ApiKey | None:
        """Find the key that the value of an Authorization header brings as a bearer; None: it brings none."""
        scheme, _, key = authorization.partition(" ")
        return self.find(key.strip()) if scheme.lower() == "bearer" else None

    def of_hash(self, key_hash: str | None) -> ApiKey | None:
        """Find the accepted key that has this hash; None: none has."""
        return next((known for known in self._keys if known.hash == key_hash), None)


def _key_of(entry: str) -> ApiKey:
    name, _, key_hash = entry.rpartition(":")
    return ApiKey(key_hash, name)


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
        known = self._keys.in_header(request.get_header("Authorization", default=""))
        if known is not None:
            request.context.api_key = known
            return
        raise falcon.HTTPUnauthorized(
            description="expected Authorization: Bearer with a key that this service knows",
            challenges=['Bearer realm="goqueue"'],
        )


class WebPages:
    """Falcon middleware: keeps the web pages of others away from the service, through a browser beside it.

    A page that somebody visits may send requests to any address that its browser reaches, a loopback address
    included, and may point its own host name at that address (DNS rebinding). So a change that comes from the
    page of another site is refused; and a service without keys answers only who calls it by a name that no
    page of others can have.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_open = not settings.api_keys
        self._hosts = frozenset(settings.allowed_hosts)

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Let the request pass.

        Raises:
            falcon.HTTPMisdirectedRequest: the Host is none of this service.
            falcon.HTTPForbidden: a change that the page of another site asks for.
        """
        if self._is_open and not answers_to(request.get_header("Host"), self._hosts):
            raise HostRefused(
                description="without keys this service answers to localhost alone: name other hosts in "
                "GOQUEUE_ALLOWED_HOSTS, or configure GOQUEUE_API_KEYS"
            )
        if request.method not in SAFE_METHODS and is_foreign(request):
            raise falcon.HTTPForbidden(description="this request comes from the page of another site")


class HostRefused(falcon.HTTPError):
    """421: the request is for a host that this service does not answer to (RFC 9110 section 15.5.20)."""

    def __init__(self, description: str) -> None:
        super().__init__(falcon.HTTP_421, description=description)


def is_foreign(request: falcon.Request) -> bool:
    """Tell whether a browser says that the page of another site asks.

    Every browser of today sends Sec-Fetch-Site (`none` is somebody's own doing, as a typed address), and
    every one since 2017 sends an Origin with a change. A client that is no browser sends neither.
    """
    site = request.get_header("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.get_header("Origin")
    return origin is not None and urlsplit(origin).netloc != request.get_header("Host")


def client_of(request: falcon.Request) -> str:
    """Return the name of the API key that a request came with; empty where it has none, or came with none."""
    key: ApiKey | None = getattr(request.context, "api_key", None)
    return "" if key is None else key.name


def refuse_open_bind(settings: Settings) -> None:
    """An API that more than this machine reaches needs keys.

    Raises:
        ConfigurationError: `api_host` is not loopback and no keys are configured.
    """
    if not settings.api_keys and not is_loopback(settings.api_host):
        problem = (
            "GOQUEUE_API_KEYS: expected at least one key (make one with `goqueue key`), because "
            f"GOQUEUE_API_HOST is {settings.api_host}, which is not loopback"
        )
        raise ConfigurationError([problem])
