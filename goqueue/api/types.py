"""Job types: what is declared, how their jobs are let in, their circuit breakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

import falcon
from pydantic import Field

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.api.frame.answers import Document, Seconds, as_json
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.permissions import expect_scope
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.api.job_requests import JobRequests
from goqueue.api.keys import RotateKey
from goqueue.config.labels import by_name, version_of
from goqueue.engine.listing import payload_index_rows as payload_indexes
from goqueue.engine.listing.payload_index_rows import PayloadIndex
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError, TypeNotFoundError
from goqueue.instance import GoQueue
from goqueue.limits import type_setting_rows as type_settings_store
from goqueue.limits.flow_settings import TypeSettings
from goqueue.limits.settings import BreakerState
from goqueue.limits.type_setting_rows import LimitedType
from goqueue.remote.declaration import TypeDeclaration
from goqueue.remote.declared_schema import SCHEMA_MAX_BYTES

#: A declaration is mostly its schema, which people write with spaces.
DECLARED_MAX_BYTES = 2 * SCHEMA_MAX_BYTES


class BreakerDocument(Document):
    """The circuit breaker of a job type: its settings, and where it stands."""

    failure_rate: float
    minimum: int
    window_seconds: Seconds
    cooldown_seconds: Seconds
    probes: int
    state: BreakerState
    changed_at: datetime | None
    reason: Annotated[str | None, Field(description="Why it stands where it does.")]


class PayloadIndexDocument(Document):
    """An index on a path of the payloads of a type."""

    path: str
    state: Annotated[
        Literal["building", "ready", "failed", "dropping"],
        Field(description="The scheduler makes and drops it. Lists use it when it is ready."),
    ]
    error: Annotated[str | None, Field(description="Why it failed.")]


class BatchTypeDocument(Document):
    """The way in which the jobs of a type are collected into batches."""

    size: Annotated[int, Field(description="The most jobs of a batch.")]
    wait_ms: Annotated[float, Field(description="For how long a batch waits for further jobs.")]
    key: Annotated[str | None, Field(description="The payload field whose value its jobs share.")]
    bytes: Annotated[int | None, Field(description="The most bytes of payload of a batch.")]


class DeclarationDocument(Document):
    """The declaration of a type that is none of Python code."""

    by: Annotated[str, Field(description="Who declared it last: the name of a key, a program or a person.")]
    created_at: datetime
    updated_at: datetime
    url: Annotated[str | None, Field(description="Where its jobs are sent; null: workers lease them.")]
    secret: Annotated[
        str | None, Field(description="What its calls are signed with, in the answer that makes it alone.")
    ]
    previous_until: Annotated[
        datetime | None, Field(description="Until when calls are signed with the secret before as well.")
    ]


class SecretDocument(Document):
    """The new secret of a type that is sent to a URL."""

    secret: Annotated[str, Field(description="It is not told again.")]
    previous_until: Annotated[
        datetime | None, Field(description="Until when calls are signed with the one before as well.")
    ]


class TypeDocument(Document):
    """A declared job type."""

    name: str
    queue: str
    declared: Annotated[
        DeclarationDocument | None,
        Field(description="Who declared it from outside; null: Python code declares it."),
    ]
    default_of: Annotated[
        list[str], Field(description="Queues whose jobs have this type when they say none.")
    ]
    max_retries: int
    min_backoff_seconds: Seconds
    max_backoff_seconds: Seconds
    time_limit_seconds: Seconds
    requires: Annotated[
        dict[str, str], Field(description="Labels that a worker of its jobs has to have that do not say.")
    ]
    slots: Annotated[int, Field(description="How many threads of its worker a job takes that does not say.")]
    min_version: Annotated[
        int | None,
        Field(description="The version that a worker of its jobs has to have at least that do not say."),
    ]
    batch: Annotated[
        BatchTypeDocument | None, Field(description="How its jobs run together; null: one by one.")
    ]
    concurrency: Annotated[int | None, Field(description="The most jobs that run at once.")]
    breaker: BreakerDocument | None
    indexed: Annotated[
        list[PayloadIndexDocument], Field(description="Paths of its payloads by which its jobs are found.")
    ]
    encrypted: Annotated[bool, Field(description="What its jobs hold is encrypted at rest.")]
    redacted: Annotated[
        list[str], Field(description="Fields that nobody but the handler sees, in lower case: [redacted].")
    ]
    payload_schema: dict[str, Any]


def type_document(
    goqueue: GoQueue, job_type: JobType, limited: LimitedType | None, indexes: Sequence[PayloadIndex]
) -> dict[str, Any]:
    """Return the type and its limits as a `TypeDocument`."""
    queues = sorted(goqueue.queues.declared())
    requests = JobRequests(goqueue)
    return {
        "name": job_type.name,
        "queue": job_type.queue,
        "declared": declaration_document(goqueue, job_type),
        "default_of": [name for name in queues if requests.default_type(name) == job_type.name],
        "max_retries": job_type.retry.max_retries,
        "min_backoff_seconds": job_type.retry.min_backoff_seconds,
        "max_backoff_seconds": job_type.retry.max_backoff_seconds,
        "time_limit_seconds": job_type.time_limit_seconds,
        "requires": by_name(job_type.requires),
        "slots": job_type.slots,
        "min_version": version_of(job_type.requires) or None,
        "batch": None if job_type.batch is None else asdict(job_type.batch),
        "concurrency": limited.limits.concurrency if limited else None,
        "breaker": breaker_document(limited),
        "indexed": [
            {"path": index.path, "state": index.state, "error": index.error}
            for index in indexes
            if index.type == job_type.name
        ],
        "encrypted": job_type.encrypt,
        "redacted": sorted(job_type.redact),
        "payload_schema": job_type.schema.json_schema(),
    }


def declaration_document(goqueue: GoQueue, job_type: JobType) -> dict[str, Any] | None:
    """Return who declared a type from outside as a `DeclarationDocument`; None: Python code declares it."""
    found = goqueue.types.declared(job_type.name) if job_type.is_remote else None
    if found is None:
        return None
    return {
        "by": found.declared_by,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "url": found.url,
        "secret": None,
        "previous_until": found.previous_until,
    }


def breaker_document(limited: LimitedType | None) -> dict[str, Any] | None:
    """Return the breaker as a `BreakerDocument`, or None where the type has none."""
    if limited is None or limited.limits.breaker is None:
        return None
    return asdict(limited.limits.breaker) | {
        "state": limited.limits.state.value,
        "changed_at": limited.changed_at,
        "reason": limited.reason,
    }


class TypesResource(Resource):
    """The declared job types."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the types by name, with the schemas of their payloads."""
        goqueue, principal = self._goqueue, principal_of(request)
        with goqueue.database.autocommit() as connection:
            limited = {found.name: found for found in type_settings_store.all_limited(connection)}
            indexes = payload_indexes.all_of(connection)
        types = [found for found in goqueue.types.all_types().values() if principal.sees(None, found.name)]
        types.sort(key=lambda job_type: job_type.name)
        response.data = as_json(
            [type_document(goqueue, job_type, limited.get(job_type.name), indexes) for job_type in types]
        )


