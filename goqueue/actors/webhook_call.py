"""The call of a webhook: signed by the Standard Webhooks scheme, and only to addresses that are allowed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import HttpAnswer, expect_success, shared_caller
from goqueue.errors import ConfigurationError, Discard
from goqueue.webhooks.addresses import ADDRESS_REFUSED
from goqueue.webhooks.signatures import key_of, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.actors.send_webhook import WebhookPayload
    from goqueue.config.settings import Settings

RESULT_BODY_MAX_BYTES = 1024

log = structlog.get_logger(__name__)


def post(payload: WebhookPayload, *, job_id: int, settings: Settings) -> dict[str, Any]:
    """Make the call once and return the status and the first 1 KiB of the answer.

    Redirects are not followed. Only global addresses are connected to, and what
    `settings.webhook_allow_networks` allows besides; the check is part of connecting.

    Raises:
        Discard: the address is refused, or the answer is a 3xx, or a 4xx other than 408, 425 and 429.
        RetryAfter: 408, 425, 429 or 5xx with a Retry-After, cut to `settings.max_backoff_seconds`.
        CallFailedError: the same statuses without one, no connection, or no complete answer in time.
        ConfigurationError: a secret of the receiver is no Standard Webhooks secret.
    """
    content = json.dumps(payload.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = _headers(payload, content, job_id, _secrets_for(payload.url, settings))
    answer = _call(payload, headers, content, settings)
    expect_success(answer, server="the receiver", longest_wait_seconds=settings.max_backoff_seconds)
    log.info("webhook_delivered", status=answer.status)
    return {"status": answer.status, "body": readable(answer.body[:RESULT_BODY_MAX_BYTES])}


def _secrets_for(url: str, settings: Settings) -> list[str]:
    """What a call to a receiver is signed with: its own secret, or that of all; two while it changes."""
    host = httpx.URL(url).host.lower().rstrip(".")
    secret = settings.webhook_secrets.get(host, settings.webhook_secret)
    return [] if secret is None else secret.get_secret_value().split()


def _headers(payload: WebhookPayload, content: bytes, job_id: int, secrets: Sequence[str]) -> httpx.Headers:
    headers = httpx.Headers({"content-type": "application/json", "user-agent": "GoQueue", "accept": "*/*"})
    headers.update(payload.headers)
    webhook_id, timestamp = f"job_{job_id}", str(int(time.time()))
    headers.update({"webhook-id": webhook_id, "webhook-timestamp": timestamp})
    if secrets:
        signatures = [sign(_key(secret), webhook_id, timestamp, content) for secret in secrets]
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def _key(secret: str) -> bytes:
    key = key_of(secret)
    if key is None:
        raise ConfigurationError(
            ["GOQUEUE_WEBHOOK_SECRET, GOQUEUE_WEBHOOK_SECRETS: expected whsec_ and base64"]
        )
    return key


def _call(payload: WebhookPayload, headers: httpx.Headers, content: bytes, settings: Settings) -> HttpAnswer:
    try:
        return shared_caller(settings.webhook_allow_networks).call(
            payload.method, payload.url, headers=headers, content=content, timeout_seconds=payload.timeout
        )
    except AddressRefusedError:
        raise Discard(ADDRESS_REFUSED) from None


def readable(body: bytes) -> str:
    """Return the text of an answer as it can be kept."""
    # PostgreSQL's jsonb cannot hold a NUL.
    return body.decode(errors="replace").replace("\x00", "\ufffd")
