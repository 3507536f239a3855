"""A database whose jobs are in partitions of a handful: rows of every test lie in several."""

from __future__ import annotations

from collections.abc import Sequence

from goqueue.db.database import Database
from goqueue.engine.partitions import keep_rows as keeping
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions import switch_rows as switching
from goqueue.engine.partitions.layout_rows import TABLES, Layout

__all__ = ["layout_of", "put_into_partitions"]

#: Where the partitions begin, in a database without jobs.
BOUNDS = (1, 6, 11, 17, 25, 40, 60, 100)


def put_into_partitions(database: Database, bounds: Sequence[int] = BOUNDS) -> None:
    """Switch partitions on in a database in which no job has reached the first bound."""
    first, second, *others = bounds
    with database.transaction() as connection:
        switching.add_bound(connection, first)
        for table in TABLES:
            switching.check_bound(connection, table)
    with database.transaction() as connection:
        switching.switch(connection, upper=first, size=second - first)
    for upper in others:
        with database.transaction() as connection:
            last = layout_of(database).open
            keeping.add_ahead(connection, last, upper, stored_like=switching.FIRST)


def layout_of(database: Database) -> Layout:
    """Read the partitions."""
    with database.autocommit() as connection:
        layout = layouts.read(connection)
    assert layout is not None
    return layout
