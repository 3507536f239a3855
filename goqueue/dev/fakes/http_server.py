"""A small threaded HTTP/1.1 server on 127.0.0.1 whose answers a subclass decides."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from goqueue.observability.http_service import HttpService, ThreadingHttpListener

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """An answer to give, and how badly to give it.

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


class HttpServer(HttpService):
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
        super().__init__(host, port)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.connections = 0
        self.tls = tls

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """The answer to one request; called on many threads at once."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The root of the server, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{self._host}:{self._port}"

    def _listen(self) -> ThreadingHttpListener:
        self.stopping.clear()
        return _Listener((self._host, self._port), self)

    def stop(self) -> None:
        """End every connection and every thread, and free the port. A second call does nothing."""
        self.stopping.set()
        super().stop()


class _Listener(ThreadingHttpListener):
    daemon_threads = False  # server_close() joins them

    def __init__(self, address: tuple[str, int], owner: HttpServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.owner.tls:
            # The handshake happens at the first read, in the handler's thread, and not in the accepting one.
            connection = self.owner.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self.owner.lock:
            self.owner.connections += 1
        return connection, address

    def server_close(self) -> None:
        """Wake every thread that reads from a client: its read ends as at the end of the stream."""
        with self.lock:
            for request in list(self.opened_at):
                self.cut(request)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of a fake break connections on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

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
        """Log nothing of a request."""
