"""The job type `process_payment`: charge once at the payment gateway, however often the job runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from goqueue import actor
from goqueue.config.settings import get_settings
from goqueue.worker.execution import current_job

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
    from goqueue.actors.payment_call import charge  # noqa: PLC0415  (what it needs is large)

    return charge(payload, job_id=current_job().id, settings=get_settings())
