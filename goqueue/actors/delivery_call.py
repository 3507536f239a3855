"""One attempt at a delivery: the call, what is written down of it, and what follows for its webhook."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import structlog

from goqueue import failpoints
from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import CallFailedError, retry_after_seconds, shared_caller
from goqueue.actors.webhook_call import RESULT_BODY_MAX_BYTES, readable
from goqueue.audit.actor import Actor, ActorKind, acting_as
from goqueue.errors import Discard, RetryAfter
from goqueue.observability import metrics
from goqueue.webhooks import delivery_rows as deliveries
from goqueue.webhooks import subscription_rows as subscriptions
from goqueue.webhooks.addresses import ADDRESS_REFUSED
from goqueue.webhooks.bodies import PING
from goqueue.webhooks.delivery_rows import Delivery, DeliveryState
from goqueue.webhooks.disabling import disable_in
from goqueue.webhooks.retry_rules import wait_seconds
from goqueue.webhooks.signatures import key_of, sign

if TYPE_CHECKING:
    from goqueue.config.settings import Settings
    from goqueue.db.database import Connection, Database
    from goqueue.webhooks.subscription_rows import Webhook

#: The whole call, from resolving the name to the end of the answer.
TIMEOUT_SECONDS = 15.0

GONE = 410

log = structlog.get_logger(__name__)


class Reply(NamedTuple):
    """The end of a call.

    Attributes:
        status: of the answer; None: none came.
        answer: its first KiB.
        error: why the delivery was not taken; None: it was.
        asked_seconds: the wait that the receiver asks for.
    """

    at: datetime
    seconds: float
    status: int | None
    answer: str | None
    error: str | None
    asked_seconds: float | None = None


def deliver(
    delivery_id: int,
    *,
    job_id: int,
    attempt: int,
    max_retries: int,
    settings: Settings,
    database: Database,
) -> dict[str, Any]:
    """Make one attempt at a delivery, and write it down.

    Args:
        delivery_id: the delivery.
        job_id: the job that makes the attempt: another than the delivery's own makes none.
        attempt: which one it is, from 1.
        max_retries: how many may follow the first.
        settings: which addresses are allowed, and when a webhook is disabled.
        database: where the delivery is.

    Raises:
        Discard: there is nothing to deliver any more, the receiver is gone (410), or this was the last try.
        RetryAfter: the receiver did not take it.
    """
    with database.autocommit() as connection:
        delivery = deliveries.find_of_job(connection, delivery_id, job_id)
        webhook = None if delivery is None else subscriptions.find(connection, delivery.subscription_id)
        if delivery is None or webhook is None:
            raise Discard("this delivery is no longer this job's, or its webhook was deleted")
        if delivery.state == DeliveryState.DELIVERED:
            return {"delivered_before": True}
        if not webhook.is_active and delivery.kind != PING:
            deliveries.hold(connection, delivery_id, job_id)
            return {"held_back": webhook.disabled_reason}
    reply = _call(webhook, delivery, settings)
    failpoints.hit("after_webhook_call")
    is_last = attempt > max_retries or reply.status == GONE
    _write_down(database, webhook, delivery, reply, job_id=job_id, is_last=is_last, settings=settings)
    return _verdict(reply, attempt, is_last=is_last)


def _call(webhook: Webhook, delivery: Delivery, settings: Settings) -> Reply:
    assert delivery.body is not None
    content = delivery.body.encode()
    at, began = datetime.now(UTC), time.monotonic()
    status = answer = asked = None
    try:
        got = shared_caller(settings.webhook_allow_networks).call(
            "POST",
            webhook.url,
            headers=headers_of(webhook, delivery, content, now=at),
            content=content,
            timeout_seconds=TIMEOUT_SECONDS,
        )
    except AddressRefusedError:
        error: str | None = ADDRESS_REFUSED
    except CallFailedError as failed:
        error = str(failed)
    else:
        status, answer = got.status, readable(got.body[:RESULT_BODY_MAX_BYTES])
        asked = retry_after_seconds(got.headers)
        error = None if httpx.codes.is_success(status) else f"the receiver answered {status}"
    return Reply(at, time.monotonic() - began, status, answer, error, asked)


def headers_of(webhook: Webhook, delivery: Delivery, content: bytes, *, now: datetime) -> httpx.Headers:
    """Return the headers of a call, signed by each secret that is valid now."""
    headers = httpx.Headers({"content-type": "application/json", "user-agent": "GoQueue", "accept": "*/*"})
    headers.update(webhook.headers)
    webhook_id, timestamp = webhook.id_of_delivery(delivery.id), str(int(now.timestamp()))
    keys = [key for secret in webhook.secrets if (key := key_of(secret)) is not None]
    headers.update(
        {
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(sign(key, webhook_id, timestamp, content) for key in keys),
        }
    )
    return headers


def _write_down(
    database: Database,
    webhook: Webhook,
    delivery: Delivery,
    reply: Reply,
    *,
    job_id: int,
    is_last: bool,
    settings: Settings,
) -> None:
    call = {
        "job_id": job_id,
        "at": reply.at,
        "seconds": reply.seconds,
        "status": reply.status,
        "answer": reply.answer,
        "error": reply.error,
    }
    with database.transaction() as connection:
        deliveries.note_attempt(connection, delivery.id, call, _state_after(reply, is_last=is_last))
        if reply.error is None:
            subscriptions.note_success(connection, webhook.id)
        elif delivery.kind != PING:
            bearable = settings.webhook_disable_after_seconds
            fails_for_long = subscriptions.note_failure(connection, webhook.id, bearable_seconds=bearable)
            if reply.status == GONE or fails_for_long:
                _disable(connection, webhook, _reason(reply, bearable))
    outcome = "delivered" if reply.error is None else "gone" if reply.status == GONE else "failed"
    metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
    log.info(
        "webhook_attempt",
        webhook=webhook.name,
        delivery=delivery.id,
        status=reply.status,
        outcome=outcome,
        seconds=reply.seconds,
    )


def _disable(connection: Connection, webhook: Webhook, reason: str) -> None:
    """Disable the webhook, as the service's own doing."""
    with acting_as(Actor(ActorKind.SYSTEM, "webhooks")):
        if disable_in(connection, webhook.id, reason) is not None:
            metrics.WEBHOOKS_DISABLED.inc()


def _state_after(reply: Reply, *, is_last: bool) -> DeliveryState:
    if reply.error is None:
        return DeliveryState.DELIVERED
    return DeliveryState.FAILED if is_last else DeliveryState.PENDING


def _reason(reply: Reply, bearable_seconds: float) -> str:
    if reply.status == GONE:
        return "the receiver answered 410: it is gone for good"
    return f"every attempt has failed for {bearable_seconds / 86_400:g} days; the last one: {reply.error}"


def _verdict(reply: Reply, attempt: int, *, is_last: bool) -> dict[str, Any]:
    if reply.error is None:
        return {"status": reply.status}
    if is_last:
        raise Discard(reply.error)
    raise RetryAfter(wait_seconds(attempt, asked_seconds=reply.asked_seconds), reply.error)
