"""The call of the payment gateway: one charge a payment, under the payment's own key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import structlog

from goqueue.actors.outgoing import CallFailedError, HttpAnswer, expect_success, shared_caller
from goqueue.errors import Discard

if TYPE_CHECKING:
    from goqueue.actors.process_payment import PaymentPayload
    from goqueue.config.settings import Settings

PAYMENT_REQUIRED = 402

log = structlog.get_logger(__name__)


def charge(payload: PaymentPayload, *, job_id: int, settings: Settings) -> dict[str, Any]:
    """Ask the gateway once for the charge and return its id and status.

    The key is the payment's id and not the job's, so that two jobs for one payment charge once, too.

    Raises:
        Discard: the gateway declined, or answered a status that a repeat would not change.
        RetryAfter: 408, 425, 429 or 5xx with a Retry-After, cut to `settings.max_backoff_seconds`.
        CallFailedError: the same statuses without one, no connection, or no usable answer.
    """
    answer = _ask_gateway(payload, job_id, settings)
    if answer.status == PAYMENT_REQUIRED:
        raise Discard("the payment was declined")
    expect_success(answer, server="the gateway", longest_wait_seconds=settings.max_backoff_seconds)
    result = _charge_of(answer)
    log.info("payment_charged", status=result["status"])
    return result


def _ask_gateway(payload: PaymentPayload, job_id: int, settings: Settings) -> HttpAnswer:
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "user-agent": "GoQueue",
        "idempotency-key": payload.payment_id,
        "x-request-id": f"job_{job_id}",
    }
    content = json.dumps(payload.model_dump(), separators=(",", ":")).encode()
    timeout = settings.payment_timeout_seconds
    return shared_caller().call(
        "POST", settings.payment_url, headers=headers, content=content, timeout_seconds=timeout
    )


def _charge_of(answer: HttpAnswer) -> dict[str, Any]:
    # After an unusable 2xx the charge may exist: the retry asks again under the same key and learns it.
    try:
        body = json.loads(answer.body)
        charge_id, status = str(body["id"]), str(body["status"])
    except (ValueError, TypeError, KeyError):
        raise CallFailedError("the gateway's answer is not a charge with an id and a status") from None
    if status == "declined":
        raise Discard("the payment was declined")
    return {"charge_id": charge_id, "status": status}
