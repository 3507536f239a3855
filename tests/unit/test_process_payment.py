"""The job type process_payment, against a real gateway that counts its charges."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from goqueue.actors.outgoing import CallFailedError
from goqueue.actors.payment_call import charge
from goqueue.actors.process_payment import CURRENCIES, PaymentPayload, process_payment
from goqueue.config.settings import Settings
from goqueue.dev.fakes.payment_sandbox import PaymentSandbox
from goqueue.errors import Discard, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Iterator

VALID = {"payment_id": "pay-1", "user_id": "u-1", "amount": 12.5, "currency": "EUR", "method": "card"}


@pytest.fixture
def gateway() -> Iterator[PaymentSandbox]:
    """A running gateway."""
    with PaymentSandbox() as running:
        yield running


def payload(**changes: Any) -> PaymentPayload:
    """A valid payload with these changes."""
    return PaymentPayload.model_validate({**VALID, **changes})


def settings_for(gateway: PaymentSandbox, **more: Any) -> Settings:
    """Settings that charge at this gateway."""
    return Settings(payment_url=gateway.charges_url, **more)


def test_payment_is_charged(gateway: PaymentSandbox) -> None:
    """The result names the charge and its status."""
    result = charge(payload(), job_id=1, settings=settings_for(gateway))
    assert result == {"charge_id": "ch_1", "status": "succeeded"}
    assert gateway.charges == {"pay-1": 1}


def test_repeats_charge_once(gateway: PaymentSandbox) -> None:
    """Any number of runs, by the same job or by another, end in one charge."""
    settings = settings_for(gateway)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: charge(payload(), job_id=job, settings=settings), range(16)))
    assert gateway.charges == {"pay-1": 1}
    assert {result["charge_id"] for result in results} == {"ch_1"}
    assert gateway.repeats == 15


def test_lost_answer_charges_once(gateway: PaymentSandbox) -> None:
    """When the answer is lost after the charge, the retry learns of the charge instead of making another."""
    lost = payload(payment_id="lose-answer-1")
    with pytest.raises(CallFailedError):
        charge(lost, job_id=1, settings=settings_for(gateway))
    assert charge(lost, job_id=1, settings=settings_for(gateway))["status"] == "succeeded"
    assert gateway.charges == {"lose-answer-1": 1}


def test_slow_answer_is_retried_and_charges_once(gateway: PaymentSandbox) -> None:
    """A time-out fails the attempt in time, and the retry does not charge again."""
    gateway.slow("slow", seconds=60, times=1)
    started = time.monotonic()
    with pytest.raises(CallFailedError, match="no complete answer within"):
        charge(
            payload(payment_id="slow-1"),
            job_id=1,
            settings=settings_for(gateway, payment_timeout_seconds=0.2),
        )
    assert time.monotonic() - started < 10
    charge(payload(payment_id="slow-1"), job_id=1, settings=settings_for(gateway))
    assert gateway.charges == {"slow-1": 1}


def test_declined_is_discarded(gateway: PaymentSandbox) -> None:
    """A declined payment is final: no retry, no charge."""
    with pytest.raises(Discard, match="declined"):
        charge(payload(payment_id="decline-1"), job_id=1, settings=settings_for(gateway))
    assert not gateway.charges


def test_same_id_with_another_amount_is_discarded(gateway: PaymentSandbox) -> None:
    """A payment id that was used for something else is refused for good (409)."""
    charge(payload(), job_id=1, settings=settings_for(gateway))
    with pytest.raises(Discard, match="409"):
        charge(payload(amount=99), job_id=2, settings=settings_for(gateway))
    assert gateway.charges == {"pay-1": 1}


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422])
def test_refusal_is_discarded(gateway: PaymentSandbox, status: int) -> None:
    """An answer that a repeat would not change fails the job for good."""
    gateway.fail("pay", times=1, status=status)
    with pytest.raises(Discard, match=f"^the gateway answered {status}$"):
        charge(payload(), job_id=1, settings=settings_for(gateway))


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_outage_is_retried(gateway: PaymentSandbox, status: int) -> None:
    """A gateway in trouble fails only the attempt."""
    gateway.fail("pay", times=1, status=status)
    with pytest.raises(CallFailedError, match=f"^the gateway answered {status}$"):
        charge(payload(), job_id=1, settings=settings_for(gateway))
    assert charge(payload(), job_id=1, settings=settings_for(gateway))["status"] == "succeeded"


def test_retry_after_is_honoured(gateway: PaymentSandbox) -> None:
    """A 429 says how long to wait; the wait is cut to the longest backoff."""
    gateway.throttle("pay", retry_after_seconds=90, times=2)
    with pytest.raises(RetryAfter) as caught:
        charge(payload(), job_id=1, settings=settings_for(gateway))
    assert caught.value.seconds == 90
    with pytest.raises(RetryAfter) as caught:
        charge(payload(), job_id=1, settings=settings_for(gateway, max_backoff_seconds=60.0))
    assert caught.value.seconds == 60


def test_unreachable_gateway_is_retried() -> None:
    """A refused connection fails the attempt, not the job."""
    with PaymentSandbox() as gateway:
        settings = settings_for(gateway)
    with pytest.raises(CallFailedError, match="ConnectError"):
        charge(payload(), job_id=1, settings=settings)


@pytest.mark.parametrize("amount", [1, 0.01, 10**30, 12.5], ids=str)
def test_amount_is_sent_as_given(gateway: PaymentSandbox, amount: float) -> None:
    """Whole and broken amounts, small and huge, are charged."""
    assert payload(amount=amount).amount == amount
    charge(payload(amount=amount), job_id=1, settings=settings_for(gateway))
    assert gateway.charges == {"pay-1": 1}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"amount": 0}, id="zero"),
        pytest.param({"amount": -1}, id="negative"),
        pytest.param({"amount": "12.5"}, id="text"),
        pytest.param({"amount": True}, id="true"),
        pytest.param({"amount": math.nan}, id="nan"),
        pytest.param({"amount": math.inf}, id="infinite"),
        pytest.param({"currency": "eur"}, id="small letters"),
        pytest.param({"currency": "EURO"}, id="four letters"),
        pytest.param({"currency": "ABC"}, id="unassigned"),
        pytest.param({"currency": "XXX"}, id="no currency"),
        pytest.param({"method": "cash"}, id="unknown method"),
        pytest.param({"payment_id": ""}, id="empty id"),
        pytest.param({"payment_id": 7}, id="numeric id"),
        pytest.param({"payment_id": "x" * 201}, id="long id"),
        pytest.param({"payment_id": "pay-1\r\nX-Admin: 1"}, id="injection"),
        pytest.param({"payment_id": "pay-1\n"}, id="newline at the end"),
        pytest.param({"user_id": " "}, id="blank user"),
        pytest.param({"card_number": "4111"}, id="unknown field"),
    ],
)
def test_invalid_payload_is_refused(changes: dict[str, Any]) -> None:
    """What is not a payment is refused."""
    with pytest.raises(ValidationError):
        payload(**changes)


@pytest.mark.parametrize("missing", VALID)
def test_missing_field_is_refused(missing: str) -> None:
    """Every field is required."""
    with pytest.raises(ValidationError, match=missing):
        PaymentPayload.model_validate({name: value for name, value in VALID.items() if name != missing})


@pytest.mark.parametrize("method", ["card", "upi", "netbanking", "wallet"])
def test_every_method_is_taken(method: str) -> None:
    """The four methods of the contract are valid."""
    assert payload(method=method).method == method


def test_currencies_are_codes() -> None:
    """The list holds the common currencies, in capital letters of three."""
    assert {"EUR", "INR", "USD", "JPY", "GBP", "CHF"} <= CURRENCIES
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in CURRENCIES)


def test_nothing_of_the_payload_is_logged(gateway: PaymentSandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The one log line has the charge's status and neither ids nor amounts."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as events:
        charge(payload(payment_id="sesame", user_id="sesame"), job_id=1, settings=settings_for(gateway))
    assert events == [{"event": "payment_charged", "log_level": "info", "status": "succeeded"}]
    assert "sesame" not in caplog.text


def test_job_type_is_declared() -> None:
    """The type has the function's name, and its jobs go to the queue payment."""
    assert (process_payment.actor_name, process_payment.queue_name) == ("process_payment", "payment")
