"""Outgoing calls of the event loop: which addresses are called, for how long, and how much is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from goqueue.actors.async_outgoing import call
from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import CallFailedError, HttpAnswer
from goqueue.dev.fakes.http_server import FakeAnswer
from tests.support.servers.job_receiver import JobReceiver


@pytest.fixture
def receiver() -> Iterator[JobReceiver]:
    """A server on this machine."""
    with JobReceiver() as receiver:
        yield receiver


def called(url: str, *, allow: tuple[str, ...] | None = ("127.0.0.0/8",), **options: Any) -> HttpAnswer:
    """The answer to a POST."""
    given: dict[str, Any] = {"timeout_seconds": 10.0, "answer_max_bytes": 1_000, **options}
    return asyncio.run(call("POST", url, headers={"a": "b"}, content=b"x", allow_networks=allow, **given))


def test_an_answer_is_read_up_to_a_bound(receiver: JobReceiver) -> None:
    """A receiver that sends more costs no more memory; its status and headers come in any case."""
    receiver.gives(FakeAnswer(201, b"y" * 5_000, {"retry-after": "7"}))
    answer = called(f"{receiver.url}/run")
    assert (answer.status, len(answer.body), answer.headers["retry-after"]) == (201, 1_000, "7")
    (request,) = receiver.calls
    assert (request.path, request.body, request.headers["a"]) == ("/run", b"x", "b")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:10.0.0.1]", "10.0.0.1", "169.254.169.254", "2130706433"],
)
def test_what_is_not_global_is_not_connected_to(host: str) -> None:
    """However it is written, and whatever a name stands for."""
    with pytest.raises(AddressRefusedError):
        called(f"http://{host}:1/", allow=())


def test_a_name_is_connected_to_by_an_address_that_was_checked(receiver: JobReceiver) -> None:
    """An address that does not answer is followed by the next one."""
    port = receiver.url.rpartition(":")[2]
    assert called(f"http://localhost:{port}/", allow=("127.0.0.0/8", "::1/128")).status == 200


@pytest.mark.parametrize(
    "answer",
    [FakeAnswer(delay_seconds=20), FakeAnswer(body=b"y" * 900, drip_seconds=0.05), FakeAnswer(lost=True)],
    ids=["no answer", "byte by byte", "a connection that is closed"],
)
def test_what_does_not_come_in_time_has_failed(receiver: JobReceiver, answer: FakeAnswer) -> None:
    """The time is that of the whole call, however the bytes come; the error does not name the receiver."""
    receiver.gives(answer)
    with pytest.raises(CallFailedError) as failed:
        called(f"{receiver.url}/secret", timeout_seconds=0.2)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "https://127.0.0.1:1/", "http://a.invalid/"])
def test_who_is_not_there_has_not_answered(url: str) -> None:
    """Nobody listens, or the name stands for nothing."""
    with pytest.raises(CallFailedError) as failed:
        called(url)
    assert "secret" not in str(failed.value)


def test_a_certificate_that_nobody_trusts_is_refused(receiver: JobReceiver) -> None:
    """What speaks no TLS is no https server."""
    with pytest.raises(CallFailedError):
        called(receiver.url.replace("http:", "https:"))
