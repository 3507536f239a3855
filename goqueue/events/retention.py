"""The keeping of events: for how long, and when changes are no longer written down."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from goqueue.db.database import Connection, Database
from goqueue.db.tables.events import SLOTS
from goqueue.errors import DatabaseUnavailableError
from goqueue.events import subscription_rows
from goqueue.events.subscriptions import LINGER_SECONDS

__all__ = ["stop_unheard", "turn"]

log = structlog.get_logger(__name__)

#: A slot is written to for this part of the retention. The one that is emptied next was left all other turns
#: but one ago, so what it has is older than the retention.
TURNS = SLOTS - 2


def turn(database: Database, *, retention_seconds: float) -> bool:
    """Go on to the next slot of the ring where it is time, and empty that; whether it was.

    Where somebody holds the slot that would be emptied, the present one is written to until the next round.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    slot_seconds = retention_seconds / TURNS
    return _shortly(database, lambda found: subscription_rows.turn(found, slot_seconds=slot_seconds))


def stop_unheard(database: Database) -> bool:
    """Drop the triggers that write events, where nobody has listened for `LINGER_SECONDS`; whether it did.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    has_stopped = _shortly(
        database, lambda found: subscription_rows.stop_writing(found, after_seconds=LINGER_SECONDS)
    )
    if has_stopped:
        log.info("events_end")
    return has_stopped


def _shortly(database: Database, do: Callable[[Connection], bool]) -> bool:
    """Do what wants a table for itself; False where it does not get it: the next round tries again."""
    try:
        with database.transaction() as connection:
            return do(connection)
    except DatabaseUnavailableError as error:
        if not error.may_be_the_statement:
            raise
        log.debug("events_wait", error=str(error))
        return False
