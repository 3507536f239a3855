"""The jobs of a web shop, to be looked at: they complete, fail, retry, and take long and tell so."""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import goqueue

__all__ = [
    "Charge",
    "build_report",
    "charge_card",
    "publish_page",
    "resize_image",
    "send_receipt",
    "sync_stock",
]

STEPS = 20

#: So many months were counted before, and take no time.
KNOWN_STEPS = 9


class PaymentGatewayError(Exception):
    """The gateway did not take it."""


class Charge(BaseModel):
    """A payment of a customer."""

    model_config = ConfigDict(extra="forbid")

    order: int = Field(ge=1, description="The order that is paid.")
    amount: float = Field(gt=0)
    currency: Literal["EUR", "USD", "GBP"] = "EUR"


@goqueue.actor(queue="mail", max_retries=5)
def send_receipt(order: int, to: str) -> dict[str, Any]:
    """Write to a customer: quick where the server knows the address, slow where it asks around."""
    _pass(0.45 if order % 5 == 0 else 0.02 + order % 7 * 0.004)
    return {"order": order, "to": to}


@goqueue.actor(queue="payments", max_retries=3, min_backoff_seconds=20, max_backoff_seconds=600)
def charge_card(charge: Charge) -> dict[str, Any]:
    """Take the money: every seventh card is declined for good, every fifth gateway call times out once."""
    _pass(0.08)
    if charge.order % 7 == 0:
        raise goqueue.Discard(f"card declined for order {charge.order}")
    if charge.order % 11 == 0 or (charge.order % 5 == 0 and goqueue.current_job().attempt == 1):
        raise PaymentGatewayError(f"gateway timed out after 30 s for order {charge.order}")
    return {"receipt": f"ch_{charge.order:06d}", "amount": charge.amount}


@goqueue.actor(queue="images", max_retries=1, min_backoff_seconds=5)
def resize_image(path: str, width: int) -> dict[str, int]:
    """Make a picture smaller; one of a kind that cannot be is an error."""
    _pass(0.3 + width / 2000)
    if path.endswith(".heic"):
        raise ValueError(f"cannot read {path}: no decoder for HEIC")
    return {"width": width, "height": width * 2 // 3}


@goqueue.actor(queue="reports", max_retries=0)
def build_report(name: str, seconds: float) -> dict[str, Any]:
    """Count for a long time, and say how far it is."""
    job = goqueue.current_job()
    for step in range(STEPS):
        job.progress(step / STEPS, f"month {step + 1} of {STEPS}")
        job.log(f"{name}: read {(step + 1) * 1250:,} rows")
        if step >= KNOWN_STEPS:
            _pass(seconds / (STEPS - KNOWN_STEPS))
    return {
        "name": name,
        "rows": STEPS * 1250,
        "sections": [{"title": "Sales", "pages": 3}, {"title": "Stock", "pages": 2}],
    }


@goqueue.actor(queue="stock", max_retries=2)
def sync_stock(shop: str) -> int:
    """Ask a shop what it has."""
    _pass(0.15)
    return len(shop)


@goqueue.actor(queue="pages", max_retries=0)
def publish_page(title: str) -> str:
    """Show what others have made."""
    return title


def _pass(seconds: float) -> None:
    """Let time pass in steps, so that a cancel is heard."""
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))
