"""The requests that wait and the streams that the server keeps: when they run again, and what they send."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import structlog

from goqueue.api.frame.held_requests import AnswerStream, HeldRequest, Watch

if TYPE_CHECKING:
    from goqueue.api.server.connection import Connection
    from goqueue.api.server.loop import ConnectionLoop

__all__ = ["KeptRequest", "KeptStream"]

log = structlog.get_logger(__name__)


class KeptRequest(HeldRequest):
    """One request of a connection, through all the times that it runs.

    Attributes:
        until: when it runs for the last time, by the monotonic clock; None: it has not waited.
        watch: the way to wake it, where this run asked to be kept.
        opened: is called with its stream, where this run asked for one.

    Args:
        may_keep: whether the server can keep one more.
    """

    def __init__(self, may_keep: Callable[[], bool]) -> None:
        super().__init__()
        self._may_keep = may_keep
        self.until: float | None = None
        self.watch: Watch | None = None
        self.opened: Callable[[AnswerStream], object] | None = None

    def begin_run(self) -> None:
        """Forget what the run before has asked for."""
        self.is_kept = False
        self.watch = self.opened = None

    def wait(self, seconds: float, watch: Watch) -> bool:
        """Keep the request until it is woken, as `HeldRequest.wait` says."""
        now = time.monotonic()
        until = now + seconds if self.until is None else self.until
        if now >= until or not self._may_keep():
            return False
        self.until, self.watch, self.is_kept = until, watch, True
        return True

    def stream(self, opened: Callable[[AnswerStream], object]) -> bool:
        """Let the answer be a stream, as `HeldRequest.stream` says."""
        if not self._may_keep():
            return False
        self.opened = opened
        return True


class KeptStream:
    """The stream of one connection. What any thread asks for is done by the loop, in that order.

    Args:
        is_chunked: each piece goes out as a chunk (RFC 9112, 7.1); else the end of the connection is its end.
    """

    def __init__(self, loop: ConnectionLoop, connection: Connection, *, is_chunked: bool) -> None:
        self._loop = loop
        self._connection = connection
        self._is_chunked = is_chunked
        self._is_closed = False
        self._closed: list[Callable[[], object]] = []

    @property
    def waiting_bytes(self) -> int:
        """The bytes that the client has not taken yet."""
        return len(self._connection.outgoing)

    def send(self, data: bytes) -> None:
        """Send a piece of the body; an empty one would be its end, and is left out."""
        if data and not self._is_closed:
            piece = b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
            self._loop.defer(partial(self._loop.stream_on, self._connection, piece))

    def end(self) -> None:
        """End the answer in order, after what was sent."""
        if not self._is_closed:
            last = b"0\r\n\r\n" if self._is_chunked else b""
            self._loop.defer(partial(self._loop.end_stream, self._connection, last))

    def on_close(self, closed: Callable[[], object]) -> None:
        """Let something be called on the loop's thread when the stream is over."""
        self._loop.defer(partial(self._add, closed))

    def closed(self) -> None:
        """Tell everybody that the stream is over; the loop calls it once, when it closes the connection."""
        self._is_closed = True
        for closed in self._closed:
            _call(closed)
        self._closed.clear()

    def _add(self, closed: Callable[[], object]) -> None:
        # On the loop's thread, as `closed` is: none is forgotten, and none called twice.
        if self._is_closed:
            _call(closed)
        else:
            self._closed.append(closed)


def _call(closed: Callable[[], object]) -> None:
    """Call what somebody left to be called; an error of it is theirs, and the loop goes on."""
    try:
        closed()
    except Exception:
        log.exception("request_failed_outside_the_application")
