"""The local servers that stand in for the world outside do what the tests and the demo rely on."""

from __future__ import annotations

import contextlib
import gc
import smtplib
import socket
import threading
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from standardwebhooks import Webhook

from goqueue.dev.fakes.payment_sandbox import PaymentSandbox
from goqueue.dev.fakes.smtp_sink import SmtpSink
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver, make_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Counterpart = SmtpSink | PaymentSandbox | WebhookReceiver
KINDS = [SmtpSink, PaymentSandbox, WebhookReceiver]


@contextlib.contextmanager
def http() -> Iterator[httpx.Client]:
    """A plain client."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


def pay(
    client: httpx.Client, gateway: PaymentSandbox, payment_id: str, *, key: str | None = None, amount: int = 1
) -> Any:
    """Ask the gateway for a charge under a key, which is the payment id if not given."""
    headers = {"Idempotency-Key": key or payment_id}
    return client.post(
        gateway.charges_url, json={"payment_id": payment_id, "amount": amount}, headers=headers
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_stop(kind: Callable[[], Counterpart]) -> None:
    """A stop ends the threads and frees the port, although a client keeps its connection open."""
    before = set(threading.enumerate())
    with kind() as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"EHLO" if isinstance(server, SmtpSink) else b"POST /")
        server.stop()
        client.settimeout(5)
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", server.port)).close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_stop_ends_connections_that_have_just_come(kind: Callable[[], Counterpart]) -> None:
    """Many connections made at the moment of the stop end with it, and none is left to the garbage."""
    with kind() as server, contextlib.ExitStack() as clients:
        for _ in range(20):
            clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        server.stop()
    gc.collect()


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_again_on_the_same_port(kind: Callable[[], Counterpart]) -> None:
    """An outage is a stop and a start: the address and the counts stay."""
    server = kind()
    with server:
        url = server.url
    with server:
        assert server.url == url
        socket.create_connection(("127.0.0.1", server.port)).close()


@pytest.mark.parametrize("kind", KINDS)
def test_taken_port_is_an_error(kind: Callable[..., Counterpart]) -> None:
    """A port that someone else uses is said so at the start, and nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        kind(port=taken.getsockname()[1]).start()


