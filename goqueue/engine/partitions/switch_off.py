"""Switching partitions off: all rows go back into plain tables."""

from __future__ import annotations

import structlog

from goqueue.db.database import Database
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions import off_rows
from goqueue.engine.partitions.table_rows import is_alone, patiently
from goqueue.errors import PartitionsRefusedError

__all__ = ["switch_off"]

log = structlog.get_logger(__name__)

#: Copying takes so long at most.
COPY_SECONDS = 3600.0


def switch_off(database: Database) -> None:
    """Copy the jobs out of their partitions into plain tables, and drop those.

    Nobody creates, claims or records a job meanwhile: copying a million takes about a minute.

    Raises:
        PartitionsRefusedError: there are none, or somebody else changes them.
        DatabaseUnavailableError: somebody holds the tables.
    """
    with database.transaction() as connection, patiently(connection, COPY_SECONDS):
        layout = layouts.read(connection)
        if layout is None:
            raise PartitionsRefusedError("the jobs are in no partitions")
        if not is_alone(connection):
            raise PartitionsRefusedError("somebody else changes partitions at this moment")
        off_rows.copy_back(connection, like=layout.partitions[0].suffix)
    log.info("partitions_switched_off")
