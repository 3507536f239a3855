"""A small threaded HTTP/1.1 server on 127.0.0.1 whose answers a subclass decides."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """What to answer, and how badly.

    Attributes:
        delay_seconds: wait this long before the first byte.
        drip_seconds: wait this long before every single byte, those of the headers too.
        lost: close the connection instead of answering.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    lost: bool = False


class HttpServer:
    """Serves `answer()` on its own threads from `start()` to `stop()`; also a context manager.

    After `stop()` no thread and no socket is left, even if clients keep connections or answers are slow.

    Attributes:
        connections: how many connections were accepted.
        lock: holds the counts still; for subclasses.
        stopping: set while the server stops; for subclasses.

    Args:
        port: 0 takes a free one.
        tls: makes it an https server.
    """

    def __init__(self, port: int = 0, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.connections = 0
        self._host = host
        self._port = port
        self._tls = tls
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """The answer to one request; called on many threads at once."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port that is served: the same after a stop and a start."""
        return self._port

    @property
    def url(self) -> str:
        """The root of the server, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    def start(self) -> Self:
        """Bind and serve; returns when connections are accepted.

        Raises:
            OSError: the port is taken.
        """
        self.stopping.clear()
        self._server = _Server((self._host, self._port), self, self._tls)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=type(self).__name__
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """End every connection and every thread, and free the port. A second call does nothing."""
        if self._server is None or self._thread is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # server_close() joins them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: HttpServer, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self._tls = tls
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own also asks DNS for the name of the machine, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls:
            # The handshake happens at the first read, in the handler's thread, and not in the accepting one.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self.owner.lock:
            self.owner.connections += 1
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self.owner.lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Wake every thread that reads from a client: its read ends as at the end of the stream."""
        with self.owner.lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of a counterpart break connections on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        owner = self.server.owner
        answer = owner.answer(self._request())
        if owner.stopping.wait(answer.delay_seconds) or answer.lost:
            self.close_connection = True
            return
        self._send(answer)

    do_PUT = do_PATCH = do_GET = do_POST  # noqa: N815  (the names that http.server looks for)

    def _request(self) -> FakeRequest:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return FakeRequest(self.command, self.path, headers, body)

    def _send(self, answer: FakeAnswer) -> None:
        headers = {
            "Date": self.date_time_string(),
            "Content-Type": "application/json",
            **answer.headers,
            "Content-Length": str(len(answer.body)),
        }
        lines = [
            f"HTTP/1.1 {answer.status} -",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        self._write("\r\n".join(lines).encode() + answer.body, answer.drip_seconds)

    def _write(self, message: bytes, drip_seconds: float) -> None:
        if not drip_seconds:
            self.wfile.write(message)
            return
        for byte in message:
            if self.server.owner.stopping.wait(drip_seconds):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (named so by http.server)
        """Log nothing."""
