"""The feed: events in the order of their commits, from any place, in batches."""

from __future__ import annotations

from typing import NamedTuple

from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.errors import EventsGoneError
from goqueue.events import event_rows
from goqueue.events.cursor import Cursor, Snapshot
from goqueue.events.event import Event
from goqueue.events.event_rows import EventPage, EventRow

__all__ = ["EventBatch", "EventFeed"]

#: The events of a batch, where nothing else is said.
LIMIT = 1_000


class EventBatch(NamedTuple):
    """Events that follow each other, and where a reader goes on behind them.

    Attributes:
        is_last: there was no more when they were read.
    """

    events: list[Event]
    cursor: Cursor
    is_last: bool


class EventFeed:
    """Reads events; each reader keeps its cursor itself. Thread-safe.

    Events are written only while somebody has subscribed: see `goqueue.events.subscriptions`. Each event
    comes once, the events of one job in their order; those of two jobs in the order of their commits, but for
    what was committed between two looks.

    Args:
        database: of the server that accepts writes; not that of a read replica.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> Cursor:
        """Return the place of a reader that begins now.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self._database.autocommit() as connection:
            return Cursor(event_rows.standing(connection).snapshot)

    def expect_kept(self, cursor: Cursor) -> None:
        """See that all events behind a cursor are kept, without reading any.

        Raises:
            EventsGoneError: some are not, or were not written.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self._database.autocommit() as connection:
            standing = event_rows.standing(connection)
        if standing.lacks(cursor):
            raise EventsGoneError

    def read(self, cursor: Cursor, limit: int = LIMIT, *, until: Snapshot | None = None) -> EventBatch:
        """Read the next events behind a cursor, without waiting for any.

        Args:
            cursor: where the reader stands.
            limit: the most events.
            until: read only what this later snapshot sees; the last batch ends there.

        Raises:
            EventsGoneError: events that the reader has not seen are not kept any more, or were not written
                because nobody had subscribed.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        if until is not None and cursor.until is None:
            cursor = Cursor(cursor.seen, until)
        page = self._page(cursor, limit)
        if page.standing.lacks(cursor):
            raise EventsGoneError
        end = cursor.until or page.standing.snapshot
        events = [_event(row, cursor.seen, end) for row in page.rows]
        if len(events) < limit:
            return EventBatch(events, Cursor(end), is_last=end == (until or page.standing.snapshot))
        return EventBatch(events, Cursor(cursor.seen, end, page.rows[-1].id), is_last=False)

    def _page(self, cursor: Cursor, limit: int) -> EventPage:
        if event_rows.has_far_to_go(cursor):
            with self._database.transaction() as connection:
                bounded_reads.along_indexes(connection)
                return event_rows.page(connection, cursor, limit=limit)
        with self._database.autocommit() as connection:
            return event_rows.page(connection, cursor, limit=limit)


def _event(row: EventRow, seen: Snapshot, until: Snapshot) -> Event:
    place = Cursor(seen, until, row.id).text
    return Event(place, row.kind, row.at, row.job_id, row.queue, row.type, row.told)
