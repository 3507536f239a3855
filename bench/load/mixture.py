"""Which jobs the load is made of, and what each must come to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: The queue of the types in bench/load/jobs.py.
QUEUE = "load"

#: The number of a job among its kind, and the root of the webhook receiver → its payload.
Payload = Callable[[int, str], dict[str, Any]]

NAP_SECONDS = 0.005

#: Priorities, as often as they stand here.
PRIORITIES = (0, 0, 0, 1, -1)


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs that go the same way.

    Attributes:
        type: the job type.
        share: how many of a thousand jobs.
        runs: attempts until one ends.
        counts: its handler counts its own runs; of the others the counterpart tells.
    """

    name: str
    type: str
    queue: str
    share: int
    payload: Payload
    status: str = "completed"
    runs: int = 1
    counts: bool = True


KINDS = (
    Kind("no-op", "count", QUEUE, 550, lambda number, _: {"number": number}),
    Kind("wait of 5 ms", "nap", QUEUE, 200, lambda number, _: {"number": number, "seconds": NAP_SECONDS}),
    Kind("computation with a result", "digest", QUEUE, 140, lambda number, _: {"number": number}),
    Kind("fails once, is retried", "stumble", QUEUE, 15, lambda number, _: {"number": number}, runs=2),
    Kind("fails for good", "refuse", QUEUE, 5, lambda number, _: {"number": number}, status="failed"),
    Kind(
        "mail",
        "send_email",
        "email",
        30,
        lambda number, _: {
            "to": f"ada-{number}@example.com",
            "subject": f"Order {number}",
            "body": "Thank you for your order.",
        },
        counts=False,
    ),
    Kind(
        "payment",
        "process_payment",
        "payment",
        30,
        lambda number, _: {
            "payment_id": f"order-{number}",
            "user_id": f"user-{number}",
            "amount": 10 + number % 90,
            "currency": "EUR",
            "method": "card",
        },
        counts=False,
    ),
    Kind(
        "webhook",
        "send_webhook",
        "webhooks",
        30,
        lambda number, root: {
            "url": f"{root}/ok",
            "method": "POST",
            "body": {"event": "order.paid", "order": number},
            "timeout": 10,
        },
        counts=False,
    ),
)


@dataclass(frozen=True, slots=True)
class LoadJob:
    """One job to create: of which kind, and the body that creates it."""

    kind: Kind
    request: dict[str, Any]


def mixture(total: int, webhooks_url: str) -> list[LoadJob]:
    """So many jobs, mixed the same way every time; those that the shares leave over are of the first kind."""
    counts = {kind.name: total * kind.share // 1000 for kind in KINDS}
    counts[KINDS[0].name] += total - sum(counts.values())
    chosen = random.Random(1)
    jobs = [
        LoadJob(kind, _request(kind, number, webhooks_url, chosen.choice(PRIORITIES)))
        for kind in KINDS
        for number in range(1, counts[kind.name] + 1)
    ]
    chosen.shuffle(jobs)
    return jobs


def _request(kind: Kind, number: int, webhooks_url: str, priority: int) -> dict[str, Any]:
    return {
        "queue": kind.queue,
        "type": kind.type,
        "payload": kind.payload(number, webhooks_url),
        "priority": priority,
    }
