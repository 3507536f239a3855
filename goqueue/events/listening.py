"""Listening to events in a program: an iterator that waits for the next one."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress

from goqueue.db.database import Database
from goqueue.errors import UnavailableError
from goqueue.events import event_rows
from goqueue.events.cursor import Cursor
from goqueue.events.event import Event
from goqueue.events.event_filter import EventFilter
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions

__all__ = ["listen"]

#: How soon an event is seen.
PAUSE_SECONDS = 0.05

LEASE_SECONDS, RENEW_SECONDS = 120.0, 30.0


def listen(
    database: Database,
    wanted: EventFilter,
    *,
    after: str | None = None,
    seconds: float | None = None,
    pause: Callable[[float], object] | None = None,
) -> Generator[Event]:
    """Yield events as they are committed; see `GoQueue.listen`.

    Args:
        database: whose events.
        wanted: which.
        after: the id of an event, behind which it begins; None: now, which is the time of this call.
        seconds: it ends after so long; None: it does not.
        pause: waits so many seconds between two looks; what is true ends it.
    """
    subscriptions, feed = Subscriptions(database), EventFeed(database)
    name = f"program {socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
    cursor = None if after is None else Cursor.from_text(after)
    subscriptions.keep(name, LEASE_SECONDS, what="program")
    if cursor is not None:
        feed.expect_kept(cursor)
    start = cursor or feed.now()
    until = None if seconds is None else time.monotonic() + seconds
    pause = pause or threading.Event().wait

    def events() -> Generator[Event]:
        cursor, renew_at = start, time.monotonic() + RENEW_SECONDS
        try:
            while until is None or time.monotonic() < until:
                if time.monotonic() >= renew_at:
                    subscriptions.keep(name, LEASE_SECONDS, what="program")
                    renew_at = time.monotonic() + RENEW_SECONDS
                batch = feed.read(cursor)
                cursor = batch.cursor
                yield from _chosen(database, wanted, batch.events)
                if batch.is_last and pause(PAUSE_SECONDS):
                    return
        finally:
            with suppress(UnavailableError):
                subscriptions.end(name)

    return events()


def _chosen(database: Database, wanted: EventFilter, events: list[Event]) -> list[Event]:
    chosen = [event for event in events if wanted.chooses(event)]
    if wanted.tag is None or not chosen:
        return chosen
    with database.autocommit() as connection:
        tags = event_rows.tags_of(connection, {event.job_id for event in chosen if event.job_id})
    return [event for event in chosen if wanted.tag in tags.get(event.job_id or 0, ())]
