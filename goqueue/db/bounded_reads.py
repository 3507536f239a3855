"""Several questions that have to agree with one another, each a bounded walk along an index."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one

__all__ = ["ALONG_INDEXES", "along_indexes", "begin", "one_snapshot"]

_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

#: By outdated statistics (a backlog that came after the last ANALYZE) the planner would rather read all of a
#: queue and sort it: ten times as long.
ALONG_INDEXES = """
    SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),
           set_config('enable_bitmapscan', 'off', true)
"""


def one_snapshot(connection: Connection) -> None:
    """Let all statements of this transaction read one moment; called before any of them."""
    connection.exec_driver_sql(_ONE_SNAPSHOT)


def along_indexes(connection: Connection) -> None:
    """Let the statements of this transaction read along indexes, in their order."""
    fetch_one(connection, ALONG_INDEXES, {})


def begin(connection: Connection) -> None:
    """Let all statements of this transaction read one moment, along indexes; called before any of them."""
    one_snapshot(connection)
    along_indexes(connection)
