"""A load generator for one kind of request: kept-alive connections, one thread, no more Python than it takes.

Both sides of a comparison get the same one, so that its own cost (on the machine that it loads) is the same.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass
from typing import Self

TIMEOUT_SECONDS = 30.0


def request(path: str, body: bytes) -> bytes:
    """The bytes of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    received: bytes = b""
    sent: float = 0.0

    def send(self, message: bytes) -> None:
        self.sent = time.perf_counter()
        self.socket.sendall(message)


def post_once(port: int, message: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    with Client(port) as client:
        return client.post(message)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, message: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its answer.

        Raises:
            ConnectionError: the server closed the connection.
        """
        self._socket.sendall(message)
        received = b""
        while (end := answer_length(received)) is None or len(received) < end:
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionError("the server closed the connection")
            received += part
        return status_of(received), received.partition(b"\r\n\r\n")[2]


def load(port: int, message: bytes, *, connections: int, requests: int) -> float:
    """Send so many requests over so many connections, each as soon as its last was answered; requests/s.

    Raises:
        RuntimeError: an answer was not a success.
        ConnectionError: the server closed a connection.
    """
    started = time.perf_counter()
    load_seconds(port, message, connections=connections, requests=requests)
    return requests / (time.perf_counter() - started)


def load_seconds(port: int, message: bytes, *, connections: int, requests: int) -> list[float]:
    """Do the same, and return how long each answer took. Raises as `load`."""
    selector = _opened(port, connections)
    for key in list(selector.get_map().values()):
        key.data.send(message)
    sent = connections
    seconds: list[float] = []
    while len(seconds) < requests:
        ready = selector.select(TIMEOUT_SECONDS)
        if not ready:
            raise ConnectionError("no answer in time")
        for key, _ in ready:
            if not _is_answered(key.data):
                continue
            seconds.append(time.perf_counter() - key.data.sent)
            if sent < requests:
                key.data.send(message)
                sent += 1
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return seconds


def _opened(port: int, connections: int) -> selectors.BaseSelector:
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        opened = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(opened, selectors.EVENT_READ, _Connection(opened))
    return selector


def _is_answered(connection: _Connection) -> bool:
    part = connection.socket.recv(65536)
    if not part:
        raise ConnectionError("the server closed the connection")
    connection.received += part
    end = answer_length(connection.received)
    if end is None or len(connection.received) < end:
        return False
    status = status_of(connection.received)
    if not 200 <= status < 300:
        raise RuntimeError(f"answered {status}: {connection.received[:500]!r}")
    connection.received = connection.received[end:]
    return True


def answer_length(received: bytes) -> int | None:
    """How many bytes the answer at the start of `received` has; None while its head is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    for line in received[:end].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return end + 4 + int(line.partition(b":")[2])
    return end + 4


def status_of(received: bytes) -> int:
    """The status of an answer."""
    return int(received.split(b" ", 2)[1])
