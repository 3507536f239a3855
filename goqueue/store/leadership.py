"""Who leads the schedulers: the advisory lock of `goqueue/services/leader.py`, as others see it."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.store.rows import fetch_one

__all__ = ["LEADER_LOCK", "is_led"]

#: The lock of the leader, in the key space of this database.
LEADER_LOCK = 7_310_002

# A lock of one 64-bit key shows as its two halves, with objsubid 1.
_IS_LED = f"""
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = {LEADER_LOCK} AND objsubid = 1
          AND datname = current_database())
"""


def is_led(connection: Connection) -> bool:
    """Whether some scheduler leads now."""
    row = fetch_one(connection, _IS_LED, {})
    return bool(row and row[0])
