"""Resources about all namespaces together: which there are, their health, their gauges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import falcon
from pydantic import Field

from goqueue.api.frame.answers import Document, as_json
from goqueue.api.frame.reading import Reading, values_of
from goqueue.api.monitoring import (
    LivenessResource,
    MetricsResource,
    StatsDocument,
    Warnings,
    expect_ready,
    stats_document,
)
from goqueue.api.service_gauges import NamespaceGaugesCollector
from goqueue.errors import DatabaseUnavailableError
from goqueue.instance import GoQueue

#: How long a value is good: several who ask within this time are one question to each database.
GOOD_FOR_SECONDS = 1.0


class NamespaceDocument(Document):
    """A namespace: one GoQueue, with a database of its own."""

    name: str
    status: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Whether its PostgreSQL answers, accepts writes, and has this release's schema."),
    ]
    redis: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Jobs are accepted without it, and start when it is back."),
    ]
    stats: Annotated[StatsDocument | None, Field(description="As GET /stats of it; null: not known in time.")]


class NamespaceReadings:
    """The readings of one namespace, each asked for no oftener than it matters.

    Attributes:
        name: of the namespace.
        ready: whether its PostgreSQL serves this release; no value: it does not.
        redis: whether its Redis answers.
        stats: as GET /stats answers.
        warnings: what an operator should look at.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
        self.name = goqueue.settings.namespace
        self.ready = Reading(self._ask_ready, max_age_seconds=GOOD_FOR_SECONDS)
        self.redis = Reading(self._ask_redis, max_age_seconds=GOOD_FOR_SECONDS)
        self.stats = Reading(self._ask_stats, max_age_seconds=GOOD_FOR_SECONDS)
        self.warnings = Warnings(goqueue.settings, goqueue.database)

    def _ask_ready(self) -> bool:
        expect_ready(self._goqueue)
        return True

    def _ask_redis(self) -> bool:
        self._goqueue.runway.ping()
        return True

    def _ask_stats(self) -> dict[str, Any]:
        return stats_document(self._goqueue)


class NamespacesResource:
    """The namespaces of the service."""

    def __init__(self, goqueues: Sequence[GoQueue]) -> None:
        self._namespaces = [NamespaceReadings(goqueue) for goqueue in goqueues]

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List the namespaces, each with its state and its counts."""
        every: list[Reading[Any]] = [
            reading for one in self._namespaces for reading in (one.ready, one.redis, one.stats)
        ]
        values = iter(values_of(every))
        response.data = as_json(
            [
                {"name": one.name, "status": _word(ready), "redis": _word(redis), "stats": stats}
                for one, ready, redis, stats in zip(self._namespaces, values, values, values, strict=True)
            ]
        )


def _word(is_well: object) -> str:
    return "ok" if is_well else "unavailable"


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
        response.data = as_json({"status": "ok", "redis": _word(all(redis)), "namespaces": counts})


def add_service_routes(app: falcon.App[falcon.Request, falcon.Response], goqueues: Sequence[GoQueue]) -> None:
    """Serve what is about all namespaces."""
    namespaces = [NamespaceReadings(goqueue) for goqueue in goqueues]
    app.add_route("/namespaces", NamespacesResource(goqueues))
    app.add_route("/metrics", MetricsResource(NamespaceGaugesCollector(goqueues)))
    app.add_route("/health", AllHealthResource(namespaces))
    app.add_route("/health/db", AllDatabasesResource(namespaces))
    app.add_route("/health/live", LivenessResource())
    app.add_route("/health/ready", AllReadinessResource(namespaces))
