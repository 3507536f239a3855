"""Namespaces as rows of the installation's own schema, and the schemas that they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection

from goqueue.access.quotas import QUOTA_NAMES, Quotas
from goqueue.db.fragments import LATER, SUSPECT, UNSUCCESSFUL
from goqueue.db.statements import Values, fetch_all, fetch_one
from goqueue.engine import queue_rows as queue_store

__all__ = [
    "Namespace",
    "Unfinished",
    "change",
    "delete",
    "drop_schema",
    "find",
    "insert",
    "list_all",
    "lock_jobs",
    "make_schema",
    "note_made",
    "queue_names",
    "revoke_keys",
    "set_running_quota",
    "unfinished",
    "worker_signatures",
]

_COLUMNS = f"id, name, created_at, created_by, made_at, {', '.join(QUOTA_NAMES)}"
_VALUES = ", ".join(f"%({name})s" for name in QUOTA_NAMES)
_SETS = ", ".join(f"{name} = %({name})s" for name in QUOTA_NAMES)

_INSERT = f"""
    INSERT INTO namespaces (name, created_by, {", ".join(QUOTA_NAMES)}) VALUES (%(name)s, %(by)s, {_VALUES})
    ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}
"""
_FIND = f"SELECT {_COLUMNS} FROM namespaces WHERE name = %(name)s"
_LIST = f"SELECT {_COLUMNS} FROM namespaces ORDER BY name"

# Of two who make the same one, one is the first to say that it is ready.
_NOTE_MADE = f"""
    UPDATE namespaces SET made_at = clock_timestamp() WHERE name = %(name)s AND made_at IS NULL
    RETURNING {_COLUMNS}
"""
_CHANGE = f"UPDATE namespaces SET {_SETS} WHERE name = %(name)s AND made_at IS NOT NULL RETURNING {_COLUMNS}"
_DELETE = "DELETE FROM namespaces WHERE name = %(name)s RETURNING id"

_REVOKE_KEYS = """
    UPDATE api_keys SET revoked_at = now(), revoked_by = %(by)s
    WHERE namespace = %(name)s AND revoked_at IS NULL RETURNING id
"""

_GOVERN = "UPDATE queues SET namespace_governed = %(governed)s WHERE namespace_governed <> %(governed)s"
_SET_QUOTA = """
    INSERT INTO running_quota (namespace, max_running_jobs) VALUES (%(name)s, %(most)s)
    ON CONFLICT (id) DO UPDATE SET max_running_jobs = excluded.max_running_jobs
"""

_LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(hashtextextended(%(schema)s, 7310027)) IS NULL"
_MARK_OF = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %(schema)s"
_MARK = "SELECT 'namespace of GoQueue in ' || current_schema()"

#: What a namespace is asked for: more is not counted.
_COUNTED_UP_TO = 1_000_000

# Along the partial indexes, as far as asked: jobs that have ended are not looked at.
_UNFINISHED = f"""
    SELECT (SELECT count(*) FROM (SELECT FROM ready_jobs LIMIT %(most)s) AS found)
         + (SELECT count(*) FROM (SELECT FROM jobs WHERE {LATER} LIMIT %(most)s) AS found)
         + (SELECT count(*) FROM (SELECT FROM jobs WHERE {SUSPECT} LIMIT %(most)s) AS found)
         + (SELECT count(*) FROM (SELECT FROM jobs WHERE {UNSUCCESSFUL} AND rare_state = 'blocked'
                                  LIMIT %(most)s) AS found),
           (SELECT count(*) FROM (SELECT FROM running_jobs LIMIT %(most)s) AS found)
"""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace inside of the database.

    Attributes:
        id: another one for each that is made, also under a name that there was.
        made_at: when its schema was ready; None: nobody serves it yet.
    """

    id: int
    name: str
    created_at: datetime
    created_by: str
    made_at: datetime | None
    quotas: Quotas


class Unfinished(NamedTuple):
    """The jobs of a namespace that have not ended, each counted up to a million."""

    waiting: int
    running: int


def insert(connection: Connection, name: str, quotas: Quotas, *, by: str) -> Namespace | None:
    """Insert a namespace whose schema is still to be made; None: there is a row of this name."""
    row = fetch_one(connection, _INSERT, {"name": name, "by": by} | _parameters(quotas))
    return None if row is None else _namespace(row)


