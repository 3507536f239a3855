"""Resources about all installations of a file of namespaces together: their health and their gauges."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from goqueue.api.frame.answers import as_json
from goqueue.api.frame.reading import Reading, values_of
from goqueue.api.monitoring import LivenessResource, MetricsResource
from goqueue.api.namespace_readings import NamespaceReadings, word_of
from goqueue.api.namespaces import NamespacesResource
from goqueue.api.service_gauges import NamespaceGaugesCollector
from goqueue.errors import DatabaseUnavailableError
from goqueue.instance import GoQueue


class AllHealthResource:
    """The health of this process: it answers, and tells what it knows to be wrong in any namespace."""

    def __init__(self, namespaces: Sequence[NamespaceReadings]) -> None:
        self._namespaces = namespaces

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer, with the warnings of all; which namespace it is, GET /namespaces says."""
        found = dict.fromkeys(
            warning for one in self._namespaces for warning in one.warnings.known().get("warnings", ())
        )
        away = values_of([one.ready for one in self._namespaces]).count(None)
        if away:
            found[f"{away} of {len(self._namespaces)} namespaces do not answer"] = None
        response.data = as_json({"status": "ok"} | ({"warnings": list(found)} if found else {}))


class AllDatabasesResource:
    """The health of every PostgreSQL."""

    def __init__(self, namespaces: Sequence[NamespaceReadings]) -> None:
        self._namespaces = namespaces

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask each; 503 where one does not answer or accepts no writes, with the names of those."""
        ready = values_of([one.ready for one in self._namespaces])
        away = [one.name for one, is_ready in zip(self._namespaces, ready, strict=True) if not is_ready]
        if away:
            raise falcon.HTTPServiceUnavailable(
                description=f"PostgreSQL does not answer for the namespaces: {', '.join(away)}"
            )
        response.data = as_json({"status": "ok"})


class AllReadinessResource:
    """The readiness of this process, as long as there is one namespace that it can serve."""

    def __init__(self, namespaces: Sequence[NamespaceReadings]) -> None:
        self._namespaces = namespaces

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask every PostgreSQL; 503 where none answers.

        One that does not is counted, and no more: no other process would reach it either, and the others
        have to be served.
        """
        every: list[Reading[bool]] = [
            reading for one in self._namespaces for reading in (one.ready, one.redis)
        ]
        values = values_of(every)
        ready, redis = values[::2], values[1::2]
        if not any(ready):
            raise DatabaseUnavailableError("no namespace answers")
        counts = {"ready": len(ready) - ready.count(None), "unavailable": ready.count(None)}
        response.data = as_json({"status": "ok", "redis": word_of(all(redis)), "namespaces": counts})


def add_service_routes(
    app: falcon.App[falcon.Request, falcon.Response], goqueues: Sequence[GoQueue], default: GoQueue
) -> None:
    """Serve what is about all namespaces; those inside of a database are made in that of the default one."""
    namespaces = [NamespaceReadings(goqueue) for goqueue in goqueues]
    app.add_route("/namespaces", NamespacesResource(goqueues, default))
    app.add_route("/metrics", MetricsResource(NamespaceGaugesCollector(goqueues)))
    app.add_route("/health", AllHealthResource(namespaces))
    app.add_route("/health/db", AllDatabasesResource(namespaces))
    app.add_route("/health/live", LivenessResource())
    app.add_route("/health/ready", AllReadinessResource(namespaces))
