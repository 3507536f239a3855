"""Indexes that are made and dropped beside the writers of a table, whether it is partitioned or not.

PostgreSQL makes no index of a partitioned table beside its writers. It is made of the table alone, which has
no rows, then of each partition, and each of these is attached; with the last one it is valid.

All of it runs on an autocommit connection of the caller's, which is for this alone: its time-outs are
changed.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Connection

__all__ = ["BUILD_SECONDS", "create", "drop", "is_partitioned", "is_valid", "name_of_part"]

#: Of a build's statements: none but PostgreSQL's own errors ends it.
BUILD_SECONDS = 24 * 3600

#: What wants a partitioned table for itself waits no longer: everybody waits behind it.
LOCK_MILLISECONDS = 250

#: PostgreSQL cuts off names that are longer.
_NAME_LENGTH = 63

_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%(name)s)"

_IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = %(table)s::regclass"

# Partitions that have no index which is attached to this one.
_WITHOUT = """
    SELECT part.relname::text FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
    WHERE inhparent = %(table)s::regclass AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_inherits AS attached ON attached.inhrelid = indexrelid
        WHERE indrelid = part.oid AND attached.inhparent = %(name)s::regclass)
    ORDER BY part.relname
"""


def is_valid(connection: Connection, name: str) -> bool:
    """Say whether there is an index of this name which is complete."""
    row = connection.exec_driver_sql(_IS_VALID, {"name": name}).fetchone()
    return bool(row and row[0])


def is_partitioned(connection: Connection, table: str) -> bool:
    """Say whether a table is partitioned."""
    return bool(connection.exec_driver_sql(_IS_PARTITIONED, {"table": table}).scalar())


def name_of_part(name: str, part: str) -> str:
    """Return the name of what belongs to a part as an index of some name does to the whole."""
    return f"{name[: _NAME_LENGTH - len(part) - 1]}_{part}"


def create(connection: Connection, name: str, table: str, definition: str) -> None:
    """Make an index, unless it is there; what a build that was cut off has left is made anew.

    Args:
        connection: of its own.
        name: of the index, and the beginning of those of partitions.
        table: whose rows it has.
        definition: what stands behind the table: columns, and a condition.
    """
    if is_valid(connection, name):
        return
    if not is_partitioned(connection, table):
        _make(connection, name, table, definition)
        return
    _at_once(connection, f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {definition}")
    wanted = {"table": table, "name": name}
    # One that is made meanwhile gets the index with its other ones.
    for (part,) in connection.exec_driver_sql(_WITHOUT, wanted).fetchall():
        own = name_of_part(name, part)
        _make(connection, own, part, definition)
        _at_once(connection, f"ALTER INDEX {name} ATTACH PARTITION {own}")


def drop(connection: Connection, name: str) -> None:
    """Drop an index, where it is there, with those of partitions."""
    kind = connection.exec_driver_sql(
        "SELECT relkind FROM pg_class WHERE oid = to_regclass(%(name)s)", {"name": name}
    ).scalar()
    if kind == "I":
        _at_once(connection, f"DROP INDEX IF EXISTS {name}")
    else:
        _slowly(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _make(connection: Connection, name: str, table: str, definition: str) -> None:
    _slowly(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    _slowly(connection, f"CREATE INDEX CONCURRENTLY {name} ON {table} {definition}")


def _slowly(connection: Connection, statement: str) -> None:
    """Run a statement that may take long, waits for every older transaction, and that nobody waits for."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    connection.exec_driver_sql(f"SET statement_timeout = '{BUILD_SECONDS}s'")
    connection.exec_driver_sql("SET lock_timeout = 0")
    # The client waits as long as the server works on it.
    driver.answer_seconds = BUILD_SECONDS  # type: ignore[attr-defined]
    # A definition may have a per cent sign, which is none of a parameter's.
    driver.execute(statement.encode())


def _at_once(connection: Connection, statement: str) -> None:
    """Run a statement that everybody waits for who uses the table."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    connection.exec_driver_sql(f"SET lock_timeout = {LOCK_MILLISECONDS}")
    driver.execute(statement.encode())
