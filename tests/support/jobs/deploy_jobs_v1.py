"""Job types of a service before a deploy."""

from __future__ import annotations

import dramatiq

import goqueue

QUEUE = "deploys"


@goqueue.actor(queue=QUEUE)
def charge(order: int) -> str:
    """A type that the next version gives a further field."""
    return f"v1 {order}"


@goqueue.actor(queue=QUEUE)
def archive(order: int) -> str:
    """A type that the next version does not have any more."""
    return f"v1 {order}"


@goqueue.actor(queue=QUEUE)
def notify(order: int) -> str:
    """A type that the next version has under another name."""
    return f"v1 {order}"


@dramatiq.actor(queue_name=QUEUE)
def count(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  (plain Dramatiq code)
    """A plain actor that the next version gives a further argument."""
    return f"v1 {order}"
