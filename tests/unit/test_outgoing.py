"""Outgoing HTTP: which addresses are connected to, how long a call may take, what a Retry-After asks for."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from goqueue.actors.checked_connections import AddressRefusedError, deadline, resolve_host
from goqueue.actors.outgoing import (
    ANSWER_MAX_BYTES,
    CallFailedError,
    HttpAnswer,
    HttpCaller,
    retry_after_seconds,
    tls_context,
)
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver
from goqueue.webhooks.addresses import allow_global

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = ("127.0.0.0/8",)


@contextmanager
def caller_for(allow: Any = None, resolve: Any = None) -> Iterator[HttpCaller]:
    """A caller that is closed at the end."""
    caller = HttpCaller(tls_context(), allow, resolve)
    try:
        yield caller
    finally:
        caller.close()


def call(caller: HttpCaller, url: str, *, content: bytes = b"{}", timeout_seconds: float = 5) -> HttpAnswer:
    """POST to the URL."""
    return caller.call("POST", url, headers={}, content=content, timeout_seconds=timeout_seconds)


def test_receiver_that_does_not_read_is_left_in_time() -> None:
    """A body that nobody reads does not hold the worker longer than the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as never_accepts, caller_for() as caller:
        url = f"http://127.0.0.1:{never_accepts.getsockname()[1]}/"
        with pytest.raises(CallFailedError, match="no complete answer within"):
            call(caller, url, content=b"x" * 32 * 1024 * 1024, timeout_seconds=0.3)


def test_no_more_than_64_kib_is_read() -> None:
    """A large answer is cut while it is read."""
    with WebhookReceiver() as receiver, caller_for() as caller:
        assert len(call(caller, f"{receiver.url}/large").body) == ANSWER_MAX_BYTES


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_global_addresses_are_allowed(address: str) -> None:
    """Machines of the public internet may be called, also through IPv4 inside IPv6."""
    assert allow_global()(ipaddress.ip_address(address))


def test_allowed_networks_are_exact() -> None:
    """A network that the settings allow opens itself and nothing else."""
    allow = allow_global(["10.1.0.0/16", "fd00::/8"])
    verdicts = {
        text: allow(ipaddress.ip_address(text))
        for text in ("10.1.2.3", "10.2.0.1", "::ffff:10.1.0.1", "fd00::1")
    }
    assert verdicts == {"10.1.2.3": True, "10.2.0.1": False, "::ffff:10.1.0.1": True, "fd00::1": True}


def test_name_is_resolved_once_and_that_address_is_used() -> None:
    """A name whose address changes after the check (DNS rebinding) gains nothing: it is asked for once."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with WebhookReceiver() as receiver, caller_for(allow_global(LOCAL), lambda _: next(answers)) as caller:
        answer = call(caller, f"http://rebinding.example.com:{receiver.port}/ok")
    assert answer.status == 200
    assert next(answers) == ["10.0.0.1"]
    assert receiver.last is not None
    assert receiver.last.headers["host"] == f"rebinding.example.com:{receiver.port}"


@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]], ids=str)
def test_one_inside_address_refuses_the_name(addresses: list[str]) -> None:
    """A name with an outside and an inside address is refused before anything is connected to."""
    with caller_for(allow_global(), lambda _: addresses) as caller, pytest.raises(AddressRefusedError):
        call(caller, "http://mixed.example.com/")


def test_next_address_is_tried() -> None:
    """When the first address of a name does not answer, the second is used."""
    addresses = ["127.0.0.2", "127.0.0.1"]
    with WebhookReceiver() as receiver, caller_for(allow_global(LOCAL), lambda _: addresses) as caller:
        assert call(caller, f"http://two.example.com:{receiver.port}/ok").status == 200


def test_slow_resolver_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver knows no time-out: one that hangs does not hold the worker past the deadline."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30))
    started = time.monotonic()
    with caller_for(allow_global()) as caller, pytest.raises(CallFailedError, match="no complete answer"):
        call(caller, "http://slow.example.com/", timeout_seconds=0.2)
    release.set()
    assert time.monotonic() - started < 10


def test_real_names_are_resolved() -> None:
    """The machine's own resolver gives addresses, each once."""
    with deadline(5):
        assert "127.0.0.1" in resolve_host("localhost")


def _in(seconds: float, since: datetime) -> str:
    return format_datetime(since + timedelta(seconds=seconds), usegmt=True)


SERVER_NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"retry-after": "30"}, 30, id="seconds"),
        pytest.param({"retry-after": "0"}, None, id="zero"),
        pytest.param({"retry-after": "-5"}, None, id="negative"),
        pytest.param({"retry-after": "1.5"}, None, id="fraction"),
        pytest.param({"retry-after": "soon"}, None, id="text"),
        pytest.param({"retry-after": "²"}, None, id="superscript"),
        pytest.param({}, None, id="absent"),
        pytest.param(
            {"retry-after": _in(90, SERVER_NOW), "date": _in(0, SERVER_NOW)},
            90,
            id="date by the server's clock",
        ),
        pytest.param({"retry-after": _in(-90, SERVER_NOW), "date": _in(0, SERVER_NOW)}, None, id="past"),
        pytest.param({"retry-after": "Fri, 31 Feb 2031 00:00:00 GMT"}, None, id="impossible date"),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], expected: float | None) -> None:
    """Both forms of RFC 9110 are understood, and anything else asks for no wait."""
    assert retry_after_seconds(httpx.Headers(list(headers.items()), encoding="utf-8")) == expected


def test_retry_after_date_without_a_date_uses_our_clock() -> None:
    """Without the server's own time, the date is compared with ours."""
    wait = retry_after_seconds(httpx.Headers({"retry-after": _in(600, datetime.now(UTC))}))
    assert wait == pytest.approx(600, abs=30)
