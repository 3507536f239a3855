"""Reading everything that a page shows at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goqueue.db import bounded_reads
from goqueue.db.database import Connection, Database

__all__ = ["one_moment"]


@contextmanager
def one_moment(database: Database) -> Iterator[Connection]:
    """A connection whose questions all see the same moment, and which only reads.

    What changes between two questions of another connection is told twice by them, or not at all.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    with database.transaction() as connection:
        bounded_reads.one_snapshot(connection)
        yield connection
