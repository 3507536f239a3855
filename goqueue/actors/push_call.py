"""The call that sends a job to the URL of its type: signed, and its answer is the outcome of the attempt."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from goqueue.actors.async_outgoing import call
from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import HttpAnswer, expect_success
from goqueue.config.settings import Settings
from goqueue.errors import Discard
from goqueue.middleware.current_job import CurrentJob
from goqueue.remote.declaration import PUSH_MAX_SECONDS
from goqueue.remote.declared_type_rows import DeclaredType
from goqueue.webhooks.addresses import ADDRESS_REFUSED
from goqueue.webhooks.signatures import key_of, sign
from goqueue.worker.execution import attempt_here

__all__ = ["push_job"]


async def push_job(declared: DeclaredType, settings: Settings) -> Any:
    """Send the job that is worked on here, and return the body of a 2xx as its result: JSON, or else a text.

    Raises:
        Discard: the address is refused, or the answer is a 3xx, or a 4xx other than 408, 425 and 429, or a
            2xx whose body is larger than a result may be.
        RetryAfter: 408, 425, 429 or 5xx with a Retry-After, cut to `settings.max_backoff_seconds`.
        CallFailedError: the same statuses without one, no connection, or no complete answer in time.
    """
    current = attempt_here()
    assert current is not None, "a worker calls this in an attempt"
    assert declared.url is not None, "only a type with a URL is declared to be pushed"
    content = _body(current, current.claimed.payload)
    try:
        answer = await call(
            "POST",
            declared.url,
            headers=_headers(declared, current, content),
            content=content,
            timeout_seconds=PUSH_MAX_SECONDS,
            answer_max_bytes=settings.result_max_bytes + 1,
            allow_networks=settings.webhook_allow_networks,
        )
    except AddressRefusedError:
        raise Discard(ADDRESS_REFUSED) from None
    expect_success(answer, server="the receiver", longest_wait_seconds=settings.max_backoff_seconds)
    return _result(answer, settings.result_max_bytes)


def _body(current: CurrentJob, payload: str) -> bytes:
    """The job as it is sent; the payload is the text that is stored."""
    return orjson.dumps(
        {
            "id": current.id,
            "type": current.type,
            "queue": current.queue,
            "attempt": current.attempt,
            "fence": current.fence,
            "payload": orjson.Fragment(payload),
        }
    )


def _headers(declared: DeclaredType, current: CurrentJob, content: bytes) -> httpx.Headers:
    """The headers of a call: each run of a job is a message of its own, and each call of it has its id."""
    message_id, timestamp = f"job_{current.id}_{current.fence}", str(int(time.time()))
    signatures = [sign(key, message_id, timestamp, content) for key in _keys_of(declared)]
    return httpx.Headers(
        {
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": "GoQueue",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(signatures),
            "idempotency-key": message_id,
            "goqueue-job-id": str(current.id),
            "goqueue-attempt": str(current.attempt),
        }
    )


def _keys_of(declared: DeclaredType) -> list[bytes]:
    """The secret of the type, and the one before a rotation as long as both are good."""
    secrets = [] if declared.secret is None else [declared.secret]
    is_overlapping = declared.previous_until is not None and declared.previous_until > datetime.now(UTC)
    if is_overlapping and declared.previous_secret:
        secrets.append(declared.previous_secret)
    return [key for secret in secrets if (key := key_of(secret)) is not None]


def _result(answer: HttpAnswer, most: int) -> Any:
    if len(answer.body) > most:
        raise Discard(f"the receiver answered with more than {most:,} bytes, which is no result that is kept")
    if not answer.body:
        return None
    text = answer.body.decode(errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # PostgreSQL's JSON cannot hold a NUL.
        return text.replace("\x00", "\ufffd")
