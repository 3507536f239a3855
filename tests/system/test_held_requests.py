"""Requests that wait, and answers that are streams, under the API's server: none of them holds a thread."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.dev.embedded import free_port
from tests.support.waiting import wait_until

WORKER = "goqueue.api.server.worker.BufferingWorker"


class Server:
    """One process of the small application, with two threads."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "gunicorn", "tests.support.http.held_app:app", "-k", WORKER]
        options = ["--threads", "2", "--keep-alive", "30", "-b", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([*command, *options], env=environment_of(settings))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request on a connection of its own; its status and its document."""
        with contextlib.closing(self.send(method, path, body)) as connection:
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def send(self, method: str, path: str, body: Any = None) -> http.client.HTTPConnection:
        """Send a request, and read nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection

    def state(self) -> dict[str, int]:
        """The numbers of what waits and what streams."""
        document: dict[str, int] = self.ask("GET", "/state")[1]
        return document

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return bool(self.state())
        except OSError:
            return False


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[..., Server]]:
    """Starts servers with changed settings."""
    with contextlib.ExitStack() as stack:

        def serve(**changes: Any) -> Server:
            server = Server(settings.model_copy(update=changes))
            stack.callback(server.process.wait)
            stack.callback(server.process.terminate)
            wait_until(server.answers, timeout_seconds=60)
            return server

        yield serve


def test_requests_wait_without_a_thread(serve: Callable[..., Server]) -> None:
    """Many more requests wait than there are threads; a wake answers each once, and connections go on."""
    server = serve()
    waiting = [server.send("POST", "/wait", {"word": "go"}) for _ in range(40)]
    wait_until(lambda: server.state()["waiting"] == 40)
    assert server.ask("PUT", "/words/go")[0] == 200
    for connection in waiting:
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"said": True, "again": True})
        connection.request("POST", "/wait", '{"word": "go"}', {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"said": True, "again": False})
        connection.close()
    assert server.state() == {"waiting": 0, "streams": 0, "runs": 3 * 40}


def test_a_wake_for_something_else_waits_on(serve: Callable[..., Server]) -> None:
    """Whoever is woken in vain waits on, and is answered with what there is when the time is over."""
    server = serve()
    with contextlib.closing(server.send("POST", "/wait?seconds=60", {"word": "never"})) as connection:
        wait_until(lambda: server.state()["waiting"] == 1)
        runs = server.state()["runs"]
        server.ask("PUT", "/words/other")
        server.ask("DELETE", "/words/other")
        wait_until(lambda: server.state()["runs"] > runs)
        wait_until(lambda: server.state()["waiting"] == 1)
        server.ask("PUT", "/words/never")
        assert json.loads(connection.getresponse().read())["said"] is True
    assert server.ask("POST", "/wait?seconds=0.2", {"word": "nothing"}) == (
        200,
        {"said": False, "again": True},
    )


def test_who_goes_away_is_forgotten(serve: Callable[..., Server]) -> None:
    """A client that closes its connection ends its wait, or its stream, and nothing runs for it again."""
    server = serve()
    waiting = server.send("POST", "/wait", {"word": "go"})
    stream = server.send("GET", "/stream")
    wait_until(lambda: server.state() == {"waiting": 1, "streams": 1, "runs": 1})
    waiting.close()
    stream.close()
    wait_until(lambda: server.state() == {"waiting": 0, "streams": 0, "runs": 1})


def test_streams_send_and_end(serve: Callable[..., Server]) -> None:
    """What is sent on a stream arrives in its order, and its end is an end in order; HEAD gets no stream."""
    server = serve()
    connections = [server.send("GET", "/stream") for _ in range(20)]
    answers = [connection.getresponse() for connection in connections]
    wait_until(lambda: server.state()["streams"] == 20)
    assert server.ask("PUT", "/words/abc?times=3")[0] == 200
    assert server.ask("DELETE", "/words/abc")[0] == 200
    for answer in answers:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["Content-Length"] is None
        assert answer.read() == b"hello\nabcabcabc"
    wait_until(lambda: server.state()["streams"] == 0)
    assert server.ask("HEAD", "/stream") == (200, None)
    assert server.state()["streams"] == 0
    old = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    old.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
    wait_until(lambda: server.state()["streams"] == 1)
    server.ask("DELETE", "/words/abc")
    with contextlib.closing(old), old.makefile("rb") as reader:
        head, _, body = reader.read().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"hello\n"


def test_a_listener_that_does_not_read_is_cut_off(serve: Callable[..., Server]) -> None:
    """A stream whose client takes nothing holds no more than its share of memory; the others go on."""
    server = serve()
    with contextlib.closing(server.send("GET", "/stream")):
        wait_until(lambda: server.state()["streams"] == 1)

        def is_cut() -> bool:
            server.ask("PUT", "/words/abcdefgh?times=100000")
            return server.state()["streams"] == 0

        wait_until(is_cut)


def test_a_server_that_stops_lets_nobody_wait(serve: Callable[..., Server]) -> None:
    """At SIGTERM those who wait are answered with what there is, and streams end in order."""
    server = serve()
    waiting = server.send("POST", "/wait", {"word": "go"})
    stream = server.send("GET", "/stream")
    wait_until(lambda: server.state() == {"waiting": 1, "streams": 1, "runs": 1})
    server.process.send_signal(signal.SIGTERM)
    with contextlib.closing(waiting), contextlib.closing(stream):
        assert stream.getresponse().read() == b"hello\n"
        assert json.loads(waiting.getresponse().read()) == {"said": False, "again": True}
    assert server.process.wait(30) == 0


def test_too_many_are_not_kept(serve: Callable[..., Server]) -> None:
    """Beyond the limit a long poll is answered at once, and a stream with 503."""
    server = serve(api_streams_max=1)
    with contextlib.closing(server.send("POST", "/wait", {"word": "go"})):
        wait_until(lambda: server.state()["waiting"] == 1)
        assert server.ask("POST", "/wait", {"word": "go"}) == (200, {"said": False, "again": False})
        assert server.ask("GET", "/stream")[0] == 503
    wait_until(lambda: server.state()["waiting"] == 0)
    with contextlib.closing(server.send("GET", "/stream")):
        wait_until(lambda: server.state()["streams"] == 1)
