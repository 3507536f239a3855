"""Job types of the same service after the deploy."""

from __future__ import annotations

import dramatiq

import goqueue

QUEUE = "deploys"


@goqueue.actor(queue=QUEUE)
def charge(order: int, currency: str = "EUR") -> str:
    """A type with a further field."""
    return f"v2 {order} {currency}"


@goqueue.actor(queue=QUEUE)
def refund(order: int) -> str:
    """A type that is new."""
    return f"v2 {order}"


@goqueue.actor(queue=QUEUE, aliases=("notify",))
def send_notice(order: int) -> str:
    """A type with another name than before."""
    return f"v2 {order}"


@dramatiq.actor(queue_name=QUEUE)
def count(order, currency="EUR"):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  (plain Dramatiq code)
    """A plain actor with a further argument."""
    return f"v2 {order} {currency}"
