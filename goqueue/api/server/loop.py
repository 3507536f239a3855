"""The loop that reads and writes for all connections of a process, so that no thread waits for a client."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE

import structlog
from gunicorn.config import Config

from goqueue.api.server.connection import (
    MIN_BYTES_A_SECOND,
    BodyLimit,
    Connection,
    Limits,
    Stage,
)
from goqueue.api.server.held import KeptStream
from goqueue.api.server.refusals import RefusedRequestError, as_answer

log = structlog.get_logger(__name__)

RECEIVE_BYTES = 64 * 1024
#: What of a stream may wait for its client.
STREAM_MAX_BYTES = 1024 * 1024
#: What a client may send ahead while its last request is answered; the rest waits in the kernel.
AHEAD_BYTES = 64 * 1024
EXPIRE_SECONDS = 0.5
CLOSE_SECONDS = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


# More methods than others have: the states of a connection, each with what leads out of it.
class ConnectionLoop:
    """Accepts, reads, writes and closes; what is whole goes to `answer`, which must not block.

    Only `defer` and `may_keep` may be called by another thread.

    Args:
        listeners: what clients connect to.
        answer: takes a connection that is ANSWERING.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        config: Config,
        limits: Limits,
        body_limit: BodyLimit,
        answer: Callable[[Connection], object],
    ) -> None:
        self._listeners = listeners
        self._limits = limits
        self._answer = answer
        self._make = partial(Connection, config=config, limits=limits, body_limit=body_limit)
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        #: Those whose request waits, or whose answer is a stream.
        self._kept: set[Connection] = set()
        self._is_open = True
        self._is_accepting = False
        self._buffered = 0
        self._looked_at = 0.0
        self._deferred: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._wakes, self._waker = os.pipe()
        for end in (self._wakes, self._waker):
            os.set_blocking(end, False)
        self._selector.register(self._wakes, EVENT_READ, self._run_deferred)

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def may_keep(self) -> bool:
        """Tell whether one more request may wait, or be answered by a stream. Any thread may ask."""
        return self._is_open and len(self._kept) < self._limits.kept

    def turn(self, timeout: float) -> None:
        """Do what is to be done, or wait for so long that there is something."""
        self._accept_or_not()
        if self._kept:
            timeout = min(timeout, EXPIRE_SECONDS)
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Connection):
                self._tend(key.data)
            else:
                key.data()
        now = time.monotonic()
        if now - self._looked_at > EXPIRE_SECONDS:
            self._looked_at = now
            self._expire(now)

    def defer(self, call: Callable[[], object]) -> None:
        """Let the loop do something, soon."""
        self._deferred.put(call)
        with contextlib.suppress(BlockingIOError):  # it is awake
            os.write(self._waker, b"\0")

    def write(self, connection: Connection) -> None:
        """Send what is left of an answer as fast as the client takes it."""
        now = time.monotonic()
        connection.since = now
        connection.deadline = now + self._limits.write_seconds
        connection.stage = Stage.WRITING
        self._watch(connection, EVENT_WRITE)

    def resume(self, connection: Connection) -> None:
        """Look at what came while a thread answered, unless that was seen already."""
        if connection.stage is Stage.READING:
            self._watch(connection, EVENT_READ)
            self._read_on(connection, 0)

    def end(self, connection: Connection) -> None:
        """Close after an answer; what the client still sends must not cost it the answer."""
        if connection.is_at_end or (connection.is_whole and not connection.received):
            self._close(connection)
            return
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.stage = Stage.CLOSING
        connection.received.clear()
        connection.deadline = time.monotonic() + CLOSE_SECONDS
        self._watch(connection, EVENT_READ)

    def hold(self, connection: Connection) -> None:
        """Keep a request until it is woken, its time is over, or its client has gone."""
        kept = connection.kept
        assert kept is not None
        assert kept.watch is not None
        assert kept.until is not None
        connection.stage = Stage.HELD
        connection.deadline = kept.until
        connection.waits += 1
        if connection.is_at_end:
            self._close(connection)
            return
        self._kept.add(connection)
        self._watch(connection, EVENT_READ)
        try:
            connection.let_go = kept.watch(
                partial(self.defer, partial(self._wake, connection, connection.waits))
            )
        except Exception:
            log.exception("request_failed_outside_the_application")
            self._close(connection)
            return
        if not self._is_open:
            self._run_again(connection)

    def stream(self, connection: Connection, stream: KeptStream, unsent: bytes) -> None:
        """Begin the stream of an answer whose head is sent but for this."""
        connection.stage = Stage.STREAMING
        connection.stream = stream
        connection.received.clear()
        connection.deadline = math.inf
        connection.let_go = stream.closed
        self._kept.add(connection)
        if connection.is_at_end:
            self._close(connection)
            return
        self._watch(connection, EVENT_READ)
        self.stream_on(connection, unsent)
        if not self._is_open:
            stream.end()

    def stream_on(self, connection: Connection, data: bytes) -> None:
        """Send a piece of a stream as fast as its client takes it; one that takes too little is cut off."""
        if connection.stage is not Stage.STREAMING or not data:
            return
        if not connection.outgoing:
            connection.deadline = time.monotonic() + self._limits.write_seconds
        connection.outgoing = memoryview(b"".join([connection.outgoing, data]))
        self._write_stream(connection)
        if len(connection.outgoing) > STREAM_MAX_BYTES:
            self._close(connection)

    def end_stream(self, connection: Connection, last: bytes) -> None:
        """End a stream in order: what its client has not taken still goes out."""
        self.stream_on(connection, last)
        if connection.stage is not Stage.STREAMING:
            return
        self._let_go(connection)
        connection.stays = False
        if connection.outgoing:
            self.write(connection)
        else:
            self.end(connection)

    def refuse_new(self, idle_seconds: float) -> None:
        """Accept no more connections, and keep idle ones for so long, for a request that is on its way.

        Requests that wait are answered with what there is, and streams end.
        """
        self._is_open = False
        self._accept_or_not()
        for connection in list(self._kept):
            if connection.stage is Stage.HELD:
                self._run_again(connection)
            elif connection.stream is not None:
                connection.stream.end()
        latest = time.monotonic() + idle_seconds
        for connection in self._connections:
            if connection.is_idle:
                connection.deadline = min(connection.deadline, latest)

    def close(self) -> None:
        """Close every connection and the loop's own files."""
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        os.close(self._wakes)
        os.close(self._waker)

    def _run_deferred(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakes, 4096)
        while True:
            try:
                call = self._deferred.get_nowait()
            except queue.Empty:
                return
            call()

    def _accept_or_not(self) -> None:
        has_room = len(self._connections) < self._limits.connections or any(self._waiting())
        wanted = self._is_open and has_room
        if wanted == self._is_accepting:
            return
        self._is_accepting = wanted
        for listener in self._listeners:
            if wanted:
                listener.settimeout(0)
                self._selector.register(listener, EVENT_READ, partial(self._accept, listener))
            else:
                self._selector.unregister(listener)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections:
            self._let_one_go("there are too many connections")
        try:
            client, peer = listener.accept()
        except OSError as error:
            if error.errno in _FULL:
                self._let_one_go("there are too many connections")
            return
        client.settimeout(0)
        now = time.monotonic()
        connection = self._make(
            client, peer, listener.getsockname(), since=now, deadline=now + self._limits.head_seconds
        )
        self._connections.add(connection)
        self._watch(connection, EVENT_READ)

    def _tend(self, connection: Connection) -> None:
        if connection.stage is Stage.WRITING:
            self._write_on(connection)
        elif connection.stage is Stage.CLOSING:
            self._throw_away(connection)
        elif connection.stage is Stage.STREAMING:
            self._tend_stream(connection)
        elif connection.stage is not Stage.CLOSED:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            # Whoever sends no more may still read: a request that is whole is answered.
            connection.is_at_end = True
            self._watch(connection, 0)
            if connection.stage in {Stage.READING, Stage.HELD}:
                self._close(connection)
            return
        connection.received += data
        self._buffered += len(data)
        # A thread may leave ANSWERING at any moment; it looks at `received` afterwards, as we do here.
        if connection.stage is Stage.READING:
            self._read_on(connection, len(data))
        elif len(connection.received) > AHEAD_BYTES:
            self._watch(connection, 0)
        if self._buffered > self._limits.buffered_bytes:
            self._make_room()

    def _read_on(self, connection: Connection, came: int) -> None:
        try:
            is_ready = connection.advance(time.monotonic(), came)
        except RefusedRequestError as refusal:
            self._refuse(connection, refusal)
            return
        if is_ready:
            self._answer(connection)
        elif connection.is_at_end:
            self._close(connection)
        elif connection.takes_continue():
            with contextlib.suppress(OSError):
                connection.socket.send(_CONTINUE)

    def _write_on(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.outgoing)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(connection)
            return
        connection.outgoing = connection.outgoing[sent:]
        connection.deadline += sent / MIN_BYTES_A_SECOND
        if connection.outgoing:
            return
        connection.outgoing = memoryview(b"")
        if connection.stays and self._is_open:
            connection.next_request(time.monotonic())
            self.resume(connection)
        else:
            self.end(connection)

    def _tend_stream(self, connection: Connection) -> None:
        """Send what waits, and see whether the client has gone; what it says is of no interest."""
        self._write_stream(connection)
        try:
            if connection.stage is not Stage.STREAMING or connection.socket.recv(RECEIVE_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(connection)

    def _write_stream(self, connection: Connection) -> None:
        if connection.outgoing:
            try:
                sent = connection.socket.send(connection.outgoing)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._close(connection)
                return
            connection.outgoing = connection.outgoing[sent:]
            connection.deadline += sent / MIN_BYTES_A_SECOND
        if not connection.outgoing:
            connection.deadline = math.inf
        self._watch(connection, EVENT_READ | EVENT_WRITE if connection.outgoing else EVENT_READ)

    def _wake(self, connection: Connection, wait: int) -> None:
        """Run a request again, unless it was woken for this wait already."""
        if connection.stage is Stage.HELD and connection.waits == wait:
            self._run_again(connection)

    def _run_again(self, connection: Connection) -> None:
        self._let_go(connection)
        connection.run_again()
        self._answer(connection)

    def _let_go(self, connection: Connection) -> None:
        """Keep a connection no longer, and tell whoever has to know."""
        self._kept.discard(connection)
        let_go, connection.let_go = connection.let_go, None
        if let_go is None:
            return
        try:
            let_go()
        except Exception:
            log.exception("request_failed_outside_the_application")

    def _throw_away(self, connection: Connection) -> None:
        try:
            if connection.socket.recv(RECEIVE_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(connection)

    def _refuse(self, connection: Connection, refusal: RefusedRequestError) -> None:
        with contextlib.suppress(OSError):
            connection.socket.send(as_answer(refusal))
        connection.is_whole = False
        self.end(connection)

    def _expire(self, now: float) -> None:
        for connection in [found for found in self._connections if found.deadline < now]:
            if connection.stage is Stage.HELD:
                self._run_again(connection)
            elif connection.stage is Stage.READING and not connection.is_idle:
                self._refuse(connection, RefusedRequestError(408, "the request took too long to come"))
            else:
                self._close(connection)

    def _make_room(self) -> None:
        self._buffered = sum(connection.size for connection in self._connections)
        while self._buffered > self._limits.buffered_bytes:
            before = self._buffered
            self._let_one_go("too much is being sent at once", lambda found: found.size > 0)
            self._buffered = sum(connection.size for connection in self._connections)
            if self._buffered == before:
                return

    def _let_one_go(self, why: str, of: Callable[[Connection], bool] = lambda _: True) -> None:
        """Close the connection whose client has let us wait for the longest."""
        waiting = min(filter(of, self._waiting()), key=lambda found: found.since, default=None)
        if waiting is None:
            return
        if waiting.stage is Stage.READING and not waiting.is_idle:
            self._refuse(waiting, RefusedRequestError(503, why, retry_after_seconds=1))
        self._close(waiting)

    def _waiting(self) -> Iterator[Connection]:
        return (found for found in self._connections if found.waits_for_client)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.events == events or connection.stage is Stage.CLOSED:
            return
        if not events:
            self._selector.unregister(connection.socket)
        elif not connection.events:
            self._selector.register(connection.socket, events, connection)
        else:
            self._selector.modify(connection.socket, events, connection)
        connection.events = events

    def _close(self, connection: Connection) -> None:
        if connection.stage is Stage.CLOSED:
            return
        self._watch(connection, 0)
        connection.stage = Stage.CLOSED
        self._let_go(connection)
        connection.received = bytearray()
        connection.outgoing = memoryview(b"")
        connection.request = None
        connection.socket.close()
        self._connections.discard(connection)
