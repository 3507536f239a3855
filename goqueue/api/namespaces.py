"""The namespaces: those that the API serves, and those inside of its database, which are made here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import falcon
from pydantic import Field

from goqueue.access.namespace_rows import Namespace
from goqueue.access.quotas import NewNamespace, QuotaChanges, Quotas
from goqueue.api.frame.answers import Document, as_json, reader_of
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.reading import Reading, values_of
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.api.monitoring import StatsDocument
from goqueue.api.namespace_readings import NamespaceReadings, word_of
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.engine.options.request_models import Request, validate
from goqueue.errors import ForbiddenError, NamespaceNotFoundError
from goqueue.instance import GoQueue


class QuotasDocument(Document):
    """The quotas of a namespace; null: there is none."""

    max_waiting_jobs: Annotated[int | None, Field(description="Jobs that have not begun.")]
    creates_per_second: Annotated[float | None, Field(description="Creates per second, by all processes.")]
    max_payload_bytes: Annotated[int | None, Field(description="Of one job, as JSON in UTF-8.")]
    max_running_jobs: Annotated[int | None, Field(description="Jobs that run at once, over all queues.")]
    share: Annotated[int, Field(description="The weight in what is divided: worker processes.")]


class UseDocument(Document):
    """The use of a namespace, beside its quotas."""

    waiting_jobs: Annotated[int, Field(description="Jobs that have not begun; counted up to a million.")]
    running_jobs: Annotated[int, Field(description="Jobs that run; counted up to a million.")]
    creates_left: Annotated[
        float | None,
        Field(
            description="What may be created at once now, where creates_per_second is set; it may be owed."
        ),
    ]


class InnerNamespaceDocument(Document):
    """A namespace inside of the database: a schema with all tables."""

    name: str
    created_at: datetime
    created_by: str
    quotas: QuotasDocument


class NamespaceUseDocument(InnerNamespaceDocument):
    """A namespace inside of the database, and what it uses."""

    use: UseDocument


class NamespaceDocument(Document):
    """A namespace: one GoQueue, with a database or a schema of its own."""

    name: str
    kind: Annotated[
        Literal["database", "schema"],
        Field(description="An installation with a database, or a namespace inside of that of one."),
    ]
    status: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Whether its PostgreSQL answers, accepts writes, and has this release's schema."),
    ]
    redis: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Jobs are accepted without it, and start when it is back."),
    ]
    stats: Annotated[
        StatsDocument | None,
        Field(
            description="As GET /stats of it; null: not known in time, or one inside of another's database."
        ),
    ]
    quotas: Annotated[QuotasDocument | None, Field(description="Of a namespace inside of the database.")]


class DeleteNamespace(Request):
    """The parameters of the end of a namespace."""

    force: Annotated[
        str | None, Field(description="Its name once more: also while jobs of it wait or run.")
    ] = None


_quotas_of = reader_of(QuotasDocument)


class NamespacesResource:
    """The namespaces of the service.

    Args:
        goqueues: the installations that are served, or the one namespace that this application is about.
        home: the one in whose database others are made.
    """

    def __init__(self, goqueues: Sequence[GoQueue], home: GoQueue) -> None:
        self._readings = [NamespaceReadings(goqueue) for goqueue in goqueues]
        self._home = home

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the namespaces that exist for the key, each with its state and its counts."""
        every: list[Reading[Any]] = [
            reading for one in self._readings for reading in (one.ready, one.redis, one.stats)
        ]
        values = iter(values_of(every))
        listed = [
            _document(
                one.name, "database" if one.quotas is None else "schema", ready, redis, stats, one.quotas
            )
            for one, ready, redis, stats in zip(self._readings, values, values, values, strict=True)
        ]
        if principal_of(request).governs_namespaces and self._home.namespace == DEFAULT_NAMESPACE:
            state = next(
                (one for one in listed if one["name"] == self._home.settings.name_of_namespace), listed[0]
            )
            # In the same database, and on the same Redis.
            listed += [
                state | {"name": one.name, "kind": "schema", "stats": None, "quotas": _quotas_of(one.quotas)}
                for one in self._home.namespaces.every()
            ]
        response.data = as_json(listed)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a namespace inside of the database; within two seconds every process serves it."""
        _expect_governs(request)
        wanted = validate(NewNamespace, read_document(request, self._home.settings.job_max_bytes))
        made = self._home.namespaces.create(wanted.name, wanted.of(Quotas()), by=principal_of(request).label)
        response.status = falcon.HTTP_201
        response.location = f"/namespaces/{made.name}"
        response.data = as_json(_inner(made))


class NamespaceResource(Resource):
    """The resource of one namespace inside of the database."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Return its quotas, and what it uses of them."""
        _expect_opens(request, name)
        namespaces = self._goqueue.namespaces
        found, left = namespaces.get(name), namespaces.use_of(name)
        use = {
            "waiting_jobs": left.waiting,
            "running_jobs": left.running,
            "creates_left": left.creates_left,
        }
        response.data = as_json(_inner(found) | {"use": use})

    def on_patch(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change quotas; within two seconds every process holds to them."""
        _expect_opens(request, name)
        _expect_governs(request)
        changes = validate(QuotaChanges, read_document(request, self._goqueue.settings.job_max_bytes))
        response.data = as_json(_inner(self._goqueue.namespaces.change(name, changes)))

    def on_delete(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Delete the namespace with all that is in it, and revoke its keys."""
        _expect_opens(request, name)
        _expect_governs(request)
        wanted = validate(DeleteNamespace, request.params, whole="query")
        self._goqueue.namespaces.delete(name, force=wanted.force, by=principal_of(request).label)
        response.status = falcon.HTTP_204


def _expect_governs(request: falcon.Request) -> None:
    """Let only those make, change and delete namespaces who may do all in `default`.

    Raises:
        ForbiddenError: the key is of another namespace.
    """
    if not principal_of(request).governs_namespaces:
        raise ForbiddenError("namespaces are made, changed and deleted by admin keys of default")


def _expect_opens(request: falcon.Request, name: str) -> None:
    if not principal_of(request).opens(name):
        raise NamespaceNotFoundError(name)


def _document(name: str, kind: str, ready: object, redis: object, stats: Any, quotas: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "status": word_of(ready),
        "redis": word_of(redis),
        "stats": stats,
        "quotas": None if quotas is None else _quotas_of(quotas),
    }


def _inner(namespace: Namespace) -> dict[str, Any]:
    return {
        "name": namespace.name,
        "created_at": namespace.created_at,
        "created_by": namespace.created_by,
        "quotas": _quotas_of(namespace.quotas),
    }
