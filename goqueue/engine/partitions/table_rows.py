"""Tables that become partitions: how they are made, attached, detached and dropped.

Everything here is part of a transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.partitions.layout_rows import TABLES
from goqueue.errors import DatabaseUnavailableError

__all__ = [
    "HELD_UP_MILLISECONDS",
    "attach",
    "detach",
    "drop_left_over",
    "is_alone",
    "lock_tables",
    "make",
    "patiently",
    "storage_of",
]

#: Who changes partitions holds this advisory lock until the end of the transaction: of the schema, because a
#: database may have several.
_LOCK_KEY = "hashtextextended(current_schema(), 7310002)"

#: The comment of tables that were taken out for good. (Somebody else may take one out, to keep it.)
_TO_BE_DROPPED = "goqueue: taken out, to be dropped"

#: How long others may wait behind one who waits for the tables.
HELD_UP_MILLISECONDS = 250

_UNDER_WAY = """
    SELECT relation::regclass::text FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'ShareUpdateExclusiveLock' AND granted AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (relation = ANY (%(tables)s::text[]::regclass[]) OR relation = ANY (ARRAY (
          SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY (%(tables)s::text[]::regclass[]))))
    LIMIT 1
"""

_LEFT_OVER = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobs'::regclass)
      AND relkind = 'r' AND NOT relispartition AND obj_description(oid, 'pg_class') = %(mark)s
    ORDER BY relname
"""


@contextmanager
def patiently(connection: Connection, seconds: float) -> Iterator[None]:
    """Let the statements of a transaction take so long."""
    driver: Any = connection.connection.driver_connection
    before = driver.answer_seconds
    driver.answer_seconds = seconds
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{int(seconds)}s'")
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{int(seconds)}s'")
    try:
        yield
    finally:
        driver.answer_seconds = before


def is_alone(connection: Connection) -> bool:
    """Say whether nobody else changes partitions, and none will before the end of the transaction."""
    row = fetch_one(connection, f"SELECT pg_try_advisory_xact_lock({_LOCK_KEY})", {})
    return bool(row and row[0])


def lock_tables(connection: Connection, *others: str) -> None:
    """Lock the partitioned tables, for a moment, against everybody.

    Whoever comes later waits behind this one: so it waits no longer than they should, and not at all where a
    vacuum or the build of an index is under way, which ends later.

    Raises:
        DatabaseUnavailableError: one is.
    """
    if found := fetch_one(connection, _UNDER_WAY, {"tables": list(TABLES)}):
        raise DatabaseUnavailableError(f"{found[0]} is vacuumed or indexed", may_be_the_statement=True)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {HELD_UP_MILLISECONDS}")
    connection.exec_driver_sql(f"LOCK TABLE {', '.join([*TABLES, *others])} IN ACCESS EXCLUSIVE MODE")


def storage_of(connection: Connection, table: str) -> str:
    """Write the storage settings of a table as CREATE TABLE has them."""
    row = fetch_one(
        connection,
        "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = %(table)s::regclass",
        {"table": table},
    )
    return f"WITH ({row[0]})" if row and row[0] else ""


def make(connection: Connection, suffix: str, *, stored_like: str | None = None) -> None:
    """Make empty tables that may become a partition.

    Args:
        connection: in a transaction.
        suffix: of their names.
        stored_like: the suffix of those whose storage settings they get; None: of the tables themselves. A
            partitioned table has none, and passes on none.
    """
    for table in TABLES:
        storage = storage_of(connection, table if stored_like is None else f"{table}_{stored_like}")
        connection.exec_driver_sql(
            f"CREATE TABLE {table}_{suffix} (LIKE {table} INCLUDING ALL EXCLUDING IDENTITY) {storage}"
        )


def attach(connection: Connection, suffix: str, lower: int | None, upper: int | None) -> None:
    """Make tables the partition of a range of ids; where no constraint says it, all rows are looked at."""
    first, last = lower if lower is not None else "MINVALUE", upper if upper is not None else "MAXVALUE"
    for table in TABLES:
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ATTACH PARTITION {table}_{suffix} FOR VALUES FROM ({first}) TO ({last})"
        )


def detach(connection: Connection, suffix: str, *, for_good: bool = False) -> None:
    """Take a partition out; its tables stay until they are dropped, where it is for good."""
    for table in TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table} DETACH PARTITION {table}_{suffix}")
        if for_good:
            connection.exec_driver_sql(f"COMMENT ON TABLE {table}_{suffix} IS '{_TO_BE_DROPPED}'")


def drop_left_over(connection: Connection) -> int:
    """Drop the tables that were taken out, which nobody asks any more; how many."""
    names = [row[0] for row in fetch_all(connection, _LEFT_OVER, {"mark": _TO_BE_DROPPED})]
    for name in names:
        connection.exec_driver_sql(f'DROP TABLE "{name}"')
    return len(names)
