"""Deliveries as rows: one for each event that a subscription is told of, and the calls that it took."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one, text_array
from goqueue.errors import WebhookDeliveryNotFoundError

__all__ = [
    "AboutJob",
    "Call",
    "Delivery",
    "DeliveryFilter",
    "DeliveryState",
    "NewDelivery",
    "Waiting",
    "about_jobs",
    "attempts",
    "begin",
    "clean",
    "clean_deleted",
    "counts",
    "find_of_job",
    "get",
    "hold",
    "insert",
    "note_attempt",
    "page",
    "redeliver",
    "redeliver_range",
    "settle",
    "waiting",
]

_COLUMNS = (
    "d.id, d.subscription_id, d.event_id, d.kind, d.about_job_id, d.state, d.job_id, d.created_at, "
    "d.finished_at, (SELECT count(*) FROM webhook_attempts WHERE delivery_id = d.id)"
)

_INSERT = """
    INSERT INTO webhook_deliveries (subscription_id, event_id, kind, about_job_id, body)
    SELECT subscription_id, event_id, kind, about_job_id, body
    FROM ROWS FROM (
        json_to_recordset(%(rows)s::json)
            AS (subscription_id bigint, event_id bigint, kind text, about_job_id bigint, body text)
    ) WITH ORDINALITY AS new (subscription_id, event_id, kind, about_job_id, body, place)
    ORDER BY place
    ON CONFLICT (subscription_id, event_id) WHERE event_id IS NOT NULL DO NOTHING
    RETURNING id
"""

# So many of each subscription as may still have jobs at the same time, the oldest first: two short walks
# along webhook_deliveries_state_idx.
_WAITING = """
    SELECT d.id, d.subscription_id, d.kind
    FROM unnest(%(ids)s::bigint[]) AS chosen (id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM webhook_deliveries
            WHERE subscription_id = chosen.id AND state = 'pending' LIMIT %(most)s) AS one
    ) AS pending
    CROSS JOIN LATERAL (
        SELECT id, subscription_id, kind FROM webhook_deliveries
        WHERE subscription_id = chosen.id AND state = 'waiting'
        ORDER BY id LIMIT %(most)s - pending.jobs
    ) AS d
    ORDER BY d.id
"""
_BEGIN = """
    UPDATE webhook_deliveries AS d SET state = 'pending', job_id = new.job_id, finished_at = NULL
    FROM json_to_recordset(%(rows)s::json) AS new (id bigint, job_id bigint)
    WHERE d.id = new.id RETURNING d.id
"""
_OF_JOB = f"""
    SELECT {_COLUMNS}, d.body FROM webhook_deliveries AS d WHERE d.id = %(id)s AND d.job_id = %(job_id)s
"""
_GET = f"""
    SELECT {_COLUMNS}, d.body FROM webhook_deliveries AS d
    WHERE d.id = %(id)s AND d.subscription_id = %(subscription_id)s
"""

_HOLD = """
    UPDATE webhook_deliveries SET state = 'waiting', job_id = NULL
    WHERE id = %(id)s AND job_id = %(job_id)s AND state = 'pending' RETURNING id
"""
_NOTE_ATTEMPT = """
    INSERT INTO webhook_attempts (delivery_id, job_id, at, seconds, status, answer, error)
    VALUES (%(id)s, %(job_id)s, %(at)s, %(seconds)s, %(status)s, %(answer)s, %(error)s) RETURNING id
"""
_SET_STATE = """
    UPDATE webhook_deliveries
    SET state = %(state)s, finished_at = CASE WHEN %(state)s IN ('delivered', 'failed') THEN now() END
    WHERE id = %(id)s AND job_id = %(job_id)s RETURNING id
"""

# Its job ended without it: cancelled, deleted, lost with its workers.
_SETTLE = """
    UPDATE webhook_deliveries AS d SET state = 'failed', finished_at = now()
    FROM (
        SELECT pending.id FROM webhook_subscriptions AS s
        CROSS JOIN LATERAL (
            SELECT id, job_id FROM webhook_deliveries
            WHERE subscription_id = s.id AND state = 'pending' ORDER BY id LIMIT %(limit)s
        ) AS pending
        LEFT JOIN LATERAL (
            SELECT finished_at FROM jobs WHERE jobs.id = pending.job_id LIMIT 1
        ) AS job ON true
        WHERE job.finished_at < now() - make_interval(secs => %(grace)s)
              OR NOT EXISTS (SELECT FROM jobs WHERE jobs.id = pending.job_id)
    ) AS ended
    WHERE d.id = ended.id AND d.state = 'pending' RETURNING d.id
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
_ABOUT_JOBS = """
    SELECT id, tags, CASE WHEN %(with_contents)s THEN payload END,
           CASE WHEN %(with_contents)s THEN result END, CASE WHEN %(with_contents)s THEN error END
    FROM jobs WHERE id = ANY (%(ids)s::bigint[])
"""


