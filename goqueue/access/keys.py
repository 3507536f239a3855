"""API keys: made, listed, revoked and rotated. A secret is shown once and kept as a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

import structlog
from pydantic import Field

from goqueue.access import key_rows
from goqueue.access.key_rows import Key
from goqueue.access.principal import Principal
from goqueue.access.scopes import effective, scopes_of
from goqueue.audit import audit_rows as audit
from goqueue.config.bounds import near_moment
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.db.database import Connection, Database
from goqueue.db.schemas import in_schema
from goqueue.engine.options.request_models import Name, NearMoment, Request, Span, validate
from goqueue.errors import ApiKeyConflictError, ForbiddenError, InvalidJobError

__all__ = [
    "KEYS_MAX",
    "OVERLAP_MAX_SECONDS",
    "OVERLAP_SECONDS",
    "Keys",
    "MadeKey",
    "NewKey",
    "hash_of",
    "parse_key",
]

log = structlog.get_logger(__name__)

#: As many are listed.
KEYS_MAX = 1_000

#: How long the secret before a rotation stays good, where nothing else is said.
OVERLAP_SECONDS = 86_400.0
OVERLAP_MAX_SECONDS = 90 * 86_400.0

_ID_CHARACTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 12

#: 43 characters out of 62 are 256 bits; letters and digits alone are chosen by a double click.
_SECRET_CHARACTERS = string.ascii_letters + string.digits
_SECRET_LENGTH = 43

_KEY = re.compile(rf"gq_([a-z0-9]{{{_ID_LENGTH}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})")

Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=100, strict=False)]


class NewKey(Request):
    """A key to be made."""

    name: Annotated[Name, Field(description="What it is called. Keys of one name are of one client.")]
    scopes: Annotated[
        tuple[Name, ...],
        Field(min_length=1, max_length=50, strict=False, description="Scopes, and roles made of them."),
    ]
    queues: Annotated[Names | None, Field(description="Only jobs of these queues exist for it.")] = None
    types: Annotated[Names | None, Field(description="Only jobs of these types exist for it.")] = None
    expires_at: Annotated[NearMoment | None, Field(description="It opens nothing from then on.")] = None
    expires_in_seconds: Annotated[Span | None, Field(description="The same, from now on.")] = None


class MadeKey(NamedTuple):
    """A key that was made or rotated, and its text, which nobody can read again."""

    key: Key
    text: str


class Keys:
    """The API keys of a namespace. Those of all are rows of the installation: one is found by its id.

    Args:
        database: that of the installation.
        namespace: the one whose keys these are; what is done with others does not find them.
        schema: its schema, whose audit log their changes are noted in; None: that of the database.
    """

    def __init__(
        self, database: Database, *, namespace: str = DEFAULT_NAMESPACE, schema: str | None = None
    ) -> None:
        self._database = database
        self._namespace = namespace
        self._schema = schema

    def create(
        self,
        name: str,
        *scopes: str,
        queues: list[str] | None = None,
        types: list[str] | None = None,
        expires_at: datetime | None = None,
        expires_in_seconds: float | None = None,
        by: str = "system",
    ) -> MadeKey:
        """Make a key, and return it with its text, which is shown only now.

        Args:
            name: what it is called. Unique keys and idempotency keys of one name are of one client.
            *scopes: what it may do: scopes (`jobs:create`) and roles (`client`).
            queues: only jobs of these queues exist for it; None: all do.
            types: the same of job types.
            expires_at: it opens nothing from then on; None: it does not end.
            expires_in_seconds: the same, from now on.
            by: who makes it.

        Raises:
            InvalidJobError: something about it is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not made.
        """
        document = {
            "name": name,
            "scopes": scopes,
            "queues": queues,
            "types": types,
            "expires_at": expires_at,
            "expires_in_seconds": expires_in_seconds,
        }
        return self.create_new(validate(NewKey, document), by=by)

    def create_new(self, wanted: NewKey, *, by: str, maker: Principal | None = None) -> MadeKey:
        """Make a key as `create` does. A `maker` gives no scope that it has not itself.

        Raises:
            ForbiddenError: the maker has not all of its scopes.
        """
        scopes = scopes_of(wanted.scopes)
        if maker is not None and not effective(scopes) <= maker.scopes:
            missing = ", ".join(sorted(effective(scopes) - maker.scopes))
            raise ForbiddenError(f"a key can give no scope that it has not itself: {missing}")
        key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
        secret = _new_secret()
        with self._database.transaction() as connection:
            key = key_rows.insert(
                connection,
                key_id=key_id,
                name=wanted.name,
                secret_hash=hash_of(secret),
                scopes=scopes,
                queues=wanted.queues,
                types=wanted.types,
                created_by=by,
                expires_at=_end_of(wanted),
                namespace=self._namespace,
            )
            self._note(connection, "key.create", key_id, _noted(key))
        log.info("api_key_created", key_id=key.id, name=key.name, scopes=sorted(scopes), by=by)
        return MadeKey(key, _text_of(key_id, secret))

    def list(self) -> list[Key]:
        """List the newest thousand keys, without their secrets, the newest first."""
        with self._database.autocommit() as connection:
            return key_rows.list_all(connection, namespace=self._namespace, limit=KEYS_MAX)

    def get(self, key_id: str) -> Key:
        """Return a key, without its secret.

        Raises:
            ApiKeyNotFoundError: there is none with this id.
        """
        with self._database.autocommit() as connection:
            return self._get(connection, key_id)

    def revoke(self, key_id: str, *, by: str = "system") -> Key:
        """Revoke a key for good: within two seconds it opens nothing anywhere. A revoked one stays as it is.

        Raises:
            ApiKeyNotFoundError: there is none with this id.
        """
        with self._database.transaction() as connection:
            was = self._get(connection, key_id)
            key = key_rows.revoke(connection, key_id, by=by)
            if was.revoked_at is None:
                self._note(connection, "key.revoke", key_id, {"name": key.name})
        log.info("api_key_revoked", key_id=key.id, name=key.name, by=by)
        return key

    def rotate(
        self,
        key_id: str,
        *,
        overlap_seconds: float = OVERLAP_SECONDS,
        by: str = "system",
        maker: Principal | None = None,
    ) -> MadeKey:
        """Give a key another secret, and return its text; the one before stays good for a while.

        Args:
            key_id: the part of its text behind `gq_`.
            overlap_seconds: how long the secret before stays good; 0: it ends within two seconds. One that
                is still good from a rotation before ends at once.
            by: who rotates it.
            maker: rotates no key that has a scope which it has not itself.

        Raises:
            ApiKeyNotFoundError: there is none with this id.
            ApiKeyConflictError: it is revoked or expired.
            ForbiddenError: it may do what the maker may not.
            InvalidJobError: the overlap is negative, or longer than 90 days.
        """
        if not 0 <= overlap_seconds <= OVERLAP_MAX_SECONDS:
            raise InvalidJobError({"overlap_seconds": f"expected 0 to {OVERLAP_MAX_SECONDS:,.0f}"})
        secret = _new_secret()
        with self._database.transaction() as connection:
            before = self._get(connection, key_id)
            if maker is not None and not effective(before.scopes) <= maker.scopes:
                raise ForbiddenError("the key that is rotated may do what this one may not")
            key = key_rows.rotate(connection, key_id, hash_of(secret), overlap_seconds=overlap_seconds)
            if key is None:
                raise ApiKeyConflictError(key_id, self._get(connection, key_id).state)
            after = {"name": key.name, "overlap_seconds": overlap_seconds}
            self._note(connection, "key.rotate", key_id, after)
        log.info("api_key_rotated", key_id=key.id, name=key.name, overlap_seconds=overlap_seconds, by=by)
        return MadeKey(key, _text_of(key_id, secret))

    def _get(self, connection: Connection, key_id: str) -> Key:
        return key_rows.get(connection, key_id, namespace=self._namespace)

    def _note(self, connection: Connection, action: str, key_id: str, after: dict[str, object]) -> None:
        """Write to the audit log of the namespace, in the transaction of the change."""
        with in_schema(connection, self._schema):
            audit.record(connection, action, f"key {key_id}", after=after)


def parse_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key's text; None: it is no text of such a key."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1], found[2])


def hash_of(secret: str) -> str:
    """Return what is kept of a secret: its SHA-256, in hexadecimal.

    A secret has 256 random bits, so nothing slower is needed to keep it from being guessed.
    """
    # A header is Latin-1; a key is compared as the bytes that were sent.
    return hashlib.sha256(secret.encode("latin-1", errors="replace")).hexdigest()


def _noted(key: Key) -> dict[str, object]:
    """A new key, for the audit log."""
    return {
        "name": key.name,
        "scopes": key.scopes,
        "queues": key.queues,
        "types": key.types,
        "expires_at": key.expires_at,
    }


def _new_secret() -> str:
    return "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(_SECRET_LENGTH))


def _text_of(key_id: str, secret: str) -> str:
    return f"gq_{key_id}_{secret}"


def _end_of(wanted: NewKey) -> datetime | None:
    if wanted.expires_in_seconds is None:
        return wanted.expires_at
    if wanted.expires_at is not None:
        raise InvalidJobError({"expires_at": "expected only one of expires_at and expires_in_seconds"})
    return near_moment(datetime.now(UTC) + timedelta(seconds=wanted.expires_in_seconds))
