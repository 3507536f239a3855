"""The port of probes and metrics, when its clients are not what they should be."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from goqueue.observability import monitoring_server
from goqueue.observability.monitoring_server import MAX_CLIENTS, MonitoringServer, Probes
from tests.support.http.slow_clients import ask, clients, raw
from tests.support.waiting import wait_until

HALF = b"GET /health/live HTTP/1.1\r\nHost: slow\r\n"


@pytest.fixture
def port() -> Iterator[int]:
    """A server of a process that is well, and not ready."""
    server = MonitoringServer("127.0.0.1", 0, Probes(list, lambda: ["not yet"]))
    server.start()
    yield server.port
    server.stop()


def threads() -> int:
    """The threads that answer clients."""
    return sum("process_request_thread" in found.name for found in threading.enumerate())


@pytest.mark.parametrize("message", [b"", HALF], ids=["none", "head"])
def test_half_requests_take_no_more_than_their_places(port: int, message: bytes) -> None:
    """However many half requests there are, a probe is answered, and the threads are counted."""
    with clients(port, message, 4 * MAX_CLIENTS):
        assert ask(port, "GET", "/health/live")[0] == 200
        wait_until(lambda: threads() <= MAX_CLIENTS)
    wait_until(lambda: threads() == 0)


def test_a_trickle_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has its time for all of its request, also when it sends a byte now and then."""
    monkeypatch.setattr(monitoring_server, "CLIENT_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.settimeout(0.05)
        client.sendall(HALF)

        def is_cut() -> bool:
            with contextlib.suppress(TimeoutError):
                client.sendall(b"X")
                return client.recv(1) == b""
            return False

        with contextlib.suppress(ConnectionError):
            wait_until(is_cut)


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/health/live", 200), ("/health/ready", 503)]
)
def test_head_is_get_without_a_body(port: int, path: str, status: int) -> None:
    """HEAD has the status and the length of GET, and no body."""
    got, got_headers, body = ask(port, "GET", path)
    head, head_headers, nothing = ask(port, "HEAD", path)
    assert got == head == status
    assert (len(body) > 0, nothing) == (True, b"")
    assert head_headers["content-type"] == got_headers["content-type"]
    assert head_headers["cache-control"] == "no-store"
    assert head_headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"FOO /\"' HTTP/1.1\r\n\r\n", 501),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
    ],
    ids=["method", "line", "headers", "version"],
)
def test_what_is_no_request_is_answered_as_json(port: int, message: bytes, status: int) -> None:
    """A request that cannot be read is refused in the form of every other answer."""
    head, _, body = raw(port, message).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert set(json.loads(body)) == {"error"}