class DeliveryState(StrEnum):
    """The states of a delivery. The text is what `webhook_deliveries.state` has, and what clients see."""

    #: It has no job yet: the scheduler makes it, once the webhook is active and has not too many.
    WAITING = "waiting"
    #: A job delivers it, or tries to again.
    PENDING = "pending"
    #: The receiver took it.
    DELIVERED = "delivered"
    #: It did not, for three days, or its job ended otherwise. It can be delivered again.
    FAILED = "failed"


class NewDelivery(NamedTuple):
    """A delivery that is about to be inserted."""

    subscription_id: int
    event_id: int | None
    kind: str
    about_job_id: int | None
    body: str


class Waiting(NamedTuple):
    """A delivery that has no job."""

    id: int
    subscription_id: int
    kind: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a subscription is told of.

    Attributes:
        event_id: the number of the event; None: it is a ping, or tells of a gap.
        about_job_id: the job that the event is about.
        job_id: the job that delivers it.
        attempts: how many calls it took so far.
        body: as it is sent; only where one is read alone.
    """

    id: int
    subscription_id: int
    event_id: int | None
    kind: str
    about_job_id: int | None
    state: str
    job_id: int | None
    created_at: datetime
    finished_at: datetime | None
    attempts: int
    body: str | None = None


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


class AboutJob(NamedTuple):
    """The part of a job that its events may tell besides."""

    tags: frozenset[str]
    payload: Any
    result: Any
    error: str | None


def about_jobs(
    connection: Connection, job_ids: Collection[int], *, with_contents: bool
) -> dict[int, AboutJob]:
    """Read the tags of jobs, and if asked for what they hold, as they are now."""
    rows = fetch_all(connection, _ABOUT_JOBS, {"ids": array(job_ids), "with_contents": with_contents})
    return {row[0]: AboutJob(frozenset(row[1] or ()), *row[2:]) for row in rows}


def insert(connection: Connection, new: Sequence[NewDelivery]) -> list[int]:
    """Insert deliveries that wait for their jobs; the ids of those that were not there."""
    rows = orjson.dumps([one._asdict() for one in new]).decode()
    return [row[0] for row in fetch_all(connection, _INSERT, {"rows": rows})]


def waiting(connection: Connection, subscription_ids: Collection[int], *, most: int) -> list[Waiting]:
    """List deliveries without jobs, the oldest first, as many as leave each subscription `most` jobs."""
    parameters = {"ids": array(sorted(subscription_ids)), "most": most}
    return [Waiting(*row) for row in fetch_all(connection, _WAITING, parameters)]


def begin(connection: Connection, job_ids: Mapping[int, int]) -> None:
    """Note the job of each delivery, in the transaction that creates the jobs."""
    rows = [{"id": delivery_id, "job_id": job_id} for delivery_id, job_id in job_ids.items()]
    fetch_all(connection, _BEGIN, {"rows": orjson.dumps(rows).decode()})


def find_of_job(connection: Connection, delivery_id: int, job_id: int) -> Delivery | None:
    """Return a delivery with its body, if this job is the one that delivers it."""
    row = fetch_one(connection, _OF_JOB, {"id": delivery_id, "job_id": job_id})
    return None if row is None else Delivery(*row)


def hold(connection: Connection, delivery_id: int, job_id: int) -> None:
    """Let a delivery wait for another job, because its webhook is disabled."""
    fetch_all(connection, _HOLD, {"id": delivery_id, "job_id": job_id})


def note_attempt(
    connection: Connection, delivery_id: int, call: Mapping[str, Any], state: DeliveryState
) -> None:
    """Write a call down, and what the delivery is then; of another job's delivery only the call.

    Args:
        connection: of a transaction.
        delivery_id: the delivery.
        call: job_id, at, seconds, status, answer and error.
        state: what it is then.
    """
    fetch_all(connection, _NOTE_ATTEMPT, {"id": delivery_id, **call})
    fetch_all(connection, _SET_STATE, {"id": delivery_id, "job_id": call["job_id"], "state": state.value})


def settle(connection: Connection, *, limit: int, grace_seconds: float) -> int:
    """Give up deliveries whose jobs ended some time ago without them; how many."""
    return len(fetch_all(connection, _SETTLE, {"limit": limit, "grace": grace_seconds}))


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
        f"SELECT {_COLUMNS} FROM webhook_deliveries AS d WHERE {' AND '.join(conditions)} "
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
