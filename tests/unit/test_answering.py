"""What a thread of the API answers when the application does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.config import Config

from goqueue.api.server.answering import answer
from goqueue.api.server.connection import Connection, Limits, Stage
from goqueue.api.server.held import KeptRequest
from goqueue.api.server.worker import read_once

LIMITS = Limits(10, 10, 10, 2, 10, 1_000_000, kept=1)


def connection_with(message: bytes, address: str = "127.0.0.1", config: Config | None = None) -> Connection:
    """A connection on which a whole request has come."""
    peer: Any = (address, 1)
    made = Connection(
        None,  # type: ignore[arg-type]  # nothing is sent
        peer,
        peer,
        config or Config(),
        LIMITS,
        lambda *_: 1_000,
        deadline=0,
        since=0,
    )
    made.received += message
    assert made.advance(0, len(message))
    assert made.stage is Stage.ANSWERING
    return made


def failing(kind: type[BaseException]) -> Callable[..., Any]:
    """An application that raises."""

    def application(_environ: Any, _start_response: Any) -> Any:
        raise kind

    return application


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_is_an_answer(kind: type[BaseException]) -> None:
    """An application that raises anything at all costs neither the thread nor the client its answer."""
    connection = connection_with(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    kept = KeptRequest(lambda: True)
    data, stays, _ = answer(failing(kind), connection, Config(), kept, may_stay=True)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(body)["status"] == 500
    assert stays is False


def test_a_second_request_waits_for_the_first() -> None:
    """What follows a request stays where it is, until the next one is looked for."""
    one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    connection = connection_with(one + one)
    assert connection.request.body.read() == b"{}"
    assert bytes(connection.received) == one
    connection.next_request(1.0)
    assert connection.advance(1.0, 0)
    assert connection.request.body.read() == b"{}"
    assert not connection.received


@pytest.mark.parametrize(
    ("peer", "allowed", "scheme"),
    [
        ("127.0.0.1", "127.0.0.1,::1", "https"),
        ("10.1.2.3", "127.0.0.1,::1", "http"),
        ("10.1.2.3", "10.0.0.0/8", "https"),
        ("10.1.2.3", "*", "https"),
    ],
)
def test_only_a_trusted_proxy_says_the_scheme(peer: str, allowed: str, scheme: str) -> None:
    """What was looked up of an address once is right for its next requests, in no other configuration."""
    for _ in range(2):
        config = Config()
        config.set("forwarded_allow_ips", allowed)
        made = connection_with(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n", peer, config)
        assert made.request.scheme == scheme


def test_settings_of_the_server_are_read_once() -> None:
    """Every setting has the value that gunicorn finds, without being looked for."""
    config, plain = Config(), Config()
    read_once(config)
    assert vars(config).keys() >= plain.settings.keys()
    assert all(getattr(config, name) == getattr(plain, name) for name in plain.settings)
