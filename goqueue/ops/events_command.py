"""`goqueue events`: what changes, a line each, as it happens."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC

import orjson

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.events.event import Event
from goqueue.events.event_filter import EventFilter, kinds_of
from goqueue.events.listening import listen
from goqueue.observability.printable import printable

__all__ = ["lines"]


def lines(settings: Settings, options: argparse.Namespace) -> Iterator[str]:
    """Yield a line for each event, until somebody ends it, or the time that was asked for is over.

    Raises:
        InvalidJobError: there are no events of a kind that was asked for.
        EventCursorError: it was to begin behind what is no event.
        EventsGoneError: events behind that are not kept any more.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    wanted = EventFilter(
        kinds=kinds_of(options.event or ()),
        queue=options.queue,
        type=options.type,
        job_id=options.job,
        tag=options.tag,
    )
    with closing(Database(settings, application_name="goqueue-events")) as database:
        events = listen(database, wanted, after=options.after, seconds=options.seconds)
        for event in events:
            yield _as_json(event) if options.json else printable(_line(event))


def _as_json(event: Event) -> str:
    return orjson.dumps(event, option=orjson.OPT_UTC_Z).decode()


def _line(event: Event) -> str:
    at = event.at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    about = [
        f"job {event.job_id}" if event.job_id else "",
        f"queue {event.queue}" if event.queue else "",
        f"type {event.type}" if event.type else "",
    ]
    told = {name: value for name, value in event.data.items() if value is not None}
    return "  ".join(filter(None, [at, event.kind, *about, orjson.dumps(told).decode()]))
