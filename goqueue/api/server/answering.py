"""The work of a thread on a whole request: the application's answer, as bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import structlog
from gunicorn.config import Config
from gunicorn.http import wsgi

from goqueue.api.frame.held_requests import HELD_REQUEST
from goqueue.api.server.connection import Connection
from goqueue.api.server.held import KeptRequest
from goqueue.api.server.refusals import RefusedRequestError, as_answer

log = structlog.get_logger(__name__)

Application = Callable[[Any, Any], Iterable[bytes]]


class _Outgoing:
    """Stands for the socket: gunicorn's response writes to it, and it keeps everything."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


class RequestAnswer(NamedTuple):
    """The answer to a request, or its beginning.

    Attributes:
        data: the bytes to send; those of a stream are its head, and of a request that is kept there are none.
        stays: another request may follow on this connection.
        is_chunked: the body of a stream goes out in chunks.
    """

    data: bytes
    stays: bool = False
    is_chunked: bool = False


def answer(
    application: Application, connection: Connection, config: Config, kept: KeptRequest, *, may_stay: bool
) -> RequestAnswer:
    """Run the application for a request; `kept` tells afterwards whether it waits, or is a stream."""
    kept.begin_run()
    try:
        return _answer(application, connection, config, kept, may_stay=may_stay)
    except BaseException:
        log.exception("request_failed_outside_the_application")
        kept.begin_run()
        return RequestAnswer(as_answer(RefusedRequestError(500, "something went wrong on our side")))


def _answer(
    application: Application, connection: Connection, config: Config, kept: KeptRequest, *, may_stay: bool
) -> RequestAnswer:
    outgoing: Any = _Outgoing()
    response, environ = wsgi.create(connection.request, outgoing, connection.peer, connection.server, config)
    environ["wsgi.multithread"] = True
    environ[HELD_REQUEST] = kept
    if not may_stay or not connection.is_whole:
        response.force_close()
    items = application(environ, response.start_response)
    try:
        if kept.watch is not None:
            return RequestAnswer(b"")
        if kept.opened is not None and connection.request.method != "HEAD":
            _begin_stream(response)
            return RequestAnswer(b"".join(outgoing.parts), is_chunked=response.chunked)
        kept.opened = None
        for item in items:
            response.write(item)
        response.close()
    finally:
        with contextlib.suppress(AttributeError):
            items.close()  # type: ignore[attr-defined]
    return RequestAnswer(b"".join(outgoing.parts), stays=not response.should_close())


def _begin_stream(response: wsgi.Response) -> None:
    """Send the head of an answer whose body comes later, without the length 0 that it was given."""
    response.headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
    response.response_length = None
    response.chunked = response.is_chunked()
    response.force_close()
    response.send_headers()