@pytest.mark.parametrize("kind", KINDS)
def test_stop_twice_is_one_stop(kind: Callable[[], Counterpart]) -> None:
    """A stop of a stopped server does nothing."""
    server = kind()
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_slow_answers_do_not_delay_stop() -> None:
    """A stop does not wait for an answer that is still to come."""
    errors: list[Exception] = []
    with WebhookReceiver() as receiver, http() as client:

        def ask() -> None:
            try:
                client.post(f"{receiver.url}/slow/60")
            except httpx.TransportError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: receiver.received == 1)
        started = time.monotonic()
        receiver.stop()
        asking.join()
    assert time.monotonic() - started < 10
    assert len(errors) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds, and fail if it does not within 10 s."""
    pause, deadline = threading.Event(), time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_gateway_charges_a_key_once() -> None:
    """The same key with the same body is a repeat; with another body it is a conflict."""
    with PaymentSandbox() as gateway, http() as client:
        first, repeat = pay(client, gateway, "p-1"), pay(client, gateway, "p-1")
        conflict = pay(client, gateway, "p-1", amount=2)
    assert first.json() == repeat.json() == {"id": "ch_1", "status": "succeeded"}
    assert conflict.status_code == 409
    assert (gateway.charges, gateway.requests, gateway.repeats) == ({"p-1": 1}, {"p-1": 3}, 1)


def test_gateway_shows_a_double_charge() -> None:
    """A client that makes up a new key for a retry takes the money twice, and that is seen."""
    with PaymentSandbox() as gateway, http() as client:
        pay(client, gateway, "p-1", key="a")
        pay(client, gateway, "p-1", key="b")
        client.post(gateway.charges_url, json={"payment_id": "p-1"})
    assert gateway.charges == {"p-1": 3}


def test_gateway_misbehaves_by_prefix() -> None:
    """The prefixes that are there from the start do what their names say."""
    with PaymentSandbox() as gateway, http() as client:
        statuses = [
            pay(client, gateway, name).status_code for name in ("decline-1", "fail-once-1", "fail-once-1")
        ]
        throttled = pay(client, gateway, "throttle-1")
        with pytest.raises(httpx.RemoteProtocolError):
            pay(client, gateway, "lose-answer-1")
        found = pay(client, gateway, "lose-answer-1")
    assert statuses == [402, 503, 200]
    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "1")
    assert found.status_code == 200
    assert gateway.charges == {"fail-once-1": 1, "lose-answer-1": 1}


def test_gateway_knows_only_charges() -> None:
    """Another path is not found, and what is no payment is refused."""
    with PaymentSandbox() as gateway, http() as client:
        assert client.get(gateway.url).status_code == 404
        assert client.post(gateway.charges_url, content=b"[").status_code == 400


def test_receiver_verifies_signatures() -> None:
    """Right signatures are counted as valid, wrong and missing ones as invalid and refused."""
    secret = make_secret()
    now = datetime.now(UTC)
    headers = {"webhook-id": "job_1", "webhook-timestamp": str(int(now.timestamp()))}
    good = Webhook(secret).sign("job_1", now, "{}")
    with WebhookReceiver(secret) as receiver, http() as client:
        statuses = [
            client.post(f"{receiver.url}/ok", content=b"{}", headers={**headers, **signature}).status_code
            for signature in ({"webhook-signature": good}, {"webhook-signature": "v1,AAAA"}, {})
        ]
    assert statuses == [200, 401, 401]
    assert (receiver.received, receiver.valid, receiver.invalid) == (3, 1, 2)
    assert (receiver.deliveries, receiver.accepted) == ({"job_1": 3}, {"job_1": 1})


def test_receiver_answers_by_path() -> None:
    """The path chooses the answer, and failures are counted for each webhook id apart."""
    with WebhookReceiver() as receiver, http() as client:

        def status(path: str, webhook_id: str = "a") -> int:
            return client.post(receiver.url + path, headers={"webhook-id": webhook_id}).status_code

        assert [status("/ok"), status("/gone"), status("/status/418"), status("/nowhere")] == [
            200,
            410,
            418,
            404,
        ]
        assert [status("/fail/1", "b"), status("/fail/1", "c"), status("/fail/1", "b")] == [503, 503, 200]
        assert [status("/throttle/1", "d"), status("/throttle/1", "d")] == [429, 200]


def mail(message_id: str) -> EmailMessage:
    """A message under this Message-ID."""
    message = EmailMessage()
    message["From"], message["To"], message["Message-ID"] = "a@example.com", "b@example.com", message_id
    message.set_content("Hello")
    return message


def test_sink_counts_messages_and_repeats() -> None:
    """Message-IDs and recipients are kept; contents only where they are asked for."""
    with SmtpSink() as sink, smtplib.SMTP("127.0.0.1", sink.port, "test") as client:
        for message_id in ("<1@x>", "<2@x>", "<1@x>"):
            client.send_message(mail(message_id))
    assert [message.message_id for message in sink.received] == ["<1@x>", "<2@x>", "<1@x>"]
    assert (sink.distinct, sink.repeats, sink.received[0].content) == (2, 1, None)
    assert sink.received[0].recipients == ("b@example.com",)


def test_sink_refuses_by_rule() -> None:
    """Rules refuse for good or put off for a while; the latest rule wins."""
    with SmtpSink() as sink, smtplib.SMTP("127.0.0.1", sink.port, "test") as client:
        client.ehlo()
        client.mail("a@example.com")
        sink.defer("*@slow.example.com", times=2)
        addresses = ["refuse-1@example.com", *["defer-once@example.com"] * 2, *["x@slow.example.com"] * 3]
        codes = [client.rcpt(address)[0] for address in addresses]
        sink.refuse("x@*", code=551)
        codes.append(client.rcpt("x@slow.example.com")[0])
    assert codes == [550, 451, 250, 451, 451, 250, 551]
