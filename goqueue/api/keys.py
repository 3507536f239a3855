"""The API keys: made, listed, revoked and rotated."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import falcon
from pydantic import Field

from goqueue.access.keys import OVERLAP_MAX_SECONDS, OVERLAP_SECONDS, MadeKey, NewKey
from goqueue.api.frame.answers import Document, as_json, reader_of
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.engine.options.request_models import Request, validate


class RotateKey(Request):
    """How an API key is rotated."""

    overlap_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=OVERLAP_MAX_SECONDS,
            allow_inf_nan=False,
            description="How long the secret before stays good.",
        ),
    ] = OVERLAP_SECONDS


class KeyDocument(Document):
    """An API key, without its secret."""

    id: Annotated[str, Field(description="The part of its text behind gq_; no secret.")]
    name: Annotated[str, Field(description="Keys of one name are of one client.")]
    state: Literal["active", "expired", "revoked"]
    scopes: list[str]
    queues: Annotated[list[str] | None, Field(description="The only ones whose jobs exist for it.")]
    types: Annotated[list[str] | None, Field(description="The only ones whose jobs exist for it.")]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="Written at most once a minute.")]
    rotated_at: datetime | None
    previous_until: Annotated[
        datetime | None, Field(description="Until when the secret before the last rotation is good.")
    ]
    revoked_at: datetime | None
    revoked_by: str | None


class MadeKeyDocument(KeyDocument):
    """An API key that was made or rotated."""

    key: Annotated[str, Field(description="Its text, for Authorization: Bearer. It is not kept.")]


_members_of = reader_of(KeyDocument)


class KeysResource(Resource):
    """The API keys: a GET lists them, a POST makes one."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List the newest thousand keys, also those that are revoked or expired."""
        response.data = as_json([_members_of(key) for key in self._goqueue.keys.list()])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a key; nobody can read its text again. It gets no scope that the maker has not."""
        wanted = validate(NewKey, read_document(request, self._goqueue.settings.job_max_bytes))
        principal = principal_of(request)
        made = self._goqueue.keys.create_new(wanted, by=principal.label, maker=principal)
        response.status = falcon.HTTP_201
        response.location = f"/keys/{made.key.id}"
        response.data = as_json(_made(made))


class KeyResource(Resource):
    """The resource of one API key."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, key_id: str) -> None:
        """Return the key, without its secret."""
        response.data = as_json(_members_of(self._goqueue.keys.get(key_id)))


class RevokeKeyResource(Resource):
    """The end of an API key."""

    def on_post(self, request: falcon.Request, response: falcon.Response, key_id: str) -> None:
        """Revoke the key for good; a revoked one stays as it is."""
        key = self._goqueue.keys.revoke(key_id, by=principal_of(request).label)
        response.data = as_json(_members_of(key))


class RotateKeyResource(Resource):
    """The rotation of an API key."""

    def on_post(self, request: falcon.Request, response: falcon.Response, key_id: str) -> None:
        """Give the key another secret, whose text nobody can read again."""
        document = read_optional_document(request, self._goqueue.settings.job_max_bytes)
        wanted, principal = validate(RotateKey, document), principal_of(request)
        made = self._goqueue.keys.rotate(
            key_id, overlap_seconds=wanted.overlap_seconds, by=principal.label, maker=principal
        )
        response.data = as_json(_made(made))


def _made(made: MadeKey) -> dict[str, Any]:
    return _members_of(made.key) | {"key": made.text}
