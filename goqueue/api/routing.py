"""One API before several installations: each request goes to the one whose namespace its path names.

`/ns/acme/jobs/create` is `/jobs/create` of the namespace `acme`, and so is everything else below `/ns/acme`:
an application of its own, with connections of its own. A path without a namespace is that of the default one,
`GOQUEUE_NAMESPACE`; health, metrics and the list of namespaces are about all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from goqueue.api.all_namespaces import add_service_routes
from goqueue.api.app import (
    NAMESPACE_PREFIX,
    Application,
    GuardedSite,
    app_of,
    framed,
    open_goqueue,
)
from goqueue.api.frame.request_limits import RequestLimits
from goqueue.api.key_routing import KeyRouter
from goqueue.config.redaction import protect
from goqueue.config.settings import Settings
from goqueue.db.outage import OutageAwareDatabase
from goqueue.instance import GoQueue

__all__ = ["SERVICE", "NamespaceRouter", "create_router"]

#: The pool of threads for what is about all namespaces; none has this name.
SERVICE = ""

#: What of a path without a namespace is about all of them.
_OF_ALL = frozenset({"/health", "/health/db", "/health/live", "/health/ready", "/metrics", "/namespaces"})


class NamespaceRouter:
    """The WSGI application over those of all namespaces.

    Whoever names a namespace that is not there is answered by the application of the default one, as for any
    path that is not there: with 401 first, where keys are needed.

    Args:
        service: what is about all namespaces.
        namespaces: the application of each, by name.
        default: the namespace of requests that name none.
    """

    def __init__(
        self,
        service: Application,
        namespaces: Mapping[str, KeyRouter],
        *,
        default: str,
    ) -> None:
        self._service = service
        self._namespaces = namespaces
        self._default = default

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        name, rest = self._named(environ["PATH_INFO"])
        if name is not None:
            environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}{NAMESPACE_PREFIX}{name}"
            environ["PATH_INFO"] = rest
        return self._app_of(name, rest)(environ, start_response)

    def body_limit(self, method: str, path: str, authorization: str) -> int:
        """Return how large the body of a request may be, as its application has it."""
        name, rest = self._named(path)
        return self._app_of(name, rest).body_limit(method, rest, authorization)

    def pool_of(self, path: str) -> str:
        """Return whose threads answer a request: a namespace that hangs takes those of no other."""
        name, rest = self._named(unquote(path))
        if name is not None:
            return name
        return SERVICE if rest in _OF_ALL else self._default

    def close(self) -> None:
        """Close the connections of all namespaces."""
        for router in self._namespaces.values():
            router.close()

    def _app_of(self, name: str | None, path: str) -> Application | KeyRouter:
        if name is None and path in _OF_ALL:
            return self._service
        return self._namespaces[self._default if name is None else name]

    def _named(self, path: str) -> tuple[str | None, str]:
        """The namespace that a path names, and the path inside of it; None and the path: it names none."""
        if path.startswith(NAMESPACE_PREFIX):
            name, _, rest = path.removeprefix(NAMESPACE_PREFIX).partition("/")
            if name in self._namespaces:
                return name, f"/{rest}"
        return None, path


def create_router(settings: Settings, *, site: GuardedSite | None = None) -> NamespaceRouter:
    """Make the API over all namespaces of the settings. Nothing connects before the first request.

    Raises:
        ConfigurationError: the file of namespaces is not usable.
    """
    limits = RequestLimits(settings, *([site.is_its] if site else []))
    goqueues = {name: _open(own) for name, own in settings.of_all_namespaces().items()}
    apps = {
        name: KeyRouter(app_of(goqueue, site=site, limits=limits), goqueue, site=site)
        for name, goqueue in goqueues.items()
    }
    service = framed(settings, limits=limits)
    add_service_routes(service, list(goqueues.values()), goqueues[settings.namespace])
    return NamespaceRouter(service, apps, default=settings.namespace)


def _open(settings: Settings) -> GoQueue:
    protect(settings.secrets())
    database = OutageAwareDatabase(settings)
    read_database = OutageAwareDatabase(settings.for_reading()) if settings.read_database_url else database
    return open_goqueue(settings, database=database, read_database=read_database)
