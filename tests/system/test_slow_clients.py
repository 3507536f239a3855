"""Clients that take their time: they wait, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.dev.embedded import free_port
from tests.api.conftest import NOOP
from tests.support.http.slow_clients import HALF_BODY, HALF_CHUNK, HALF_HEAD, ask, clients, raw
from tests.support.waiting import wait_until

MIB = 1024 * 1024
WORKER = os.environ.get("GUNICORN_WORKER", "goqueue.api.server.worker.BufferingWorker")

Serve = Callable[..., int]
POST = b"POST /jobs/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = json.dumps(NOOP).encode()
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts the API under gunicorn, one process with four threads; its port."""
    with contextlib.ExitStack() as stack:

        def serve(**changes: Any) -> int:
            port = free_port()
            command = [sys.executable, "-m", "gunicorn", "goqueue.wsgi:app", "-k", WORKER, "--threads", "4"]
            changed = settings.model_copy(update={"actors": ("tests.support.jobs.noop_jobs",)} | changes)
            server = subprocess.Popen([*command, "-b", f"127.0.0.1:{port}"], env=environment_of(changed))
            stack.callback(server.wait)
            stack.callback(server.terminate)
            wait_until(lambda: _answers(port), timeout_seconds=60)
            return port

        yield serve


def _answers(port: int) -> bool:
    try:
        return ask(port, "GET", "/health")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    "message", [b"", HALF_HEAD, HALF_BODY, HALF_CHUNK], ids=["none", "head", "body", "chunk"]
)
def test_half_requests_hold_no_thread(serve: Serve, message: bytes) -> None:
    """Many more half requests than threads leave the API answering others at once."""
    port = serve()
    with clients(port, message, 50):
        for _ in range(5):
            assert ask(port, "POST", "/jobs/create", NOOP)[0] == 201


def test_slow_readers_hold_no_thread(serve: Serve) -> None:
    """Clients that do not read large answers leave the API answering others at once, and are let go."""
    port = serve(api_write_seconds=1.0)
    payload = {"to": "a@example.com", "subject": "a", "body": "x" * (MIB - 500)}
    large = {"queue": "email", "payload": payload}
    for _ in range(8):
        assert ask(port, "POST", "/jobs/create", large)[0] == 201
    wanted = b"GET /jobs?queue=email HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with clients(port, wanted, 12) as slow:
        for _ in range(5):
            assert ask(port, "POST", "/jobs/create", NOOP)[0] == 201
        wait_until(lambda: all(_is_cut(client) for client in slow))


def _is_cut(client: socket.socket) -> bool:
    """Whether the server has closed a connection of which nothing was read."""
    # The bytes that the kernel holds already stay readable: writing is what fails.
    try:
        client.send(b"x")
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("message", "seconds"),
    [(HALF_HEAD, {"api_head_seconds": 1.0}), (HALF_BODY, {"api_body_seconds": 1.0})],
    ids=["head", "body"],
)
def test_a_request_that_does_not_come_is_answered_408(
    serve: Serve, message: bytes, seconds: dict[str, float]
) -> None:
    """A request that stops coming is refused in time with a problem document, and the connection closed."""
    status, headers, document = _parsed(raw(serve(**seconds), message))
    assert (status, document["status"]) == (408, 408)
    assert headers["connection"] == "close"


def test_a_trickle_does_not_stretch_the_time(serve: Serve) -> None:
    """A client that sends a byte now and then has no more time than one that sends nothing."""
    port = serve(api_head_seconds=1.0)
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(HALF_HEAD)
        client.settimeout(0.2)
        received = b""
        began = time.monotonic()
        while not received and time.monotonic() - began < 20:
            client.sendall(b"X")
            with contextlib.suppress(TimeoutError):
                received = client.recv(65536)
        assert received.startswith(b"HTTP/1.1 408 ")


def test_with_too_many_connections_the_slowest_go(serve: Serve) -> None:
    """When all places are taken the client that has let us wait for the longest makes room for a new one."""
    port = serve(api_connections_max=20)
    with clients(port, HALF_BODY, 60) as slow:
        assert ask(port, "POST", "/jobs/create", NOOP)[0] == 201
        answer = slow[0].recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer


def test_what_slow_bodies_hold_is_bounded(serve: Serve) -> None:
    """When half bodies hold more than they may, the oldest of them go, and others are answered."""
    port = serve(api_buffer_max_bytes=2 * MIB, batch_max_bytes=MIB, job_max_bytes=MIB)
    half = POST + b"Content-Length: %d\r\n\r\n" % MIB + b" " * (MIB - 1)
    with clients(port, half, 6) as slow:
        assert ask(port, "POST", "/jobs/create", NOOP)[0] == 201
        wait_until(lambda: slow[0].recv(65536).startswith(b"HTTP/1.1 503 "))


