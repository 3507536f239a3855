"""The log of deliveries as rows: read, counted, delivered again, and deleted by age."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one, text_array
from goqueue.errors import WebhookDeliveryNotFoundError
from goqueue.webhooks.delivery_rows import COLUMNS, Delivery, DeliveryState

__all__ = [
    "Call",
    "DeliveryFilter",
    "attempts",
    "clean",
    "clean_deleted",
    "counts",
    "get",
    "page",
    "redeliver",
    "redeliver_range",
]

_GET = f"""
    SELECT {COLUMNS}, d.body FROM webhook_deliveries AS d
    WHERE d.id = %(id)s AND d.subscription_id = %(subscription_id)s
"""

_ATTEMPTS = """
    SELECT id, job_id, at, seconds, status, answer, error FROM webhook_attempts
    WHERE delivery_id = %(id)s ORDER BY id
"""

_REDELIVER = """
    UPDATE webhook_deliveries SET state = 'waiting', job_id = NULL, finished_at = NULL
    WHERE id = %(id)s AND state IN ('delivered', 'failed') RETURNING id
"""

_REDELIVER_RANGE = """
    WITH chosen AS (
        SELECT id, state FROM webhook_deliveries
        WHERE subscription_id = %(subscription_id)s AND id > %(after)s
          AND created_at >= %(since)s AND created_at < coalesce(%(until)s::timestamptz, now())
          AND state = ANY (%(states)s::text[]) AND kind <> 'webhook.ping'
        ORDER BY id LIMIT %(limit)s
    )
    UPDATE webhook_deliveries AS d SET state = 'waiting', job_id = NULL, finished_at = NULL
    FROM chosen WHERE d.id = chosen.id AND d.state = ANY (%(states)s::text[])
    RETURNING d.id
"""

_CONDITIONS = {
    "state": "d.state = %(state)s",
    "kind": "d.kind = %(kind)s",
    "job_id": "d.about_job_id = %(job_id)s",
    "since": "d.created_at >= %(since)s",
    "until": "d.created_at < %(until)s",
}

# Each state is counted no further than that: who has more, has many.
_COUNTS = """
    SELECT chosen.id, state.name, (
        SELECT count(*) FROM (
            SELECT FROM webhook_deliveries
            WHERE subscription_id = chosen.id AND state = state.name LIMIT %(most)s) AS one)
    FROM unnest(%(ids)s::bigint[]) AS chosen (id)
    CROSS JOIN unnest(ARRAY['waiting', 'pending', 'delivered', 'failed']) AS state (name)
"""

# What is still to be delivered stays.
_CLEAN = """
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE created_at < now() - make_interval(secs => %(age)s) AND state IN ('delivered', 'failed')
        ORDER BY created_at LIMIT %(limit)s)
    RETURNING id
"""

_CLEAN_DELETED = """
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT own.id FROM webhook_subscriptions AS s
        CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries WHERE subscription_id = s.id ORDER BY id LIMIT %(limit)s) AS own
        WHERE s.deleted_at IS NOT NULL LIMIT %(limit)s)
    RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a receiver.

    Attributes:
        job_id: the job that made it.
        seconds: how long it took.
        status: of the answer; None: none came.
        answer: its first KiB.
        error: why it counts as failed.
    """

    id: int
    job_id: int
    at: datetime
    seconds: float
    status: int | None
    answer: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """A choice of deliveries; what is None does not matter.

    Attributes:
        job_id: of the job that the event is about.
        since, until: the first belongs to the range, the second does not.
    """

    state: str | None = None
    kind: str | None = None
    job_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def get(connection: Connection, name: str, subscription_id: int, delivery_id: int) -> Delivery:
    """Return a delivery of a subscription, with its body.

    Raises:
        WebhookDeliveryNotFoundError: it has none with this id.
    """
    row = fetch_one(connection, _GET, {"id": delivery_id, "subscription_id": subscription_id})
    if row is None:
        raise WebhookDeliveryNotFoundError(name, delivery_id)
    return Delivery(*row)


def attempts(connection: Connection, delivery_id: int) -> list[Call]:
    """List the calls of a delivery, the first one first."""
    return [Call(*row) for row in fetch_all(connection, _ATTEMPTS, {"id": delivery_id})]


def page(
    connection: Connection,
    subscription_id: int,
    wanted: DeliveryFilter,
    *,
    limit: int,
    before_id: int | None = None,
) -> list[Delivery]:
    """List deliveries without their bodies, the newest first, with ids below one."""
    parameters: dict[str, Any] = {"subscription_id": subscription_id, "limit": limit, "before_id": before_id}
    conditions = ["d.subscription_id = %(subscription_id)s"]
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            parameters[name] = value
            conditions.append(condition)
    if before_id is not None:
        conditions.append("d.id < %(before_id)s")
    sql = (
        f"SELECT {COLUMNS} FROM webhook_deliveries AS d WHERE {' AND '.join(conditions)} "
        "ORDER BY d.id DESC LIMIT %(limit)s"
    )
    return [Delivery(*row) for row in fetch_all(connection, sql, parameters)]


def counts(
    connection: Connection, subscription_ids: Collection[int], *, most: int
) -> dict[int, dict[str, int]]:
    """Count the deliveries of each subscription by their states, each no further than `most`."""
    found: dict[int, dict[str, int]] = {}
    for row in fetch_all(connection, _COUNTS, {"ids": array(subscription_ids), "most": most}):
        found.setdefault(row[0], {})[row[1]] = row[2]
    return found


def redeliver(connection: Connection, delivery_id: int) -> bool:
    """Let a delivery that has ended wait for another job; whether it had."""
    return fetch_one(connection, _REDELIVER, {"id": delivery_id}) is not None


def redeliver_range(
    connection: Connection,
    subscription_id: int,
    *,
    since: datetime,
    until: datetime | None,
    states: Collection[DeliveryState],
    after_id: int,
    limit: int,
) -> list[int]:
    """Let deliveries that have ended wait for other jobs, a batch of them; their ids, in ascending order."""
    parameters = {
        "subscription_id": subscription_id,
        "since": since,
        "until": until,
        "states": text_array(tuple(states)),
        "after": after_id,
        "limit": limit,
    }
    return sorted(row[0] for row in fetch_all(connection, _REDELIVER_RANGE, parameters))


def clean(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Delete deliveries that have ended and are older than the age; how many."""
    return len(fetch_all(connection, _CLEAN, {"age": age_seconds, "limit": limit}))


def clean_deleted(connection: Connection, *, limit: int) -> int:
    """Delete deliveries of deleted subscriptions; how many."""
    return len(fetch_all(connection, _CLEAN_DELETED, {"limit": limit}))
