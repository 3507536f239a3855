"""The jobs of the demo, kind by kind, and what each must come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goqueue.jobs import JobStatus

#: A job's number among its kind, and the root of the webhook receiver → the payload.
Payload = Callable[[int, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DemoKind:
    """The jobs that go the same way.

    Attributes:
        runs: attempts until it ends.
        mails, webhooks, charges: what one job causes; for webhooks, the requests that the receiver sees.
        repeated_charges: requests for a charge that was made already, because its answer was lost.
    """

    name: str
    count: int
    queue: str
    payload: Payload
    status: JobStatus = JobStatus.COMPLETED
    runs: int = 1
    max_retries: int = 3
    mails: int = 0
    webhooks: int = 0
    charges: int = 0
    repeated_charges: int = 0

    def requests(self, webhooks_url: str) -> list[dict[str, Any]]:
        """The bodies that create the jobs."""
        return [
            {
                "queue": self.queue,
                "payload": self.payload(number, webhooks_url),
                "max_retries": self.max_retries,
            }
            for number in range(1, self.count + 1)
        ]


def kinds_of(total: int) -> list[DemoKind]:
    """Divide so many jobs among three types: most go well, some on the second run, a known few never."""
    few, rare = max(1, total // 100), max(1, total // 200)
    troubled = _troubled(few, rare)
    fine = total - sum(kind.count for kind in troubled)
    mails = charges = fine // 3
    return [
        DemoKind("mail", mails, "email", _mail("ada"), mails=1),
        DemoKind("payment", charges, "payment", _payment("order"), charges=1),
        DemoKind("webhook", fine - mails - charges, "webhooks", _webhook("/ok"), webhooks=1),
        *troubled,
    ]


def _troubled(few: int, rare: int) -> list[DemoKind]:
    failed = JobStatus.FAILED
    return [
        DemoKind("mail put off once", few, "email", _mail("defer-once"), runs=2, mails=1),
        DemoKind("mail refused", rare, "email", _mail("refuse"), failed),
        DemoKind("payment that fails once", few, "payment", _payment("fail-once"), runs=2, charges=1),
        DemoKind(
            "payment whose answer is lost",
            few,
            "payment",
            _payment("lose-answer"),
            runs=2,
            charges=1,
            repeated_charges=1,
        ),
        DemoKind("payment declined", rare, "payment", _payment("decline"), failed),
        DemoKind("webhook that fails once", few, "webhooks", _webhook("/fail/1"), runs=2, webhooks=2),
        DemoKind(
            "webhook to a receiver that is gone", rare, "webhooks", _webhook("/gone"), failed, webhooks=1
        ),
        DemoKind(
            "webhook that always fails",
            rare,
            "webhooks",
            _webhook("/status/500"),
            failed,
            runs=3,
            max_retries=2,
            webhooks=3,
        ),
    ]


def _mail(name: str) -> Payload:
    return lambda number, _: {
        "to": f"{name}-{number}@example.com",
        "subject": f"Order {number}",
        "body": "Thank you for your order.",
    }


def _payment(prefix: str) -> Payload:
    return lambda number, _: {
        "payment_id": f"{prefix}-{number}",
        "user_id": f"user-{number}",
        "amount": 10 + number % 90,
        "currency": "EUR",
        "method": "card",
    }


def _webhook(path: str) -> Payload:
    return lambda number, root: {
        "url": f"{root}{path}",
        "method": "POST",
        "body": {"event": "order.paid", "order": number},
        "timeout": 10,
    }
