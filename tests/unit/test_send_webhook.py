"""The job type send_webhook, against a real receiver."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from goqueue.actors.outgoing import CallFailedError, shared_caller
from goqueue.actors.send_webhook import WebhookPayload, send_webhook
from goqueue.actors.webhook_call import post
from goqueue.config.settings import Settings
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver, make_secret
from goqueue.errors import ConfigurationError, Discard, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = ("127.0.0.0/8",)
SECRET = make_secret()
VALID = {
    "url": "https://example.com/hook",
    "method": "POST",
    "headers": {"X-Tenant": "acme"},
    "body": {"event": "paid"},
    "timeout": 10,
}


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    """A running receiver that verifies signatures."""
    with WebhookReceiver(SECRET) as running:
        yield running


def payload(**changes: Any) -> WebhookPayload:
    """A valid payload with these changes."""
    return WebhookPayload.model_validate({**VALID, **changes})


def settings(**changes: Any) -> Settings:
    """Settings that sign, and allow the receiver of the tests, with these changes."""
    return Settings(**{"webhook_secret": SecretStr(SECRET), "webhook_allow_networks": LOCAL, **changes})


def send(receiver: WebhookReceiver, path: str, *, job_id: int = 1, **changes: Any) -> dict[str, Any]:
    """Post to a path of the receiver."""
    return post(payload(url=receiver.url + path, **changes), job_id=job_id, settings=settings())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_webhook_arrives_signed(receiver: WebhookReceiver, method: str) -> None:
    """Method, body and headers arrive, and the signature is right by the official library."""
    result = send(receiver, "/ok?a=1", job_id=42, method=method, body={"name": "Zoë", "n": 10**30})
    request = receiver.last
    assert request is not None
    assert result == {"status": 200, "body": "{}"}
    assert (receiver.valid, receiver.invalid, receiver.deliveries) == (1, 0, {"job_42": 1})
    assert (request.method, request.path, request.headers["x-tenant"]) == (method, "/ok?a=1", "acme")
    assert Webhook(SECRET).verify(request.body, request.headers) == {"name": "Zoë", "n": 10**30}


def test_wrong_secret_is_noticed(receiver: WebhookReceiver) -> None:
    """A signature by another secret is refused by the receiver, and that is final (401)."""
    other = settings(webhook_secret=SecretStr(make_secret()))
    with pytest.raises(Discard, match="401"):
        post(payload(url=f"{receiver.url}/ok"), job_id=1, settings=other)
    assert (receiver.valid, receiver.invalid) == (0, 1)


def test_a_receiver_may_have_a_secret_of_its_own(receiver: WebhookReceiver) -> None:
    """The secret of its host signs, and the one for all others does not; a host is one in any case."""
    others = {"webhook_secret": SecretStr(make_secret())}
    own = settings(webhook_secrets={"LOCALHOST": SecretStr(SECRET)}, **others)
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert post(payload(url=f"{url}/ok"), job_id=1, settings=own)["status"] == 200
    with pytest.raises(Discard, match="401"):
        post(payload(url=f"{receiver.url}/ok"), job_id=1, settings=own)


@pytest.mark.parametrize("old_first", [True, False])
def test_two_secrets_sign_while_one_changes(receiver: WebhookReceiver, old_first: bool) -> None:
    """A receiver that knows either of them takes the call (Standard Webhooks: signatures in one header)."""
    secrets = [make_secret(), SECRET] if old_first else [SECRET, make_secret()]
    rotating = settings(webhook_secret=SecretStr(" ".join(secrets)))
    assert post(payload(url=f"{receiver.url}/ok"), job_id=1, settings=rotating)["status"] == 200


def test_without_a_secret_nothing_is_signed() -> None:
    """Unsigned webhooks still carry their id."""
    with WebhookReceiver() as receiver:
        post(payload(url=f"{receiver.url}/ok"), job_id=3, settings=settings(webhook_secret=None))
    assert receiver.last is not None
    assert receiver.last.headers["webhook-id"] == "job_3"
    assert "webhook-signature" not in receiver.last.headers


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "pässword"])
def test_unusable_secret_is_a_configuration_error(receiver: WebhookReceiver, secret: str) -> None:
    """A secret that is no base64 sends nothing, and its text is not in the error."""
    with pytest.raises(ConfigurationError, match="GOQUEUE_WEBHOOK_SECRETS: expected") as caught:
        post(payload(url=receiver.url), job_id=1, settings=settings(webhook_secret=SecretStr(secret)))
    assert receiver.received == 0
    assert "!!!" not in str(caught.value)


def test_retries_keep_the_id(receiver: WebhookReceiver) -> None:
    """Every attempt of a job carries the same webhook-id, and the receiver can count it once."""
    for _ in range(2):
        with pytest.raises(CallFailedError, match=r"^the receiver answered 503$"):
            send(receiver, "/fail/2", job_id=9)
    send(receiver, "/fail/2", job_id=9)
    assert (receiver.deliveries, receiver.accepted) == ({"job_9": 3}, {"job_9": 1})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 301, 302, 307])
def test_final_statuses_are_discarded(receiver: WebhookReceiver, status: int) -> None:
    """A refusal by the receiver is not repeated."""
    with pytest.raises(Discard, match=rf"^the receiver answered {status}$"):
        send(receiver, f"/status/{status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_statuses_are_retried(receiver: WebhookReceiver, status: int) -> None:
    """Trouble that passes fails only the attempt."""
    with pytest.raises(CallFailedError, match=rf"^the receiver answered {status}$"):
        send(receiver, f"/status/{status}")


def test_redirects_are_not_followed(receiver: WebhookReceiver) -> None:
    """A redirect could lead anywhere: the one request is all that is sent."""
    with pytest.raises(Discard, match="302"):
        send(receiver, "/redirect")
    assert receiver.received == 1


def test_retry_after_is_honoured_and_capped(receiver: WebhookReceiver) -> None:
    """The wait that the receiver asks for is taken, up to the longest backoff."""
    with pytest.raises(RetryAfter) as caught:
        send(receiver, "/throttle/120", job_id=1)
    assert caught.value.seconds == 120
    with pytest.raises(RetryAfter) as caught:
        send(receiver, "/throttle/99999999999", job_id=2)
    assert caught.value.seconds == settings().max_backoff_seconds


@pytest.mark.parametrize("path", ["/drip", "/slow/60"])
def test_timeout_is_the_time_of_the_whole_call(receiver: WebhookReceiver, path: str) -> None:
    """Neither silence nor an answer that drips byte by byte holds the worker longer than the time-out."""
    started = time.monotonic()
    with pytest.raises(CallFailedError, match=r"^no complete answer within 1 s$"):
        send(receiver, path, timeout=1)
    assert 0.9 < time.monotonic() - started < 10


def test_lost_answer_is_retried(receiver: WebhookReceiver) -> None:
    """A connection that ends without an answer fails only the attempt."""
    with pytest.raises(CallFailedError, match="RemoteProtocolError"):
        send(receiver, "/lost")
    assert send(receiver, "/lost")["status"] == 200


def test_unreachable_receiver_is_retried() -> None:
    """A refused connection fails only the attempt, and the error does not say where it went."""
    with WebhookReceiver() as receiver:
        port = receiver.port
    with pytest.raises(CallFailedError, match="ConnectError") as caught:
        send(receiver, "/ok")
    assert str(port) not in str(caught.value)


def test_large_answer_is_cut(receiver: WebhookReceiver) -> None:
    """1 KiB of the answer is kept."""
    assert send(receiver, "/large")["body"] == "x" * 1024


def test_cookies_do_not_cross_jobs(receiver: WebhookReceiver) -> None:
    """What a receiver sets in the answer to one job is not sent with the next."""
    send(receiver, "/cookie", job_id=1)
    send(receiver, "/ok", job_id=2)
    assert receiver.last is not None
    assert "cookie" not in receiver.last.headers


def test_environment_has_no_say(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is not used: it would connect where we did not check."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert send(receiver, "/ok")["status"] == 200


def test_connections_are_reused(receiver: WebhookReceiver) -> None:
    """Jobs share one client and its kept connection."""
    for job_id in range(3):
        send(receiver, "/ok", job_id=job_id)
    assert shared_caller(LOCAL) is shared_caller(LOCAL)
    assert receiver.connections == 1


REFUSED_HOSTS = [
    "127.0.0.1",
    "localhost",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "0x08080808",
    "8.8.2056",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[fc00::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
]


@pytest.mark.parametrize("host", REFUSED_HOSTS)
def test_addresses_that_are_not_global_are_refused(host: str) -> None:
    """Every way to write an inside address fails the job for good, without naming the address."""
    hook = payload(url=f"http://{host}:9/latest")
    with pytest.raises(
        Discard,
        match=r"^the receiver's address is not global, and GOQUEUE_WEBHOOK_ALLOW_NETWORKS does not allow it$",
    ):
        post(hook, job_id=1, settings=settings(webhook_allow_networks=()))


def test_unknown_name_is_retried() -> None:
    """A name that does not resolve may resolve later."""
    with pytest.raises(CallFailedError, match="ConnectError"):
        post(payload(url="http://no-such-host.invalid/"), job_id=1, settings=settings())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"url": "ftp://example.com/"}, id="scheme"),
        pytest.param({"url": "file:///etc/passwd"}, id="file"),
        pytest.param({"url": "http:///path"}, id="no host"),
        pytest.param({"url": "example.com"}, id="no scheme"),
        pytest.param({"url": ""}, id="empty"),
        pytest.param({"url": "http://user:secret@example.com/"}, id="credentials"),
        pytest.param({"url": "http://exa mple.com/"}, id="space"),
        pytest.param({"url": "http://example.com/\r\nX: 1"}, id="injection"),
        pytest.param({"url": "http://example.com:99999/"}, id="port"),
        pytest.param({"url": "http://example.com:0/"}, id="port 0"),
        pytest.param({"url": "http://0177.0.0.1/"}, id="octal address"),
        pytest.param({"url": "http://ex%61mple.com/"}, id="percent in the host"),
        pytest.param({"url": "http://a..example.com/"}, id="empty label"),
        pytest.param({"url": "http://[::1/"}, id="broken address"),
        pytest.param({"url": "http://example.com/" + "a" * 2048}, id="long"),
        pytest.param({"method": "GET"}, id="GET"),
        pytest.param({"method": "post"}, id="small letters"),
        pytest.param({"body": [1]}, id="array body"),
        pytest.param({"body": "text"}, id="text body"),
        pytest.param({"body": None}, id="null body"),
        pytest.param({"timeout": 0.5}, id="short"),
        pytest.param({"timeout": 31}, id="long time"),
        pytest.param({"timeout": "10"}, id="text time"),
        pytest.param({"timeout": True}, id="true time"),
        pytest.param({"timeout": float("nan")}, id="nan"),
        pytest.param({"headers": {"X A": "1"}}, id="no token"),
        pytest.param({"headers": {"X-A\n": "1"}}, id="newline in the name"),
        pytest.param({"headers": {"": "1"}}, id="empty name"),
        pytest.param({"headers": {"X-A": "1\r\nX-B: 2"}}, id="header injection"),
        pytest.param({"headers": {"X-A": "1\n"}}, id="newline at the end"),
        pytest.param({"headers": {"X-A": "\x00"}}, id="NUL"),
        pytest.param({"headers": {"X-A": "ü"}}, id="beyond ASCII"),
        pytest.param({"headers": {"X-A": 1}}, id="number"),
        pytest.param({"headers": {"Host": "inside"}}, id="Host"),
        pytest.param({"headers": {"content-length": "0"}}, id="Content-Length"),
        pytest.param({"headers": {"Transfer-Encoding": "chunked"}}, id="hop by hop"),
        pytest.param({"headers": {"Webhook-Signature": "v1,x"}}, id="signature"),
        pytest.param({"secret": "x"}, id="unknown field"),
    ],
)
def test_invalid_payload_is_refused(changes: dict[str, Any]) -> None:
    """What could not be sent as asked is refused, and the error does not repeat the payload."""
    with pytest.raises(ValidationError) as caught:
        payload(**changes)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize("missing", ["url", "method", "body", "timeout"])
def test_missing_field_is_refused(missing: str) -> None:
    """Every field but headers is required."""
    with pytest.raises(ValidationError, match=missing):
        WebhookPayload.model_validate({name: value for name, value in VALID.items() if name != missing})


@pytest.mark.parametrize("headers", [None, {}, {"X-A": ""}, {"Authorization": "Bearer a.b-c"}], ids=str)
def test_headers_are_optional(headers: dict[str, str] | None) -> None:
    """No headers, in whichever way they are missing, and ordinary headers are valid."""
    assert payload(headers=headers).headers == (headers or {})
    assert WebhookPayload.model_validate({k: v for k, v in VALID.items() if k != "headers"}).headers == {}


def test_nothing_of_the_payload_is_logged(
    receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even at DEBUG, where the HTTP libraries log requests, does a log line show where it went."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as events:
        send(receiver, "/ok?token=sesame", body={"password": "sesame"}, headers={"X-Key": "sesame"})
    assert events == [{"event": "webhook_delivered", "log_level": "info", "status": 200}]
    assert "sesame" not in caplog.text
    assert str(receiver.port) not in caplog.text


def test_job_type_is_declared() -> None:
    """The type has the function's name, and its jobs go to the queue webhooks."""
    assert (send_webhook.actor_name, send_webhook.queue_name) == ("send_webhook", "webhooks")
