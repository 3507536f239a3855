"""Transactions that go on in another schema of the same database: what was changed here is noted there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goqueue.db.database import Connection

__all__ = ["in_schema"]


@contextmanager
def in_schema(connection: Connection, schema: str | None) -> Iterator[None]:
    """Let the statements of a transaction be about the tables of another schema, inside of the block.

    Args:
        connection: in a transaction, at whose end it is over in any case.
        schema: its name; None: nothing changes.
    """
    if schema is None:
        yield
        return
    (before,) = connection.exec_driver_sql("SELECT current_setting('search_path')").one()
    _set(connection, '"' + schema.replace('"', '""') + '"')
    yield
    _set(connection, before)


def _set(connection: Connection, path: str) -> None:
    connection.exec_driver_sql("SELECT set_config('search_path', %(path)s, true)", {"path": path})
