"""Deliveries as rows: one for each event that a subscription is told of, and the calls that it took."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import array, contents_of, fetch_all, fetch_one

__all__ = [
    "COLUMNS",
    "AboutJob",
    "Delivery",
    "DeliveryState",
    "NewDelivery",
    "Waiting",
    "about_jobs",
    "begin",
    "find_of_job",
    "hold",
    "insert",
    "note_attempt",
    "settle",
    "waiting",
]

#: What is read of a delivery, of `webhook_deliveries AS d`.
COLUMNS = (
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
    SELECT {COLUMNS}, d.body FROM webhook_deliveries AS d WHERE d.id = %(id)s AND d.job_id = %(job_id)s
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


# What is encrypted at rest does not stand in the log of deliveries in clear.
_ABOUT_JOBS = """
    SELECT id, tags, type, CASE WHEN tells THEN payload END, CASE WHEN tells THEN result END,
           CASE WHEN tells THEN error END
    FROM jobs CROSS JOIN LATERAL (SELECT %(with_contents)s AND payload_key IS NULL) AS told (tells)
    WHERE id = ANY (%(ids)s::bigint[])
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


class AboutJob(NamedTuple):
    """The part of a job that its events may tell besides."""

    tags: frozenset[str]
    payload: Any
    result: Any
    error: str | None


def about_jobs(
    connection: Connection, job_ids: Collection[int], *, with_contents: bool
) -> dict[int, AboutJob]:
    """Read the tags of jobs, and if asked for what they hold, as they are now.

    What is encrypted is not told, and of the rest no redacted field.
    """
    rows = fetch_all(connection, _ABOUT_JOBS, {"ids": array(job_ids), "with_contents": with_contents})
    shown = contents_of(connection).shown_value
    found = {}
    for job_id, tags, kind, payload, result, error in rows:
        told = AboutJob(frozenset(tags or ()), shown(payload, "", kind), shown(result, "", kind), error)
        found[job_id] = told
    return found


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
