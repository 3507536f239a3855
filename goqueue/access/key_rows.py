"""API keys as rows: their secrets as hashes, what they allow, and until when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.access.scopes import Scope
from goqueue.db.statements import Values, fetch_all, fetch_one, text_array
from goqueue.errors import ApiKeyNotFoundError

__all__ = ["Key", "find", "get", "insert", "list_all", "note_use", "revoke", "rotate"]

_COLUMNS = """
    id, name, secret_hash, previous_hash, previous_until, scopes, queues, types, created_by, created_at,
    expires_at, last_used_at, rotated_at, revoked_at, revoked_by, expires_at <= now(),
    coalesce(previous_until > now(), false), namespace
"""

_INSERT = f"""
    INSERT INTO api_keys (id, name, secret_hash, scopes, queues, types, created_by, expires_at,
                          namespace)
    VALUES (%(id)s, %(name)s, %(secret_hash)s, %(scopes)s::text[], %(queues)s::text[], %(types)s::text[],
            %(created_by)s, %(expires_at)s, %(namespace)s)
    RETURNING {_COLUMNS}
"""
_GET = f"SELECT {_COLUMNS} FROM api_keys WHERE id = %(id)s"
_LIST = f"""
    SELECT {_COLUMNS} FROM api_keys WHERE namespace = %(namespace)s
    ORDER BY created_at DESC, id LIMIT %(limit)s
"""

# Whoever comes second finds it revoked, by whom and when it was.
_REVOKE = f"""
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, %(by)s)
    WHERE id = %(id)s RETURNING {_COLUMNS}
"""
_ROTATE = f"""
    UPDATE api_keys
    SET previous_hash = CASE WHEN %(overlap)s > 0 THEN secret_hash END,
        previous_until = CASE WHEN %(overlap)s > 0 THEN now() + make_interval(secs => %(overlap)s) END,
        secret_hash = %(secret_hash)s, rotated_at = now()
    WHERE id = %(id)s AND revoked_at IS NULL AND (expires_at > now()) IS NOT FALSE
    RETURNING {_COLUMNS}
"""
_NOTE_USE = """
    UPDATE api_keys SET last_used_at = now()
    WHERE id = %(id)s AND (last_used_at > now() - make_interval(secs => %(seconds)s)) IS NOT TRUE
    RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its secret.

    Attributes:
        secret_hash: SHA-256 of its secret, in hexadecimal.
        previous_hash: of the secret before the last rotation, which is good until `previous_until`.
        queues, types: the only ones whose jobs exist for it; None: all do.
        is_expired: its end has come, by PostgreSQL's clock.
        is_overlapping: the secret before the last rotation is still good.
        namespace: the one that it opens.
    """

    id: str
    name: str
    secret_hash: str
    previous_hash: str | None
    previous_until: datetime | None
    scopes: tuple[Scope, ...]
    queues: tuple[str, ...] | None
    types: tuple[str, ...] | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    is_expired: bool
    is_overlapping: bool
    namespace: str

    @property
    def is_good(self) -> bool:
        """Whether the key opens anything: it is neither revoked nor expired."""
        return self.revoked_at is None and not self.is_expired

    @property
    def state(self) -> str:
        """The state that it has now: active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.is_expired else "active"


def insert(
    connection: Connection,
    *,
    key_id: str,
    name: str,
    secret_hash: str,
    scopes: Collection[Scope],
    queues: Collection[str] | None,
    types: Collection[str] | None,
    created_by: str,
    expires_at: datetime | None,
    namespace: str,
) -> Key:
    """Insert a key, and return it."""
    row = fetch_one(
        connection,
        _INSERT,
        {
            "id": key_id,
            "name": name,
            "secret_hash": secret_hash,
            "scopes": text_array(tuple(sorted(scopes))),
            "queues": None if queues is None else text_array(tuple(sorted(queues))),
            "types": None if types is None else text_array(tuple(sorted(types))),
            "created_by": created_by,
            "expires_at": expires_at,
            "namespace": namespace,
        },
    )
    assert row is not None
    return _key(row)


def find(connection: Connection, key_id: str) -> Key | None:
    """Return the key with this id, whatever its state; None: there is none."""
    row = fetch_one(connection, _GET, {"id": key_id})
    return None if row is None else _key(row)


def get(connection: Connection, key_id: str, *, namespace: str) -> Key:
    """Return the key of a namespace with this id, whatever its state.

    Raises:
        ApiKeyNotFoundError: there is none.
    """
    key = find(connection, key_id)
    if key is None or key.namespace != namespace:
        raise ApiKeyNotFoundError(key_id)
    return key


def list_all(connection: Connection, *, namespace: str, limit: int) -> list[Key]:
    """List the keys of a namespace, the newest first, revoked and expired ones as well."""
    return [_key(row) for row in fetch_all(connection, _LIST, {"namespace": namespace, "limit": limit})]


def revoke(connection: Connection, key_id: str, *, by: str) -> Key:
    """Revoke a key for good; one that is revoked stays as it is.

    Raises:
        ApiKeyNotFoundError: there is none with this id.
    """
    row = fetch_one(connection, _REVOKE, {"id": key_id, "by": by})
    if row is None:
        raise ApiKeyNotFoundError(key_id)
    return _key(row)


def rotate(connection: Connection, key_id: str, secret_hash: str, *, overlap_seconds: float) -> Key | None:
    """Give a key another secret; the one before stays good for so long. None: no such key is good."""
    parameters = {"id": key_id, "secret_hash": secret_hash, "overlap": overlap_seconds}
    row = fetch_one(connection, _ROTATE, parameters)
    return None if row is None else _key(row)


def note_use(connection: Connection, key_id: str, *, every_seconds: float) -> None:
    """Note that a key was used now, unless that was noted so shortly ago."""
    fetch_one(connection, _NOTE_USE, {"id": key_id, "seconds": every_seconds})


def _key(row: Values) -> Key:
    values = list(row)
    # A scope of a later release allows nothing here.
    values[5] = tuple(scope for scope in Scope if scope in row[5])
    values[6:8] = (None if names is None else tuple(names) for names in row[6:8])
    return Key(*values)