class TypeResource:
    """One job type and its settings."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
        self._flow = goqueue.flow

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Return the type with its settings."""
        self._flow.expect_type(name)
        response.data = as_json(_type_as_it_is(self._goqueue, name, self._limited(name)))

    def on_put(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Declare the type, or change the settings that are given, or both; the answer is the type."""
        settings, secret = validate(TypeSettings, read_document(request, DECLARED_MAX_BYTES)), None
        if settings.declared is not None:
            secret = self._declare(name, settings.declared, principal_of(request))
        if settings.declared is None or settings.model_fields_set > {"declared"}:
            limited: LimitedType | None = self._flow.set_type(name, settings)
        else:
            limited = self._limited(name)
        document = _type_as_it_is(self._goqueue, name, limited)
        if secret is not None:
            document["declared"]["secret"] = secret
        response.data = as_json(document)

    def on_delete(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Take back the declaration of a type for which no job waits."""
        self._goqueue.types.remove(name)
        response.status = falcon.HTTP_204

    def _declare(self, name: str, declaration: TypeDeclaration, principal: Principal) -> str | None:
        """Declare a type; the secret that it got. Who says where jobs are sent reads what they hold."""
        if declaration.url is not None:
            expect_scope(principal, Scope.PAYLOADS_READ)
        try:
            return self._goqueue.types.declare(name, declaration, by=principal.label).secret
        except InvalidJobError as error:
            fields = {
                field if field == "name" else f"declared.{field}": wrong
                for field, wrong in error.fields.items()
            }
            raise InvalidJobError(fields) from None

    def _limited(self, name: str) -> LimitedType | None:
        with self._goqueue.database.autocommit() as connection:
            found = type_settings_store.all_limited(connection)
        return next((limited for limited in found if limited.name == name), None)


class TypeSecretResource(Resource):
    """The secret of a type that is sent to a URL."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give the type another secret, which nobody can read again."""
        expect_scope(principal_of(request), Scope.PAYLOADS_READ)
        wanted = validate(RotateKey, read_optional_document(request, self._goqueue.settings.job_max_bytes))
        made = self._goqueue.types.rotate_secret(name, overlap_seconds=wanted.overlap_seconds)
        response.data = as_json({"secret": made.secret, "previous_until": made.type.previous_until})


class BreakerResource:
    """The circuit breaker of a type, moved by hand."""

    def __init__(self, goqueue: GoQueue, state: BreakerState) -> None:
        self._goqueue = goqueue
        self._flow = goqueue.flow
        self._state = state

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Move the breaker, wherever it stands; the answer is the type."""
        limited = self._flow.move_breaker(name, self._state)
        response.data = as_json(_type_as_it_is(self._goqueue, name, limited))


def _type_as_it_is(goqueue: GoQueue, name: str, limited: LimitedType | None) -> dict[str, Any]:
    """The document of a type, with the indexes that it has now."""
    job_type = declared_type(goqueue, name)
    with goqueue.database.autocommit() as connection:
        indexes = payload_indexes.all_of(connection, job_type.name)
    return type_document(goqueue, job_type, limited, indexes)


def declared_type(goqueue: GoQueue, name: str) -> JobType:
    """Return the type of this name or alias.

    Raises:
        TypeNotFoundError: it is not declared.
    """
    job_type = goqueue.types.job_type(name)
    if job_type is None:
        raise TypeNotFoundError(name)
    return job_type
