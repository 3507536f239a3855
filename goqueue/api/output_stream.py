"""GET /jobs/{id}/stream: what a job streams while it runs, and afterwards, as Server-Sent Events."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import falcon
import orjson
from pydantic import Field

from goqueue.api.event_stream import KeptKeys, open_stream
from goqueue.api.frame.answers import CONTENTS, Document
from goqueue.api.frame.held_requests import AnswerStream
from goqueue.api.frame.security import principal_of
from goqueue.engine import output_rows
from goqueue.engine.output_rows import OutputChunk, Place
from goqueue.engine.reports import MAX_INTEGER
from goqueue.errors import EventCursorError, JobNotFoundError
from goqueue.events.output_hub import OutputHub, Reader
from goqueue.instance import GoQueue

__all__ = ["OutputDocument", "OutputResource"]

_PLACE = re.compile(r"(\d{1,10})\.(\d{1,10})")

#: The id of the last event of a stream: who comes back with it is told that there is no more.
END = "end"


class OutputDocument(Document):
    """What the `data` of an event of the type `chunk` is."""

    fence: Annotated[
        int, Field(description="Which attempt, as in GET /jobs/{id}/attempts; each begins its output anew.")
    ]
    chunk: Annotated[int, Field(description="Its number, from 1.")]
    text: Annotated[
        str | None, CONTENTS, Field(description="Null: what the attempt said behind it was not kept.")
    ]


class OutputResource:
    """The output of a job.

    Args:
        goqueue: whose job.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
        self._keys = KeptKeys(goqueue)
        self._hub = OutputHub(
            goqueue.database, chunk=_chunk, end=_end, silence=b": no news\n\n", is_good=self._keys.is_good
        )

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Open a stream of what the job has streamed and streams, from its beginning or behind a place."""
        last = request.get_header("Last-Event-ID")
        if last == END:
            # So a browser is told not to come back.
            response.status = falcon.HTTP_204
            return
        place = (0, 0) if last is None else _place(last)
        with self._goqueue.database.autocommit() as connection:
            if not output_rows.exists(connection, job_id):
                raise JobNotFoundError(job_id)
        key = self._keys.of(principal_of(request))

        def listen(stream: AnswerStream) -> Callable[[], None]:
            return self._hub.add(Reader(job_id, place, stream, key))

        open_stream(request, response, listen)


def _place(text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None or max(map(int, match.groups())) > MAX_INTEGER:
        raise EventCursorError
    return int(match[1]), int(match[2])


def _chunk(chunk: OutputChunk) -> bytes:
    data = orjson.dumps({"fence": chunk.fence, "chunk": chunk.chunk, "text": chunk.text})
    return b"id: %d.%d\nevent: chunk\ndata: %b\n\n" % (chunk.fence, chunk.chunk, data)


def _end(status: str | None) -> bytes:
    return b"id: %b\nevent: end\ndata: %b\n\n" % (END.encode(), orjson.dumps({"status": status}))
