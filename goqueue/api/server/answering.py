"""The work of a thread on a whole request: the application's answer, as bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from gunicorn.config import Config
from gunicorn.http import wsgi

from goqueue.api.server.connection import Connection
from goqueue.api.server.refusals import RefusedRequestError, as_answer

log = structlog.get_logger(__name__)

Application = Callable[[Any, Any], Iterable[bytes]]


class _Outgoing:
    """Stands for the socket: gunicorn's response writes to it, and it keeps everything."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


def answer(
    application: Application, connection: Connection, config: Config, *, may_stay: bool
) -> tuple[bytes, bool]:
    """The bytes of the answer, and whether another request may follow on this connection."""
    try:
        return _answer(application, connection, config, may_stay=may_stay)
    except BaseException:
        log.exception("request_failed_outside_the_application")
        refusal = RefusedRequestError(500, "something went wrong on our side")
        return as_answer(refusal), False


def _answer(
    application: Application, connection: Connection, config: Config, *, may_stay: bool
) -> tuple[bytes, bool]:
    outgoing: Any = _Outgoing()
    response, environ = wsgi.create(connection.request, outgoing, connection.peer, connection.server, config)
    environ["wsgi.multithread"] = True
    if not may_stay or not connection.is_whole:
        response.force_close()
    items = application(environ, response.start_response)
    try:
        for item in items:
            response.write(item)
        response.close()
    finally:
        with contextlib.suppress(AttributeError):
            items.close()  # type: ignore[attr-defined]
    return b"".join(outgoing.parts), not response.should_close()
