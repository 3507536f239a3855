"""The port on which workers and the scheduler tell their metrics and their health."""

from __future__ import annotations

import ipaddress
import json
import string
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import structlog

from goqueue.observability.http_service import HttpService, ThreadingHttpListener
from goqueue.observability.shared_metrics import CONTENT_TYPE, exposition

log = structlog.get_logger(__name__)

#: A client has so long for its request and its answer, however it spreads them.
CLIENT_SECONDS = 10.0
#: Each has a thread. With more, the one that has taken the longest has to go.
MAX_CLIENTS = 64

#: What a host name, an address and a port are written with.
_HOST_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._:[]")

#: When to ask again whoever is not well.
RETRY_AFTER_SECONDS = 1

#: What is wrong, each as a line; nothing is well.
Problems = list[str]
Check = Callable[[], Problems]


@dataclass(frozen=True, slots=True)
class Probes:
    """The functions that are asked about this process.

    Attributes:
        live, ready: what is wrong with this process, and why it cannot do its work now.
        before_metrics: called before the metrics are told.
    """

    live: Check
    ready: Check
    before_metrics: Callable[[], object] = bool


class MonitoringServer(HttpService):
    """Serves `/metrics`, `/health/live` and `/health/ready` from threads of its own."""

    poll_seconds = 0.1

    def __init__(self, host: str, port: int, probes: Probes) -> None:
        super().__init__(host, port)
        self._checks = {"/health/live": probes.live, "/health/ready": probes.ready}
        self._before_metrics = probes.before_metrics
        self._is_for_this_machine = is_loopback(host)

    def _listen(self) -> ThreadingHttpListener:
        handler = type("_BoundHandler", (_MonitoringHandler,), {"answer": staticmethod(self.answer)})
        return _MonitoringListener((self._host, self._port), handler)

    def answer(self, path: str, host: str | None) -> tuple[HTTPStatus, str, bytes]:
        """The status, content type and body of one path.

        On a loopback address it answers to no other Host: the page of another site could point its own name
        at that address, and read what is told here (DNS rebinding).
        """
        if self._is_for_this_machine and not answers_to(host, frozenset()):
            return _as_json(HTTPStatus.MISDIRECTED_REQUEST, {"error": "only localhost is answered here"})
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
        self._server = MonitoringServer(host, port, probes)
        self._address = f"{host}:{port}"
        self._is_told = False

    def tend(self) -> None:
        """Listen, if nobody does yet."""
        if self._server.is_serving:
            return
        try:
            self._server.start()
        except OSError as error:
            if not self._is_told:
                log.warning("metrics_port_unusable", address=self._address, error=str(error))
            self._is_told = True
            return
        log.info("metrics_served", address=self._address)

    def close(self) -> None:
        """Stop listening on the port."""
        self._server.stop()


@lru_cache(maxsize=64)
def answers_to(host: str | None, allowed: frozenset[str]) -> bool:
    """Tell whether a service without keys answers to this Host: a loopback one, or one that is allowed.

    Every browser sends a Host; a request without one is from none, and passes.
    """
    if host is None:
        return True
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None or not set(host) <= _HOST_CHARACTERS:
        return False
    return is_loopback(name) or name.rstrip(".") in allowed


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a name or an address, is this machine to itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _as_json(status: HTTPStatus, document: Mapping[str, Any]) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps(document).encode()


class _MonitoringListener(ThreadingHttpListener):
    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a client its thread, and take the place of another where there are too many."""
        with self.lock:
            if len(self.opened_at) >= MAX_CLIENTS:
                self.cut(next(iter(self.opened_at)))
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Let those go that have had their time; called several times a second."""
        before = time.monotonic() - CLIENT_SECONDS
        with self.lock:
            for request in [request for request, since in self.opened_at.items() if since < before]:
                self.cut(request)

    def handle_error(self, _request: Any, _client: Any) -> None:
        """A client that went away is nobody's problem; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            log.debug("monitoring_request_failed", exc_info=True)  # noqa: LOG014  (called inside the handler)


class _MonitoringHandler(BaseHTTPRequestHandler):
    """Answers one request; `answer` is set by the class that serves."""

    timeout = CLIENT_SECONDS
    server_version = "goqueue"
    sys_version = ""
    answer: Callable[[str, str | None], tuple[HTTPStatus, str, bytes]]

    def do_GET(self) -> None:
        self._send(*self.answer(self.path.partition("?")[0], self.headers.get("Host")))

    do_HEAD = do_GET  # noqa: N815  (the standard library has it so)

    def send_error(self, code: int, message: str | None = None, _explain: str | None = None) -> None:
        """Answer what is no request in the form of everything else."""
        status = HTTPStatus(code)
        self.close_connection = True
        # What has no version that can be read is not HTTP/0.9, whose answers have no header.
        self.request_version = "HTTP/1.0"
        self._send(*_as_json(status, {"error": (message or status.phrase)[:200]}))

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing: a probe a second is not worth a line."""
