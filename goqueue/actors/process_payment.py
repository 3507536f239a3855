"""The job type `process_payment`: charge once at the payment gateway, however often the job runs."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from goqueue import actor
from goqueue.actors.outgoing import CallFailedError, HttpAnswer, expect_success, shared_caller
from goqueue.config.settings import Settings, get_settings
from goqueue.errors import Discard
from goqueue.worker.execution import current_job

PAYMENT_REQUIRED = 402

# ISO 4217, list one, without the codes that nobody pays in: bond market units, metals, XTS and XXX.
CURRENCIES_TEXT = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
    CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL
    GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW
    KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD
    NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP
    SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS
    VED VES VND VUV WST XAD XAF XCD XCG XDR XOF XPF XSU XUA YER ZAR ZMW ZWG
"""
CURRENCIES = frozenset(CURRENCIES_TEXT.split())

log = structlog.get_logger(__name__)


def _check_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise PydanticCustomError("currency", "expected a three-letter ISO 4217 currency code")
    return code


class PaymentPayload(BaseModel):
    """What to charge.

    Attributes:
        payment_id: names this payment at the gateway, for ever; visible ASCII, for it is sent as a header.
        amount: in units of the currency, as the gateway takes it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    payment_id: str = Field(pattern=r"^[\x21-\x7e]{1,200}$")
    user_id: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
    amount: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
    currency: Annotated[str, AfterValidator(_check_currency)]
    method: Literal["card", "upi", "netbanking", "wallet"]


@actor(queue="payment", name="process_payment")
def process_payment(payload: PaymentPayload) -> dict[str, Any]:
    """Charge the payment at the gateway; every retry repeats the same `Idempotency-Key`."""
    return charge(payload, job_id=current_job().id, settings=get_settings())


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