def test_without_a_key_a_large_body_is_not_read(serve: Serve) -> None:
    """Who has no key is told so when the header has come, and not after the body; a small body is read."""
    port = serve(api_keys=("0" * 64,))
    head = POST + b"Content-Length: 900000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
    assert ask(port, "POST", "/jobs/create", NOOP)[0] == 401


@pytest.mark.parametrize(
    "length", [b"Content-Length: 99000000", b"Expect: 100-continue\r\nContent-Length: 99000000"]
)
def test_a_body_that_is_too_large_is_refused_before_it_comes(serve: Serve, length: bytes) -> None:
    """A length over the limit answers 413 at once; nobody is told to send such a body."""
    port = serve()
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(POST + length + b"\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_before_it_sends_is_told_to(serve: Serve) -> None:
    """`Expect: 100-continue` is answered when the body will be read, and once."""
    port = serve()
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert client.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_requests_that_are_sent_at_once_are_answered_in_order(serve: Serve) -> None:
    """Pipelined requests are answered in turn; bytes that come one by one are a request as well."""
    port = serve()
    last = WHOLE.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close")
    missing = b"GET /jobs/999999 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = raw(port, WHOLE * 30 + missing + WHOLE * 20 + last)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert statuses == [b"201"] * 30 + [b"404"] + [b"201"] * 21
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        for byte in last:
            client.sendall(bytes([byte]))
        assert client.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_who_sends_no_more_still_reads(serve: Serve) -> None:
    """A client that has closed its sending side gets its answer."""
    port = serve()
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(WHOLE)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536).startswith(b"HTTP/1.1 201 ")


LONG = b"x" * 9000
REFUSED = {
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "a control character": (b"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 400),
    "a header without a name": (b"GET / HTTP/1.1\r\n: a\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: localhost\r\n b\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "a length that is none": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a length and chunks": (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "an unknown coding": (POST + b"Transfer-Encoding: x\r\n\r\n", 501),
    "chunks without a size": (POST + b"Transfer-Encoding: chunked\r\n\r\nnone\r\n", 400),
    "a chunk that is longer": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
    "a chunk size that never ends": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000, 400),
    "endless trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 3000, 431),
    "too many chunks": (
        b"POST /jobs/batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\n \r\n" * 100_001,
        413,
    ),
    "a long line": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "a line that never ends": (b"GET /" + LONG * 5, 414),
    "a long header": (b"GET / HTTP/1.1\r\nA: " + LONG + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    "headers that never end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000, 431),
    "an expectation": (b"GET / HTTP/1.1\r\nExpect: magic\r\n\r\n", 417),
}


def test_what_is_no_request_is_answered_with_a_problem_document(serve: Serve) -> None:
    """Everything that the server refuses by itself is a problem document, and the server goes on."""
    port = serve()
    for name, (message, expected) in REFUSED.items():
        status, headers, document = _parsed(raw(port, message))
        assert (name, status) == (name, expected)
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["cache-control"] == "no-store"
        assert document["status"] == expected
        assert document["error"] == document["detail"]
        assert len(document["detail"]) <= 200
    assert _answers(port)


def _parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def test_a_thousand_slow_connections_cost_the_others_little(serve: Serve) -> None:
    """Beside a thousand half requests the server spends about as much on others as beside none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    port = serve()
    # The watchdog of a command that has ended is reaped when the next one ends: until then it is a zombie.
    processes = [
        found for found in psutil.Process().children(recursive=True) if found.status() != psutil.STATUS_ZOMBIE
    ]
    (worker,) = [found for found in processes if "gunicorn" in found.cmdline() and not found.children()]
    _cpu_of(worker, port)
    alone = _cpu_of(worker, port)
    with clients(port, HALF_HEAD, 500), clients(port, HALF_BODY, 500):
        _cpu_of(worker, port)
        beside = _cpu_of(worker, port)
    assert beside < 1.5 * alone


def _cpu_of(worker: psutil.Process, port: int) -> float:
    """The CPU seconds of 200 creates. Time on the wall would tell what else the machine does."""
    before = worker.cpu_times()
    for _ in range(200):
        assert ask(port, "POST", "/jobs/create", NOOP)[0] == 201
    after = worker.cpu_times()
    return after.user + after.system - before.user - before.system
