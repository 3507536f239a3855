"""One client's connection: what has come of its request, where it is, and until when it may take."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from gunicorn.config import Config
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request, _ip_in_allow_list  # type: ignore[attr-defined]  # no public name
from gunicorn.http.unreader import Unreader

from goqueue.api.server.chunked import ChunkedBody
from goqueue.api.server.held import KeptRequest, KeptStream
from goqueue.api.server.refusals import RefusedRequestError, refusal_of

HEAD_MAX_BYTES = 32 * 1024
#: A body of this size is read, whoever sends it.
SMALL_BODY_BYTES = 16 * 1024
#: Who sends or takes as much in a second may take its time.
MIN_BYTES_A_SECOND = 16 * 1024

_HEAD_END = b"\r\n\r\n"

#: How large the body of a request may be: of method, path, and the value of Authorization.
BodyLimit = Callable[[str, str, str], int]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of connections: how much they may hold, and how long they may take.

    Attributes:
        head_seconds: until the header of a request has come.
        body_seconds, write_seconds: until a body has come, an answer has gone; 16 KiB buy a second more.
        idle_seconds: between two requests of a connection.
        connections: open at once.
        buffered_bytes: of requests that come in and answers that go out, together.
        kept: requests that wait and answers that are streams, at once.
    """

    head_seconds: float
    body_seconds: float
    write_seconds: float
    idle_seconds: float
    connections: int
    buffered_bytes: int
    kept: int


class Stage(Enum):
    """The stage of a connection, by who has it."""

    READING = auto()
    """The client: a request is on its way, or none has begun."""
    ANSWERING = auto()
    """A thread: the request is whole."""
    HELD = auto()
    """Nobody: the request waits for something, and runs again then."""
    STREAMING = auto()
    """Whoever has the stream of its answer; the client listens."""
    WRITING = auto()
    """The client again: it has not taken all of the answer."""
    CLOSING = auto()
    """The last answer is sent; what still comes is thrown away, so that the answer is not."""
    CLOSED = auto()