def find(connection: Connection, name: str, *, lock: bool = False) -> Namespace | None:
    """Return the namespace of this name, whether its schema is ready or not; None: there is none."""
    row = fetch_one(connection, _FIND + (" FOR UPDATE" if lock else ""), {"name": name})
    return None if row is None else _namespace(row)


def list_all(connection: Connection) -> list[Namespace]:
    """List all namespaces by name, those that are not ready as well."""
    return [_namespace(row) for row in fetch_all(connection, _LIST, {})]


def note_made(connection: Connection, name: str) -> Namespace | None:
    """Note that the schema is ready; None: somebody else has noted it, or deleted the namespace."""
    row = fetch_one(connection, _NOTE_MADE, {"name": name})
    return None if row is None else _namespace(row)


def change(connection: Connection, name: str, quotas: Quotas) -> Namespace | None:
    """Set the quotas; None: there is no such namespace."""
    row = fetch_one(connection, _CHANGE, {"name": name} | _parameters(quotas))
    return None if row is None else _namespace(row)


def delete(connection: Connection, name: str) -> None:
    """Delete the row of a namespace."""
    fetch_one(connection, _DELETE, {"name": name})


def revoke_keys(connection: Connection, name: str, *, by: str) -> list[str]:
    """Revoke all keys of a namespace for good; the ids of those that were not."""
    return [row[0] for row in fetch_all(connection, _REVOKE_KEYS, {"name": name, "by": by})]


def make_schema(connection: Connection, schema: str) -> bool:
    """Make an empty schema, or find the one that somebody began to make here; False: it is another's.

    In a transaction, which keeps others from making the same one. A mark says whose it is: another
    installation in the same database may have the same name, and its schemas are not ours.
    """
    fetch_one(connection, _LOCK_SCHEMA, {"schema": schema})
    mark = fetch_one(connection, _MARK, {})
    found = fetch_one(connection, _MARK_OF, {"schema": schema})
    if found is not None:
        return found == mark
    assert mark is not None
    name = sql.Identifier(schema)
    driver = _driver(connection)
    driver.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    driver.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal(mark[0])))
    return True


def drop_schema(connection: Connection, schema: str) -> None:
    """Drop the schema of a namespace with all that is in it, and that of its audit log."""
    for name in (schema, f"{schema}_audit"):
        _driver(connection).execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def unfinished(connection: Connection, *, most: int = _COUNTED_UP_TO) -> Unfinished:
    """Count the jobs of the schema that the connection is in that have not ended, each up to so many."""
    row = fetch_one(connection, _UNFINISHED, {"most": most})
    assert row is not None
    return Unfinished(*row)


def lock_jobs(connection: Connection) -> None:
    """Keep everybody from the jobs of the schema that the connection is in, until the transaction ends."""
    _driver(connection).execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")


def queue_names(connection: Connection) -> list[str]:
    """List the queues of the schema that the connection is in."""
    return [row[0] for row in fetch_all(connection, "SELECT name FROM queues ORDER BY name", {})]


def worker_signatures(connection: Connection) -> list[str]:
    """List the signatures of the workers of the connection's schema, by which lanes are called."""
    found = "SELECT DISTINCT signature FROM workers WHERE signature IS NOT NULL"
    return [row[0] for row in fetch_all(connection, found, {})]


def set_running_quota(connection: Connection, name: str, most: int | None) -> None:
    """Let so many jobs of the connection's schema run at once; None: as many as there is room for.

    In a transaction. Jobs of all queues start only when they were let in, then, also of queues that come: the
    default is what a create inserts a queue with.
    """
    driver, governed = _driver(connection), most is not None
    driver.execute(
        sql.SQL("ALTER TABLE queues ALTER COLUMN namespace_governed SET DEFAULT {}").format(
            sql.Literal(governed)
        )
    )
    driver.execute(_GOVERN, {"governed": governed})
    driver.execute(_SET_QUOTA if governed else "DELETE FROM running_quota", {"name": name, "most": most})
    for queue in queue_names(connection):
        queue_store.take_back(connection, queue)


def _parameters(quotas: Quotas) -> dict[str, object]:
    return {name: getattr(quotas, name) for name in QUOTA_NAMES}


def _namespace(row: Values) -> Namespace:
    identity, name, created_at, created_by, made_at, *quotas = row
    return Namespace(identity, name, created_at, created_by, made_at, Quotas(*quotas))


def _driver(connection: Connection) -> psycopg.Connection[Values]:
    return cast("psycopg.Connection[Values]", connection.connection.driver_connection)
