"""One API before the namespaces inside of a database: each request goes to the one that its key is of.

So clients of all namespaces use the same addresses. `/ns/acme/…` names one as well: for its own keys, and for
those who may do all in `default`; for others there is no such namespace. Where none was made, every request
passes to the one application that there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from goqueue.access.principal import ANYBODY, Principal
from goqueue.api.app import NAMESPACE_PREFIX, Application, GuardedSite, app_of, open_goqueue
from goqueue.api.frame.bodies import BodyLimits
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import GoQueueError
from goqueue.instance import GoQueue

__all__ = ["POOL_SIZE", "KeyRouter", "create_key_router"]

log = structlog.get_logger(__name__)

#: Connections of one process to a namespace, at most; there may be many namespaces.
POOL_SIZE = 4

#: Of a namespace that nobody asked for so long, the connections are closed.
IDLE_SECONDS = 60.0


@dataclass(slots=True)
class _Guest:
    """The application of a namespace.

    Attributes:
        id: of its row: another one where a namespace of the same name was made anew.
        used_at: when it was asked for last; None: its connections are closed.
    """

    id: int
    goqueue: GoQueue
    app: Application
    used_at: float | None


class KeyRouter:
    """The WSGI application over those of an installation and of the namespaces inside of its database.

    The applications of namespaces are made when they are first asked for.

    Args:
        home: the application of the installation itself.
        goqueue: of the installation.
        site: is served beside the API, in every namespace.
    """

    def __init__(self, home: Application, goqueue: GoQueue, *, site: GuardedSite | None = None) -> None:
        self._home = home
        self._goqueue = goqueue
        self._site = site
        self._needs_key = goqueue.settings.needs_api_key
        self._keys = goqueue.key_ring.within(None)
        is_site = [site.is_its] if site else []
        self._limits = BodyLimits(goqueue.settings, self._keys if self._needs_key else None, *is_site)
        self._guests: dict[str, _Guest] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        app = self._home
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization or environ["PATH_INFO"].startswith(NAMESPACE_PREFIX):
            try:
                app = self._choose(environ, authorization)
            except GoQueueError as error:
                # The application asks for the same key, and tells it as all else.
                log.debug("namespace_not_found_out", error=str(error))
        return app(environ, start_response)

    def body_limit(self, method: str, path: str, authorization: str) -> int:
        """Return how large the body of a request may be, without waiting for PostgreSQL."""
        return self._limits.of(method, _named(path)[1], authorization)

    def close(self) -> None:
        """Close the connections of the installation and of all namespaces."""
        with self._lock:
            for guest in self._guests.values():
                guest.goqueue.close()
            self._guests.clear()
        self._goqueue.close()

    def _choose(self, environ: dict[str, Any], authorization: str) -> Application:
        """The application of the namespace that the path names, where it may; else that of the key's."""
        name, rest = _named(environ["PATH_INFO"])
        principal = self._keys.in_header(authorization) if authorization else None
        if name is not None and self._may_enter(principal, name, rest):
            is_home = name in {DEFAULT_NAMESPACE, self._goqueue.settings.namespace}
            app = self._home if is_home else self._app_of(name)
            if app is not None:
                environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}{NAMESPACE_PREFIX}{name}"
                environ["PATH_INFO"] = rest
                return app
        of_key = DEFAULT_NAMESPACE if principal is None else principal.namespace
        return (None if of_key == DEFAULT_NAMESPACE else self._app_of(of_key)) or self._home

    def _may_enter(self, principal: Principal | None, name: str, rest: str) -> bool:
        """Whether a namespace exists for whoever asks. On pages, the guard of its site asks for a session."""
        if principal is None and self._needs_key:
            return self._site is not None and self._site.is_its(rest)
        return (principal or ANYBODY).opens(
            DEFAULT_NAMESPACE if name == self._goqueue.settings.namespace else name
        )

    def _app_of(self, name: str) -> Application | None:
        """The application of a namespace; None: there is none of this name."""
        known = self._goqueue.namespaces.find(name)
        with self._lock:
            guest = self._guests.get(name)
            if guest is not None and (known is None or guest.id != known.id):
                del self._guests[name]
                guest.goqueue.close()
                guest = None
            if known is None:
                return None
            if guest is None:
                guest = self._guests[name] = self._open(known.id, name)
            guest.used_at = time.monotonic()
            self._close_idle(guest.used_at)
            return guest.app

    def _open(self, identity: int, name: str) -> _Guest:
        settings = self._goqueue.settings.within(name)
        size = min(POOL_SIZE, settings.database_pool_size)
        database = Database(settings, pool_size=size, application_name=f"goqueue-api-{name}")
        replica = settings.read_database_url and Database(settings.for_reading(), pool_size=size)
        goqueue = open_goqueue(
            settings, database=database, read_database=replica or database, home=self._goqueue
        )
        return _Guest(identity, goqueue, app_of(goqueue, site=self._site), None)

    def _close_idle(self, now: float) -> None:
        """Close the connections of those that nobody asks for; what is used afterwards opens new ones."""
        for guest in self._guests.values():
            if guest.used_at is not None and now - guest.used_at > IDLE_SECONDS:
                guest.used_at = None
                guest.goqueue.close()


def create_key_router(settings: Settings, *, site: GuardedSite | None = None) -> KeyRouter:
    """Make the API over one installation and its namespaces. Nothing connects before the first request."""
    goqueue = open_goqueue(settings)
    return KeyRouter(app_of(goqueue, site=site), goqueue, site=site)


def _named(path: str) -> tuple[str | None, str]:
    """The namespace that a path names, and the path inside of it; None and the path: it names none."""
    if not path.startswith(NAMESPACE_PREFIX):
        return None, path
    name, _, rest = path.removeprefix(NAMESPACE_PREFIX).partition("/")
    return name, f"/{rest}"