@dataclass(slots=True, eq=False)
class Connection:
    """A connection of a client, from its first byte to its close.

    Threads touch it only while it is ANSWERING, and leave that stage as the last thing they do.

    Attributes:
        peer, server: the addresses of both ends.
        deadline: when the stage ends at the latest, by the monotonic clock.
        since: since when we wait for the client.
        received: what came and belongs to no request yet.
        request: the header of the present request, once it has come.
        outgoing: what is left of the answer.
        is_at_end: the client sends nothing more.
        is_whole: the present request was read to its end.
        stays: another request may follow the present one.
        events: what the loop watches it for.
        kept: what the present request asks for that waits.
        stream: the stream of its answer, where it is one.
        let_go: is called once when the request no longer waits, or its stream is over.
        waits: how often a request of this connection was kept.
    """

    socket: socket.socket
    peer: Any
    server: Any
    config: Config
    limits: Limits
    body_limit: BodyLimit
    deadline: float
    since: float
    stage: Stage = Stage.READING
    received: bytearray = field(default_factory=bytearray)
    request: Any = None
    outgoing: memoryview = field(default_factory=lambda: memoryview(b""))
    is_at_end: bool = False
    is_whole: bool = False
    stays: bool = False
    events: int = 0
    kept: KeptRequest | None = None
    stream: KeptStream | None = None
    let_go: Callable[[], object] | None = None
    waits: int = 0
    _searched: int = 0
    _number: int = 0
    _has_begun: bool = False
    _wants_continue: bool = False
    _length: int = 0
    _answered_bytes: int = 0
    _limit: int | None = None
    _chunked: ChunkedBody | None = None

    @property
    def size(self) -> int:
        """The bytes that are held for it."""
        chunked = self._chunked
        decoded = len(chunked.decoded) if chunked is not None else 0
        return len(self.received) + decoded + self._answered_bytes + len(self.outgoing)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing of a request has come."""
        return self.stage is Stage.READING and not self.received and self.request is None

    @property
    def waits_for_client(self) -> bool:
        """Tell whether the next step is the client's, and not ours."""
        if self.stage is Stage.STREAMING:
            return bool(self.outgoing)
        return self.stage not in {Stage.ANSWERING, Stage.HELD}

    def advance(self, now: float, came: int) -> bool:
        """Read on in what was received; whether a thread can answer now.

        That is so when the request is whole, or when it is clear that its body will not be accepted.

        Args:
            now: the monotonic clock.
            came: how many bytes are new.

        Raises:
            RefusedRequestError: no thread needs to see it.
        """
        if self.request is None:
            if not self._has_head(now):
                return False
            self._read_head(now)
        else:
            self.deadline += came / MIN_BYTES_A_SECOND
        return self._has_body()

    def takes_continue(self) -> bool:
        """Tell whether the client waits for leave to send its body, and take that as given."""
        wants, self._wants_continue = self._wants_continue, False
        return wants

    def run_again(self) -> None:
        """Let the request that waited be answered by a thread, from its start."""
        assert self.kept is not None
        self.kept.is_again = True
        self.request.body.seek(0)
        self.deadline = math.inf
        self.stage = Stage.ANSWERING

    def next_request(self, now: float) -> None:
        """Wait for the next request. The stage is left last: from then on the loop may read."""
        self.request = self.kept = None
        self._chunked = None
        self._limit = None
        self._has_begun = self.is_whole = False
        self._searched = self._length = self._answered_bytes = 0
        self.since = now
        self.deadline = now + self.limits.idle_seconds
        self.stage = Stage.READING

    def _has_head(self, now: float) -> bool:
        if not self._has_begun and self.received:
            self._has_begun = True
            self.since = now
            self.deadline = now + self.limits.head_seconds
        end = self.received.find(_HEAD_END, self._searched)
        self._searched = max(0, len(self.received) - len(_HEAD_END) + 1)
        if end >= 0:
            self._searched = end + len(_HEAD_END)
        if self._searched > HEAD_MAX_BYTES:
            # Which of its limits it breaks is known by the parser.
            self._parse(bytes(self.received[:HEAD_MAX_BYTES]))
            raise RefusedRequestError(431, f"expected a header of at most {HEAD_MAX_BYTES:,} bytes")
        return end >= 0

    def _read_head(self, now: float) -> None:
        head = bytes(self.received[: self._searched])
        del self.received[: self._searched]
        self._number += 1
        self.request = request = self._parse(head, whole=True)
        reader = request.body.reader
        if isinstance(reader, LengthReader):
            self._length = reader.length
        else:
            self._chunked = ChunkedBody()
        if self._chunked or self._length > SMALL_BODY_BYTES:
            self._limit = self.body_limit(request.method, request.path, _authorization(request))
        self._wants_continue = bool(request._expected_100_continue)  # noqa: SLF001  (no public name)
        request._expected_100_continue = False  # noqa: SLF001  (it is told by us, if at all)
        self.deadline = now + self.limits.body_seconds

    def _parse(self, head: bytes, *, whole: bool = False) -> Any:
        unreader = _Received()
        unreader.unread(head)
        try:
            return _Head(self.config, unreader, self.peer, self._number)
        except NoMoreData as error:
            if not whole:
                return None
            raise refusal_of(error) from None
        except (ParseException, StopIteration, ValueError) as error:
            raise refusal_of(error) from None

    def _has_body(self) -> bool:
        if self._chunked is not None:
            return self._has_chunks(self._chunked)
        if self._limit is not None and self._length > self._limit:
            return self._hand_over(b"")
        if len(self.received) < self._length:
            return False
        body = bytes(memoryview(self.received)[: self._length])
        del self.received[: self._length]
        self.is_whole = True
        return self._hand_over(body)

    def _has_chunks(self, chunked: ChunkedBody) -> bool:
        assert self._limit is not None
        is_end = chunked.take(self.received)
        if not is_end and len(chunked.decoded) <= self._limit:
            return False
        self.is_whole = is_end
        return self._hand_over(bytes(chunked.decoded))

    def _hand_over(self, body: bytes) -> bool:
        self.request.body = io.BytesIO(body)
        self._answered_bytes = len(body)
        self._chunked = None
        self._wants_continue = False
        self.deadline = math.inf
        self.stage = Stage.ANSWERING
        return True


class _Head(Request):
    """The header of a request; whether its sender may speak for others is looked up once an address."""

    def _peer_is_trusted_proxy(self) -> bool:
        return not isinstance(self.peer_addr, tuple) or _is_trusted(self.peer_addr[0], self.cfg)


class _Received(Unreader):
    """What has come, and nothing more."""

    def chunk(self, size_hint: int | None = None) -> bytes:  # noqa: ARG002  (gunicorn calls it so)
        return b""


@lru_cache(maxsize=1024)
def _is_trusted(address: str, config: Config) -> bool:
    return bool(_ip_in_allow_list(address, config.forwarded_allow_ips, config.forwarded_allow_networks()))


def _authorization(request: Any) -> str:
    values = (str(value) for name, value in request.headers if name == "AUTHORIZATION")
    return next(values, "")
