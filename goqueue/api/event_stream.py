"""GET /events: what changes, as Server-Sent Events."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Annotated, Any

import falcon
import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from goqueue.access.principal import Principal
from goqueue.api.frame.answers import Document
from goqueue.api.frame.held_requests import AnswerStream, held_request
from goqueue.api.frame.security import principal_of
from goqueue.engine.options.request_models import Name, Tag, validate
from goqueue.errors import GoQueueError
from goqueue.events.cursor import TEXT_MAX, Cursor
from goqueue.events.event import Event
from goqueue.events.event_filter import EventFilter, kinds_of
from goqueue.events.hub import EventHub, Listener
from goqueue.instance import GoQueue
from goqueue.jobs import MAX_JOB_ID

__all__ = ["EVENT_STREAM", "EventDocument", "EventsQuery", "EventsResource", "KeptKeys", "open_stream"]

EVENT_STREAM = "text/event-stream"

#: The first bytes of a stream: how soon a client comes back after a cut, and that it has begun.
OPENING = b"retry: 1000\n: listening\n\n"


def _listed(value: Any) -> Any:
    """Several values of a query are a list, and so is a single one."""
    return [value] if isinstance(value, str) else value


class EventsQuery(BaseModel):
    """The query of GET /events."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    event: Annotated[
        list[Name],
        BeforeValidator(_listed),
        Field(
            max_length=50,
            description="Only these kinds: job.completed; `job.*` are all of jobs. Default: all.",
        ),
    ] = []
    queue: Annotated[Name | None, Field(description="Only of this queue, and of jobs of it.")] = None
    type: Annotated[Name | None, Field(description="Only of this type, and of jobs of it.")] = None
    job_id: Annotated[int | None, Field(ge=1, le=MAX_JOB_ID, description="Only of this job.")] = None
    tag: Annotated[Tag | None, Field(description="Only of jobs that have this tag.")] = None
    after: Annotated[
        str | None,
        Field(max_length=TEXT_MAX, description="The id of an event: begin behind it, as with Last-Event-ID."),
    ] = None

    def filter(self, principal: Principal) -> EventFilter:
        """Make the filter, of what exists for whoever asks.

        Raises:
            InvalidJobError: there are no events of that kind.
        """
        return EventFilter(
            kinds=kinds_of(self.event),
            queue=self.queue,
            type=self.type,
            job_id=self.job_id,
            tag=self.tag,
            queues=principal.queues,
            types=principal.types,
        )


class EventDocument(Document):
    """What the `data` of an event is."""

    event: Annotated[str, Field(description="The kind, which is the type of the event as well.")]
    at: Annotated[datetime, Field(description="When it was written; its commit came after.")]
    job_id: int | None
    queue: str | None
    type: str | None
    data: Annotated[dict[str, Any], Field(description="The rest; never anything that a job holds.")]


class KeptKeys:
    """The keys of open streams, which are asked again and again whether they are still good.

    Args:
        goqueue: whose keys.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._ring = goqueue.key_ring

    def of(self, principal: Principal) -> Hashable:
        """Return what is kept of the key of a request; None: it came without one."""
        return (principal.key_hash, principal.key_id) if principal.key_hash else None

    def is_good(self, key: Hashable) -> bool:
        """Tell whether a key that was kept is still good; where nobody knows at the moment, it is."""
        assert isinstance(key, tuple)
        try:
            return self._ring.of_session(*key) is not None
        except GoQueueError:
            return True


class EventsResource:
    """The stream of events.

    Args:
        goqueue: whose events.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._keys = KeptKeys(goqueue)
        self._hub = EventHub(goqueue.database, encode=encoded, idle=_idle, is_good=self._keys.is_good)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Open a stream of events, from now on or behind the last one that the client has seen."""
        query = validate(EventsQuery, request.params, whole="query")
        principal = principal_of(request)
        wanted = query.filter(principal)
        cursor = self._hub.begin(request.get_header("Last-Event-ID") or query.after)
        key = self._keys.of(principal)

        def listen(stream: AnswerStream) -> Callable[[], None]:
            return self._hub.add(Listener(wanted, cursor, stream, key))

        open_stream(request, response, listen)


def open_stream(
    request: falcon.Request,
    response: falcon.Response,
    listen: Callable[[AnswerStream], Callable[[], None]],
) -> None:
    """Let the answer be a stream of Server-Sent Events.

    Args:
        request: is kept by the server.
        response: gets the headers.
        listen: is called with the stream, and returns what is called when it is over.

    Raises:
        falcon.HTTPServiceUnavailable: there are too many streams, or the server has none.
    """

    def opened(stream: AnswerStream) -> None:
        stream.send(OPENING)
        stream.on_close(listen(stream))

    response.content_type = EVENT_STREAM
    # For proxies that collect answers before they pass them on (nginx).
    response.set_header("X-Accel-Buffering", "no")
    if not held_request(request).stream(opened):
        raise falcon.HTTPServiceUnavailable(
            description="there are too many streams, or this server has none", retry_after=1
        )


def encoded(event: Event) -> bytes:
    """Write an event as it is sent."""
    document = {
        "event": event.kind,
        "at": event.at,
        "job_id": event.job_id,
        "queue": event.queue,
        "type": event.type,
        "data": event.data,
    }
    data = orjson.dumps(document, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), data)


def _idle(cursor: Cursor) -> bytes:
    """A comment, and where the client is: an id without data is kept by it, and is no event."""
    return b": no news\nid: %b\n\n" % cursor.text.encode()
