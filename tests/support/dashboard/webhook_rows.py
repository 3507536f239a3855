"""A webhook with a past, as rows: disabled, with a gap, and deliveries in every state. Nobody is called."""

from __future__ import annotations

import json
from typing import Any

from goqueue.db.database import Database

__all__ = ["insert_webhook"]


def insert_webhook(database: Database, name: str, text: str) -> list[str]:
    """Insert a webhook that says a text wherever one can stand; the ids of its deliveries.

    Args:
        database: where.
        name: of the webhook.
        text: its filters, the reason for which it is disabled, and what its receiver answered.
    """
    with database.transaction() as connection:
        subscription_id = _row(
            connection,
            "webhook_subscriptions",
            name=name,
            token="k3v9c0x2m7qa",
            url=f"https://hooks.shop.example/{text}",
            events=["job.completed", "job.failed", text],
            queues=[text],
            types=[text],
            tags=[text],
            headers=json.dumps({"X-Tenant": "acme", text[:90]: text}),
            secret="whsec_",
            previous_secret="whsec_",
            previous_until="2100-01-01T00:00:00Z",
            state="disabled",
            disabled_reason=text,
            cursor="1.0",
            gap_since="2026-11-28T08:00:00Z",
            gap_until="2026-11-28T11:30:00Z",
            created_by=text,
        )
        return [
            str(_deliver(connection, subscription_id, number, state, text))
            for number, state in enumerate(("failed", "delivered", "waiting", "delivered"), 1)
        ]


def _deliver(connection: Any, subscription_id: int, number: int, state: str, text: str) -> int:
    body = {"type": "job.completed", "timestamp": "2026-11-28T12:00:00Z"}
    delivery_id = _row(
        connection,
        "webhook_deliveries",
        subscription_id=subscription_id,
        event_id=None if number == 3 else number,
        kind="webhook.gap" if number == 3 else "job.completed",
        about_job_id=None if number == 3 else number,
        body=json.dumps(body | {"data": {"job_id": number, "queue": text, "status": "completed"}}),
        state=state,
        job_id=None if state == "waiting" else number,
        finished_at=None if state == "waiting" else "2026-11-28T12:00:05Z",
    )
    answers = [(503, text), (None, None)] if state == "failed" else [(200, "{}")]
    for status, answer in answers if state != "waiting" else []:
        _row(
            connection,
            "webhook_attempts",
            delivery_id=delivery_id,
            job_id=number,
            at="2026-11-28T12:00:04Z",
            seconds=0.25,
            status=status,
            answer=answer,
            error=None if status == 200 else text,
        )
    return delivery_id


def _row(connection: Any, table: str, **values: Any) -> int:
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    sql = f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING id"
    return int(connection.exec_driver_sql(sql, values).scalar_one())
