"""Clients that take their time: sockets on which a part of a request was sent, and no more."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

HALF_HEAD = b"POST /jobs/create HTTP/1.1\r\nHost: localhost\r\n"
HALF_BODY = HALF_HEAD + b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
HALF_CHUNK = HALF_HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1F4\r\n{"


@contextlib.contextmanager
def clients(port: int, message: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections that have sent a part of a request."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            with contextlib.suppress(OSError):  # it may have been let go
                client.sendall(message)
            opened.append(client)
        yield opened


def ask(
    port: int, method: str, path: str, document: Any = None, timeout: float = 10, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers in small letters, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        body = None if document is None else json.dumps(document)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Content-Type": "application/json"} | named)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, content


def raw(port: int, message: bytes, timeout: float = 30) -> bytes:
    """Send these bytes and return all that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(message)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                received += part
        return received
