"""A small threaded HTTP server: what the port of metrics and the fakes of the world outside share."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6, SHUT_RDWR
from socketserver import ThreadingTCPServer
from typing import Any, Self

from goqueue.forks import close_in_children


class ThreadingHttpListener(ThreadingTCPServer):
    """Accepts connections, gives each a thread, and knows which are open.

    Not an HTTPServer, which asks the name service for its own name.

    Attributes:
        opened_at: the open connections in the order in which they came, and when (monotonic).
        lock: holds them still.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.opened_at: dict[Any, float] = {}
        self.lock = threading.Lock()
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, handler)
        close_in_children(self.socket)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note a connection, and give it a thread."""
        with self.lock:
            self.opened_at[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection whose client has its answer, or is gone."""
        with self.lock:
            self.opened_at.pop(request, None)
        super().shutdown_request(request)

    def cut(self, request: Any) -> None:
        """Cut a connection off: its thread, which reads or writes, notices and closes it. Holds the lock."""
        self.opened_at.pop(request, None)
        with suppress(OSError):
            request.shutdown(SHUT_RDWR)


class HttpService(ABC):
    """Serves HTTP on threads of its own from `start()` to `stop()`; also a context manager.

    Attributes:
        poll_seconds: how often the accepting thread looks whether it is to stop.

    Args:
        host, port: where; port 0 takes a free one.
    """

    poll_seconds = 0.05

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._listener: ThreadingHttpListener | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _listen(self) -> ThreadingHttpListener:
        """Bind the address."""

    @property
    def port(self) -> int:
        """The port that is served: the same after a stop and a start."""
        return self._port

    @property
    def is_serving(self) -> bool:
        """Tell whether it was started, and not stopped."""
        return self._listener is not None

    def start(self) -> Self:
        """Bind and serve; returns when connections are accepted.

        Raises:
            OSError: the address cannot be bound.
        """
        self._listener = self._listen()
        self._port = int(self._listener.server_address[1])
        self._thread = threading.Thread(
            target=self._listener.serve_forever,
            args=(self.poll_seconds,),
            name=type(self).__name__,
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering, and free the port. A second call does nothing."""
        if self._listener is None or self._thread is None:
            return
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        self._listener = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
