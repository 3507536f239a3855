"""What may be said of a webhook, how it is signed, and when it is tried again."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.events.event import EventKind
from goqueue.webhooks.filters import is_kind
from goqueue.webhooks.requests import NewWebhook, WebhookChanges
from goqueue.webhooks.retry_rules import RETRIES, WAITS_SECONDS, wait_seconds
from goqueue.webhooks.signatures import SECRET_BYTES, key_of, new_secret, sign

VALID = {"name": "shop", "url": "https://example.com/hook"}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1\r\nX-B: 2"},
        {"X-A\r\nX-B": "1"},
        {"X-A": "1\n"},
        {"Host": "inside"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"webhook-id": "mine"},
        {"Webhook-Signature": "v1,mine"},
        {"X-A": "ä"},
        {"": "1"},
        {"X A": "1"},
        {f"X-{number}": "1" for number in range(51)},
    ],
)
def test_hostile_headers_are_refused(headers: dict[str, str]) -> None:
    """Whatever could garble the message, lead it elsewhere or forge its signature."""
    with pytest.raises(InvalidJobError, match="headers"):
        validate(NewWebhook, {**VALID, "headers": headers})
    with pytest.raises(InvalidJobError, match="headers"):
        validate(WebhookChanges, {"headers": headers})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": "../x"},
        {"name": ""},
        {"name": "x" * 101},
        {"url": "ftp://example.com/"},
        {"url": "https://user:password@example.com/"},
        {"url": "https://"},
        {"url": "https://example.com:0/"},
        {"events": ["job.exploded"]},
        {"events": ["*"]},
        {"events": [".*"]},
        {"secret": "whsec_c2hvcnQ="},
        {"secret": "whsec_!!!"},
        {"secret": "password"},
        {"secret": base64.b64encode(bytes(32)).decode()},
        {"tags": [""]},
        {"queues": "mail"},
        {"queues": ["mail"] * 101},
        {"with_contents": 1},
        {"method": "GET"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """Names that are no names, URLs that are none, kinds that do not exist, secrets that are too short."""
    with pytest.raises(InvalidJobError):
        validate(NewWebhook, {**VALID, **wrong})


def test_changes_are_what_was_given() -> None:
    """Null takes a filter away and anything else back to its default, but a URL there has to be."""
    assert validate(WebhookChanges, {}).changes() == {}
    document: dict[str, Any] = {"url": None, "events": None, "queues": [], "headers": None, "ordered": None}
    assert validate(WebhookChanges, document).changes() == {
        "events": None,
        "queues": None,
        "headers": {},
        "ordered": False,
    }


def test_every_kind_and_every_subject_can_be_chosen() -> None:
    """`job.completed`, and `job.*` for all of jobs."""
    for kind in EventKind:
        assert is_kind(kind)
        assert is_kind(f"{kind.partition('.')[0]}.*")


def test_the_official_package_verifies_our_signatures() -> None:
    """With secrets of every length that Standard Webhooks allows, with `whsec_` and without."""
    for length in (*SECRET_BYTES, 32):
        secret = "whsec_" + base64.b64encode(bytes(range(length))).decode()
        key = key_of(secret)
        assert key is not None
        assert key_of(secret.removeprefix("whsec_")) == key
        headers = {"webhook-id": "msg_1", "webhook-timestamp": "1000000000"}
        signature = sign(key, "msg_1", "1000000000", b'{"a":"\xc3\xa4"}')
        verifier = Verifier(secret)
        moment = datetime.fromtimestamp(1_000_000_000, UTC)
        assert signature == verifier.sign(headers["webhook-id"], moment, '{"a":"ä"}')


def test_new_secrets_are_random() -> None:
    """32 bytes each, and none comes twice."""
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(key_of(secret) or b"") for secret in secrets} == {32}


def test_retries_last_three_days() -> None:
    """The schedule of Standard Webhooks, each wait a little longer at random, or what is asked for."""
    assert RETRIES == 9
    assert 3 * 86_400 < sum(WAITS_SECONDS) < 3.5 * 86_400
    for attempt, seconds in enumerate(WAITS_SECONDS, 1):
        assert seconds <= wait_seconds(attempt) <= 1.1 * seconds
    assert wait_seconds(1, asked_seconds=900) == 900
    assert wait_seconds(1, asked_seconds=1e9) == WAITS_SECONDS[-1]
    assert wait_seconds(3, asked_seconds=1) >= 1_800
