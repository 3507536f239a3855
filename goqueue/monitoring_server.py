"""The port on which workers and the scheduler tell their metrics and their health."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6
from socketserver import ThreadingTCPServer
from typing import Any

import structlog

from goqueue.shared_metrics import CONTENT_TYPE, exposition

log = structlog.get_logger(__name__)

#: A client that says nothing for so long is let go.
CLIENT_SECONDS = 10.0

#: When to ask again whoever is not well.
RETRY_AFTER_SECONDS = 1

#: What is wrong, each as a line; nothing is well.
Problems = list[str]
Check = Callable[[], Problems]


@dataclass(frozen=True, slots=True)
class Probes:
    """Whom to ask.

    Attributes:
        live, ready: what is wrong with this process, and why it cannot do its work now.
        before_metrics: called before the metrics are told.
    """

    live: Check
    ready: Check
    before_metrics: Callable[[], object] = bool


class MonitoringServer:
    """Serves `/metrics`, `/health/live` and `/health/ready` from threads of its own.

    Args:
        host, port: where; port 0 takes a free one.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, probes: Probes) -> None:
        self._checks = {"/health/live": probes.live, "/health/ready": probes.ready}
        self._before_metrics = probes.before_metrics
        self._server = _server_class(host)((host, port), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="monitoring", kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and free the port."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """The status, content type and body of one path."""
        if path == "/metrics":
            self._before_metrics()
            return HTTPStatus.OK, CONTENT_TYPE, exposition()
        check = self._checks.get(path)
        if check is None:
            return _as_json(HTTPStatus.NOT_FOUND, {"error": "there is /metrics, /health/live, /health/ready"})
        problems = check()
        if problems:
            return _as_json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "; ".join(problems)})
        return _as_json(HTTPStatus.OK, {"status": "ok"})


class MonitoringPort:
    """A port on which a MonitoringServer listens as soon as it can: one that is taken is tried for again.

    That metrics cannot be told is no reason not to work. It is said once.
    """

    def __init__(self, host: str, port: int, probes: Probes) -> None:
        self._make = functools.partial(MonitoringServer, host, port, probes)
        self._address = f"{host}:{port}"
        self._is_told = False
        self._server: MonitoringServer | None = None

    def tend(self) -> None:
        """Listen, if nobody does yet."""
        if self._server is not None:
            return
        try:
            self._server = self._make()
        except OSError as error:
            if not self._is_told:
                log.warning("metrics_port_unusable", address=self._address, error=str(error))
            self._is_told = True
            return
        self._server.start()
        log.info("metrics_served", address=self._address)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.stop()


def _as_json(status: HTTPStatus, document: Mapping[str, Any]) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps(document).encode()


def _server_class(host: str) -> type[ThreadingTCPServer]:
    # Not an HTTPServer, which asks the name service for its own name.
    class Server(ThreadingTCPServer):
        address_family = AF_INET6 if ":" in host else AF_INET
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, _request: Any, _client: Any) -> None:
            """A client that went away is nobody's problem; anything else is told."""
            log.debug("monitoring_request_failed", exc_info=True)  # noqa: LOG014  (called inside the handler)

    return Server


def _handler(monitoring: MonitoringServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS
        server_version = "goqueue"
        sys_version = ""

        def do_GET(self) -> None:
            status, content_type, body = monitoring.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: a probe a second is not worth a line."""

    return Handler
