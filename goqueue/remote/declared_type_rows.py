"""The rows of types that are declared from outside."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.fragments import SUSPECT
from goqueue.db.statements import Values, fetch_all, fetch_one, text_array

__all__ = [
    "DeclaredType",
    "StoredDeclaration",
    "count_all",
    "delete",
    "find",
    "have_changed",
    "is_wanted",
    "read",
    "rotate",
    "upsert",
]

_COLUMNS = """
    name, queue, schema, max_retries, min_backoff_seconds, max_backoff_seconds, jitter, time_limit_seconds,
    requires, url, declared_by, created_at, updated_at, secret,
    CASE WHEN previous_until > now() THEN previous_secret END,
    CASE WHEN previous_until > now() THEN previous_until END
"""

# A type that is sent nowhere any more has no secret; one that still is keeps its own.
_UPSERT = f"""
    INSERT INTO declared_types AS declared (name, queue, schema, max_retries, min_backoff_seconds,
        max_backoff_seconds, jitter, time_limit_seconds, requires, url, secret, declared_by, updated_at)
    VALUES (%(name)s, %(queue)s, %(schema)s::json, %(max_retries)s, %(min_backoff_seconds)s,
            %(max_backoff_seconds)s, %(jitter)s, %(time_limit_seconds)s, %(requires)s::text[], %(url)s,
            CASE WHEN %(url)s::text IS NOT NULL THEN %(secret)s END, %(declared_by)s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET
        queue = excluded.queue, schema = excluded.schema, max_retries = excluded.max_retries,
        min_backoff_seconds = excluded.min_backoff_seconds,
        max_backoff_seconds = excluded.max_backoff_seconds, jitter = excluded.jitter,
        time_limit_seconds = excluded.time_limit_seconds, requires = excluded.requires, url = excluded.url,
        secret = CASE WHEN excluded.url IS NOT NULL THEN coalesce(declared.secret, excluded.secret) END,
        previous_secret = CASE WHEN excluded.url IS NOT NULL THEN declared.previous_secret END,
        previous_until = CASE WHEN excluded.url IS NOT NULL THEN declared.previous_until END,
        declared_by = excluded.declared_by, updated_at = excluded.updated_at
    RETURNING {_COLUMNS}
"""

_ROTATE = f"""
    UPDATE declared_types
    SET previous_secret = CASE WHEN %(overlap)s > 0 THEN secret END,
        previous_until = CASE WHEN %(overlap)s > 0 THEN now() + make_interval(secs => %(overlap)s) END,
        secret = %(secret)s, updated_at = clock_timestamp()
    WHERE name = %(name)s AND url IS NOT NULL
    RETURNING {_COLUMNS}
"""

# A job of the type that has not ended, by the places where such jobs stand; or a schedule that makes some.
_IS_WANTED = f"""
    SELECT EXISTS (SELECT FROM ready_jobs WHERE job_type = %(name)s)
        OR EXISTS (SELECT FROM jobs WHERE rare_state = 'blocked' AND type = %(name)s)
        OR EXISTS (SELECT FROM jobs WHERE rare_state = 'waiting' AND type = %(name)s)
        OR EXISTS (SELECT FROM jobs WHERE {SUSPECT} AND type = %(name)s)
        OR EXISTS (SELECT FROM running_jobs JOIN jobs ON jobs.id = running_jobs.job_id
                   WHERE jobs.type = %(name)s AND jobs.status = 'running'),
        EXISTS (SELECT FROM schedules WHERE type = %(name)s)
"""


@dataclass(frozen=True, slots=True)
class StoredDeclaration:
    """The declaration of a type as it is written; None is the service's default.

    Attributes:
        requires: the labels that a worker of its jobs has to have, as `name=value`.
        url: where its jobs are sent; None: workers lease them.
    """

    queue: str
    schema: dict[str, Any]
    max_retries: int | None = None
    min_backoff_seconds: float | None = None
    max_backoff_seconds: float | None = None
    jitter: bool | None = None
    time_limit_seconds: float | None = None
    requires: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """A type that somebody declared.

    Attributes:
        declared_by: who did, by the name of the key or of the program.
        updated_at: when it was last declared, or its secret changed.
        secret: what calls of its URL are signed with; None: it has none.
        previous_secret: what they are signed with as well, until `previous_until`.
    """

    name: str
    declaration: StoredDeclaration
    declared_by: str
    created_at: datetime
    updated_at: datetime
    secret: str | None = field(default=None, repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_until: datetime | None = None

    @property
    def url(self) -> str | None:
        """The address that its jobs are sent to; None: workers lease them."""
        return self.declaration.url


def upsert(
    connection: Connection, name: str, declaration: StoredDeclaration, *, by: str, secret: str
) -> DeclaredType:
    """Write a type, and return it; `secret` is what it signs with where it has a URL and had no secret."""
    parameters = {
        "name": name,
        "queue": declaration.queue,
        "schema": orjson.dumps(declaration.schema).decode(),
        "max_retries": declaration.max_retries,
        "min_backoff_seconds": declaration.min_backoff_seconds,
        "max_backoff_seconds": declaration.max_backoff_seconds,
        "jitter": declaration.jitter,
        "time_limit_seconds": declaration.time_limit_seconds,
        "requires": text_array(declaration.requires),
        "url": declaration.url,
        "declared_by": by,
        "secret": secret,
    }
    row = fetch_one(connection, _UPSERT, parameters)
    assert row is not None
    return _declared(row)


def find(connection: Connection, name: str, *, lock: bool = False) -> DeclaredType | None:
    """Read a type, locked until the transaction ends if `lock`; None: it is not declared."""
    sql = f"SELECT {_COLUMNS} FROM declared_types WHERE name = %(name)s"
    row = fetch_one(connection, f"{sql} FOR UPDATE" if lock else sql, {"name": name})
    return None if row is None else _declared(row)


def have_changed(connection: Connection) -> dict[str, datetime]:
    """Read when each type was last changed, by name."""
    return {
        row[0]: row[1] for row in fetch_all(connection, "SELECT name, updated_at FROM declared_types", {})
    }


def read(connection: Connection, names: Collection[str]) -> list[DeclaredType]:
    """Read these types; those that are not declared any more are left out."""
    sql = f"SELECT {_COLUMNS} FROM declared_types WHERE name = ANY (%(names)s::text[]) ORDER BY name"
    return [_declared(row) for row in fetch_all(connection, sql, {"names": text_array(tuple(sorted(names)))})]


def count_all(connection: Connection) -> int:
    """Count the types that are declared."""
    row = fetch_one(connection, "SELECT count(*)::int FROM declared_types", {})
    assert row is not None
    return int(row[0])


def is_wanted(connection: Connection, name: str) -> tuple[bool, bool]:
    """Tell whether jobs of a type have not ended, and whether a schedule makes some."""
    row = fetch_one(connection, _IS_WANTED, {"name": name})
    assert row is not None
    return row[0], row[1]


def delete(connection: Connection, name: str) -> None:
    """Delete the row of a type."""
    connection.exec_driver_sql("DELETE FROM declared_types WHERE name = %(name)s", {"name": name})


def rotate(connection: Connection, name: str, secret: str, *, overlap_seconds: float) -> DeclaredType | None:
    """Give a type another secret, beside which the one before is good for a while; None: it has no URL."""
    parameters = {"name": name, "secret": secret, "overlap": overlap_seconds}
    row = fetch_one(connection, _ROTATE, parameters)
    return None if row is None else _declared(row)


def _declared(row: Values) -> DeclaredType:
    said = [*row[1:8], tuple(row[8]), row[9]]
    return DeclaredType(
        name=row[0],
        declaration=StoredDeclaration(*said),
        declared_by=row[10],
        created_at=row[11],
        updated_at=row[12],
        secret=row[13],
        previous_secret=row[14],
        previous_until=row[15],
    )
