"""The hub: reads events once for all who listen to this process, and hands each what it wants."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from goqueue.db.database import Database
from goqueue.errors import EventsGoneError
from goqueue.events import event_rows
from goqueue.events.cursor import Cursor
from goqueue.events.event import Event
from goqueue.events.event_filter import EventFilter, FilterIndex
from goqueue.events.feed import EventFeed
from goqueue.events.looking import Looking
from goqueue.events.subscriptions import Subscriptions

__all__ = ["EventHub", "Listener", "Sink"]

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 0.05

#: While somebody has some way to go.
LATE_PAUSE_SECONDS = 0.005

#: A listener that hears nothing else hears that, so that no proxy takes the connection for dead; and it
#: learns where it is, so that it need not begin at its last event when it comes back.
SILENCE_SECONDS = 15.0

#: The lease of the process, and how often it is renewed.
LEASE_SECONDS, RENEW_SECONDS = 60.0, 15.0

#: How often it is asked whether the keys of the listeners are still good.
ASK_SECONDS = 1.0

PAGE = 1_000

#: The pages of one look: those of the present, and those of listeners that still have some way to go.
PAGES, CATCH_UP_PAGES = 10, 20

#: One that has so much to take yet is given no more of what is past.
AHEAD_BYTES = 256 * 1024

#: Who sends to many pauses between so many of them: the requests of the process come in between.
SLICE, SLICE_PAUSE_SECONDS = 25, 0.002


class Sink(Protocol):
    """Takes what a listener is sent. Its methods may be called from any thread, and do not block."""

    @property
    def waiting_bytes(self) -> int:
        """The bytes that were not taken yet."""

    def send(self, data: bytes) -> None:
        """Send some bytes, behind those before."""

    def end(self) -> None:
        """End it: nothing more is sent."""


@dataclass(eq=False, slots=True)
class Listener:
    """One who listens to events.

    Attributes:
        wanted: what it wants to hear.
        cursor: where it stands; it goes on behind.
        sink: where it is sent to.
        key: whose key it listens with; None: with none.
    """

    wanted: EventFilter
    cursor: Cursor
    sink: Sink
    key: Hashable = None
    heard_at: float = field(default_factory=time.monotonic)


class EventHub(Looking):
    """Hands events to listeners, from a thread that reads them about every 50 ms while there is one.

    Args:
        database: whose events.
        encode: writes an event as it is sent; the same bytes go to everybody.
        idle: writes what is sent to one who has heard nothing for a while, with the cursor of that moment.
        is_good: tells whether a key is still good; its listeners are ended otherwise.
    """

    def __init__(
        self,
        database: Database,
        *,
        encode: Callable[[Event], bytes],
        idle: Callable[[Cursor], bytes],
        is_good: Callable[[Hashable], bool] = bool,
    ) -> None:
        super().__init__("events", PAUSE_SECONDS)
        self._database = database
        self._feed = EventFeed(database)
        self._subscriptions = Subscriptions(database)
        self._subscription = f"api {socket.gethostname()} {os.getpid()} {id(self):x}"
        self._encode, self._idle, self._is_good = encode, idle, is_good
        self._preparing = threading.Lock()
        self._renew_at = self._ask_at = 0.0
        #: Where all stand who are up to date, and who they are, by what they want.
        self._live: Cursor | None = None
        self._groups: dict[EventFilter, set[Listener]] = {}
        #: Of these; None: they have changed since it was made.
        self._index: FilterIndex | None = None
        #: Those who are not.
        self._late: deque[Listener] = deque()

    def __len__(self) -> int:
        """How many listen."""
        with self._lock:
            return len(self._late) + sum(map(len, self._groups.values()))

    def begin(self, place: str | None) -> Cursor:
        """Have changes written down, and return where a listener begins: behind a place, or now.

        Raises:
            EventCursorError: that is no place.
            EventsGoneError: it is too long ago.
            DatabaseUnavailableError: PostgreSQL does not answer, or they cannot be written down now.
        """
        cursor = None if place is None else Cursor.from_text(place)
        with self._preparing:
            if time.monotonic() >= self._renew_at:
                self._renew()
        if cursor is None:
            return self._feed.now()
        self._feed.expect_kept(cursor)
        return cursor

    def add(self, listener: Listener) -> Callable[[], None]:
        """Let one listen from its cursor on; return what ends that, which does not block."""
        with self._lock:
            self._late.append(listener)
            if not self._looks:
                self._live = None
            self._begin()

        def remove() -> None:
            with self._lock:
                self._remove(listener)

        return remove

    def _remove(self, listener: Listener) -> None:
        group = self._groups.get(listener.wanted, set())
        group.discard(listener)
        if not group and self._groups.pop(listener.wanted, None) is not None:
            self._index = None
        if listener in self._late:
            self._late.remove(listener)

    def _is_awaited(self) -> bool:
        return bool(self._late or self._groups)

    def _pause(self) -> float:
        return LATE_PAUSE_SECONDS if self._late else PAUSE_SECONDS

    def _renew(self) -> None:
        now = time.monotonic()
        self._subscriptions.keep(self._subscription, LEASE_SECONDS, what="streams")
        self._renew_at = now + RENEW_SECONDS

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            with self._preparing:
                self._renew()
        if now >= self._ask_at:
            self._ask_at = now + ASK_SECONDS
            self._end_revoked()
        # Before the present is read: so it is later than any place at which one of them stands.
        with self._lock:
            late = list(itertools.islice(self._late, CATCH_UP_PAGES))
            self._late.rotate(-len(late))
        try:
            self._tell_news()
        except EventsGoneError:
            # An outage that took longer than events are kept, or a server that lost some of them.
            log.warning("events_gone", listeners=len(self))
            self.end_all()
            return
        self._tell_the_past(late)
        self._tell_silent(now)

    def _tell_news(self) -> None:
        """Read what has happened since the last look, and send it to all who are up to date."""
        if self._live is None:
            self._live = self._feed.now()
            return
        for _ in range(PAGES):
            batch = self._feed.read(self._live, PAGE)
            self._live = batch.cursor
            if batch.events:
                self._send_live(batch.events)
            if batch.is_last:
                return

    def _tell_the_past(self, late: Sequence[Listener]) -> None:
        """Take those who are late a page further; who has read up to the present is up to date."""
        live = self._live
        # In the middle of a batch nobody can join those who are.
        if live is None or live.until is not None:
            return
        for listener in late:
            if listener.sink.waiting_bytes <= AHEAD_BYTES:
                self._take_further(listener, live)

    def _take_further(self, listener: Listener, live: Cursor) -> None:
        if listener.cursor != live:
            try:
                batch = self._feed.read(listener.cursor, PAGE, until=live.seen)
            except EventsGoneError:
                with self._lock:
                    self._remove(listener)
                listener.sink.end()
                return
            listener.cursor = batch.cursor
            chosen = FilterIndex([listener.wanted]).choose(batch.events)
            self._send(self._of_tags(chosen), {listener.wanted: [listener]})
        if listener.cursor == live:
            with self._lock:
                if listener in self._late:
                    self._late.remove(listener)
                    self._groups.setdefault(listener.wanted, set()).add(listener)
                    self._index = None

    def _send_live(self, events: Sequence[Event]) -> None:
        with self._lock:
            index = self._index = self._index or FilterIndex(self._groups)
        chosen = self._of_tags(index.choose(events))
        with self._lock:
            groups = {wanted: list(self._groups.get(wanted, ())) for wanted in chosen}
        self._send(chosen, groups)

    def _send(
        self, chosen: dict[EventFilter, list[Event]], groups: dict[EventFilter, list[Listener]]
    ) -> None:
        encoded = {id(event): self._encode(event) for found in chosen.values() for event in found}
        sends = [
            (listener, data)
            for wanted, found in chosen.items()
            for data in [b"".join([encoded[id(event)] for event in found])]
            for listener in groups[wanted]
        ]
        self._send_all(sends)

    def _of_tags(self, chosen: dict[EventFilter, list[Event]]) -> dict[EventFilter, list[Event]]:
        """Leave out the events of jobs that have not the tag that is wanted; asked only where one is."""
        job_ids = {
            event.job_id
            for wanted, found in chosen.items()
            if wanted.tag is not None
            for event in found
            if event.job_id is not None
        }
        if not job_ids:
            return chosen
        with self._database.autocommit() as connection:
            tags = event_rows.tags_of(connection, job_ids)
        return {
            wanted: [
                event
                for event in found
                if wanted.tag is None or wanted.tag in tags.get(event.job_id or 0, ())
            ]
            for wanted, found in chosen.items()
        }

    def _tell_silent(self, now: float) -> None:
        live = self._live
        if live is None or live.until is not None:
            return
        with self._lock:
            silent = [
                listener
                for listener in itertools.chain.from_iterable(self._groups.values())
                if now - listener.heard_at >= SILENCE_SECONDS
            ]
        if silent:
            data = self._idle(live)
            self._send_all((listener, data) for listener in silent)

    def _end_revoked(self) -> None:
        """End those whose key is not good any more: it is asked once for each key."""
        with self._lock:
            listeners = [*self._late, *itertools.chain.from_iterable(self._groups.values())]
        keys = {listener.key for listener in listeners if listener.key is not None}
        bad = {key for key in keys if not self._is_good(key)}
        for listener in listeners:
            if listener.key in bad:
                with self._lock:
                    self._remove(listener)
                listener.sink.end()

    def end_all(self) -> None:
        """End every listener; its client may come back, and is told whether it has missed anything."""
        with self._lock:
            listeners = [*self._late, *itertools.chain.from_iterable(self._groups.values())]
            self._late.clear()
            self._groups.clear()
            self._index = None
            self._live = None
        for listener in listeners:
            listener.sink.end()

    def _send_all(self, sends: Iterable[tuple[Listener, bytes]]) -> None:
        for count, (listener, data) in enumerate(sends, start=1):
            listener.sink.send(data)
            listener.heard_at = time.monotonic()
            if count % SLICE == 0:
                self._rest(SLICE_PAUSE_SECONDS)
