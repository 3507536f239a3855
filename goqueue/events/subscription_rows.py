"""Rows of those who listen to events, and the triggers that write them while somebody does."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one

__all__ = ["are_written", "end", "renew", "stop_writing", "turn", "write"]

#: Whoever makes or drops the triggers wants all tables that are written to for a moment, and whoever writes
#: waits behind it: so it waits no longer than this.
HELD_UP_MILLISECONDS = 100

#: An automatic vacuum, which may take minutes, gives way to whoever has waited for `deadlock_timeout`, a
#: second by default: who meets one waits for that, once.
VACUUM_MILLISECONDS = 1_200

_VACUUM = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'relation' AND mode = 'ShareUpdateExclusiveLock' AND granted
          AND pid <> pg_backend_pid()
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND relation = ANY (ARRAY['jobs', 'attempt_progress', 'schedule_ticks', 'schedules', 'types',
                                    'queues', 'workers']::regclass[]))
"""

_RENEW = """
    INSERT INTO event_subscriptions (name, what, lease_until)
    VALUES (%(name)s, %(what)s, now() + make_interval(secs => %(seconds)s))
    ON CONFLICT (name) DO UPDATE
    SET what = EXCLUDED.what, lease_until = GREATEST(event_subscriptions.lease_until, EXCLUDED.lease_until)
    RETURNING name
"""


# Of processes that ended; somebody else may listen for months.
_FORGET = """
    DELETE FROM event_subscriptions WHERE lease_until < now() - make_interval(secs => %(after)s)
    RETURNING name
"""


def renew(connection: Connection, name: str, what: str, *, seconds: float) -> bool:
    """Say that somebody listens for so long from now; whether events are written. In a transaction.

    They are not dropped from under it: whoever drops the triggers waits for the transaction, or it waits for
    them, and then sees that they are gone.
    """
    fetch_all(connection, _RENEW, {"name": name, "what": what, "seconds": seconds})
    return are_written(connection)


def end(connection: Connection, name: str) -> None:
    """Say that somebody listens no more, as if the lease ended now."""
    fetch_all(
        connection,
        "UPDATE event_subscriptions SET lease_until = LEAST(lease_until, now()) WHERE name = %(name)s "
        "RETURNING name",
        {"name": name},
    )


def are_written(connection: Connection) -> bool:
    """Say whether events are written."""
    row = fetch_one(connection, "SELECT goqueue_events_are_on()", {})
    return bool(row and row[0])


def write(connection: Connection, *, is_patient: bool = False) -> bool:
    """Make the triggers; whether there were none. In a transaction.

    Args:
        connection: of the transaction.
        is_patient: waits for as long as an automatic vacuum takes to give way, where there is one.

    Raises:
        DatabaseUnavailableError: somebody writes to a table for so long that it did not get it.
    """
    has_to_wait = is_patient and fetch_one(connection, _VACUUM, {}) == (True,)
    _wait_shortly(connection, VACUUM_MILLISECONDS if has_to_wait else HELD_UP_MILLISECONDS)
    row = fetch_one(connection, "SELECT goqueue_events_on()", {})
    return bool(row and row[0])


def stop_writing(connection: Connection, *, after_seconds: float) -> bool:
    """Drop the triggers, if no lease was good within so many seconds; whether it did. In a transaction."""
    if not are_written(connection):
        return False
    fetch_all(connection, _FORGET, {"after": after_seconds})
    _wait_shortly(connection)
    asked = "SELECT goqueue_events_off(make_interval(secs => %(after)s))"
    row = fetch_one(connection, asked, {"after": after_seconds})
    return bool(row and row[0])


def turn(connection: Connection, *, slot_seconds: float) -> bool:
    """Empty the oldest slot and go on to it, if the present one is so old; whether it did.

    In a transaction.
    """
    _wait_shortly(connection)
    asked = "SELECT goqueue_events_turn(make_interval(secs => %(slot)s))"
    row = fetch_one(connection, asked, {"slot": slot_seconds})
    return bool(row and row[0])


def _wait_shortly(connection: Connection, milliseconds: int = HELD_UP_MILLISECONDS) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
