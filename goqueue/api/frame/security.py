"""The guard of the API: whose request it is, where none has to say so, and which web pages may ask it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import falcon

from goqueue.access.key_ring import KeyRing
from goqueue.access.principal import ANYBODY, NOBODY, Principal
from goqueue.config.settings import Settings
from goqueue.errors import ConfigurationError
from goqueue.observability.monitoring_server import answers_to, is_loopback

#: What a load balancer and a code generator may read without a key.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})


#: Methods that change nothing (RFC 9110 section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Authentication:
    """Falcon middleware: finds whose request it is, and refuses those without a key where keys are needed.

    Args:
        keys: those that are accepted.
        is_open: whether a path is guarded in another way.
        needs_key: whether a request without a key is refused; it is anybody's otherwise.
    """

    def __init__(
        self, keys: KeyRing, is_open: Callable[[str], bool] = lambda _path: False, *, needs_key: bool
    ) -> None:
        self._keys = keys
        self._needs_key = needs_key
        self._is_open = is_open

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Let the request pass, or answer 401."""
        request.context.principal = NOBODY if self._needs_key else ANYBODY
        if request.path in OPEN_PATHS or self._is_open(request.path):
            return
        authorization = request.get_header("Authorization", default="")
        known = self._keys.in_header(authorization) if authorization else None
        if known is not None:
            request.context.principal = known
        elif self._needs_key:
            raise falcon.HTTPUnauthorized(
                description="expected Authorization: Bearer with a key that this service knows",
                challenges=['Bearer realm="goqueue"'],
            )


def principal_of(request: falcon.Request) -> Principal:
    """Return whose request it is; nobody's until it has said so."""
    principal: Principal = getattr(request.context, "principal", NOBODY)
    return principal


class WebPages:
    """Falcon middleware: keeps the web pages of others away from the service, through a browser beside it.

    A page that somebody visits may send requests to any address that its browser reaches, a loopback address
    included, and may point its own host name at that address (DNS rebinding). So a change that comes from the
    page of another site is refused; and a service without keys answers only who calls it by a name that no
    page of others can have.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_open = not settings.needs_api_key
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
    """Return the client that a request is of: the name of its API key; empty where it has none."""
    return principal_of(request).client


def refuse_open_bind(settings: Settings) -> None:
    """An API that more than this machine reaches needs keys.

    Raises:
        ConfigurationError: `api_host` is not loopback and no key is needed.
    """
    if not settings.needs_api_key and not is_loopback(settings.api_host):
        problem = (
            "GOQUEUE_API_KEYS: expected at least one key (make one with `goqueue key`), or "
            "GOQUEUE_API_KEYS_REQUIRED=true and keys of `goqueue keys create`, because "
            f"GOQUEUE_API_HOST is {settings.api_host}, which is not loopback"
        )
        raise ConfigurationError([problem])
