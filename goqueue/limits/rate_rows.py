"""Rate limits: what was spent. A grant is a row, from an admission until no window reaches its start.

The limits hold for starts, not for admissions: a job that was let in may start late, when workers are busy.
So a grant counts as spent at every moment from the admission until the start, and at the start it gets the
time of that. No window can then hold more starts than the limit, whatever the workers do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one
from goqueue.limits.rate_rules import TokenBucket
from goqueue.limits.rules import KEYLESS, Candidate
from goqueue.limits.settings import RateLimit

__all__ = [
    "QUEUE_BUCKET",
    "Spent",
    "Start",
    "buckets",
    "forget",
    "grant",
    "keep_buckets",
    "settle",
    "spent",
    "spent_by_keys",
]

#: The bucket of the queue itself.
QUEUE_BUCKET = KEYLESS

# A grant was given to a job with this fence; its claim raised the fence by one. While the job is claimed and
# has not begun, as far as is known, the grant stays on its way: the job may yet be given back. The start's
# time is the job's until the next claim, and the attempt row's afterwards.
_SETTLE = """
    WITH started AS MATERIALIZED (
        SELECT rate_grants.id, coalesce(job.started_at, attempt.started_at, now()) AS started_at
        FROM rate_grants
        CROSS JOIN LATERAL (
            SELECT fence, CASE WHEN jobs.fence = rate_grants.fence + 1 THEN jobs.started_at END AS started_at,
                   jobs.fence = rate_grants.fence + 1 AND jobs.status = 'running' AND jobs.begun_at IS NULL
                       AS is_claimed
            FROM jobs WHERE jobs.id = rate_grants.job_id LIMIT 1
        ) AS job
        LEFT JOIN LATERAL (
            SELECT started_at FROM attempts
            WHERE attempts.job_id = rate_grants.job_id AND attempts.fence = rate_grants.fence + 1 LIMIT 1
        ) AS attempt ON true
        WHERE rate_grants.queue = %(queue)s AND rate_grants.used_at IS NULL AND job.fence > rate_grants.fence
          AND NOT job.is_claimed
    )
    UPDATE rate_grants SET used_at = started.started_at FROM started WHERE rate_grants.id = started.id
    RETURNING coalesce(rate_grants.key, ''), rate_grants.cost, extract(epoch FROM rate_grants.used_at)::float
"""

# Let in, but taken back before it started: cancelled, expired, edited, or the limits changed. A job that is
# claimed between the two statements has a higher fence: its grant is settled in the next round.
_GIVE_BACK = """
    DELETE FROM rate_grants WHERE queue = %(queue)s AND used_at IS NULL AND NOT EXISTS (
        SELECT FROM jobs WHERE jobs.id = rate_grants.job_id
        AND (jobs.fence > rate_grants.fence OR jobs.admitted))
"""

_FORGET = """
    DELETE FROM rate_grants
    WHERE queue = %(queue)s AND used_at <= now() - make_interval(secs => %(seconds)s)
"""

_SPENT = """
    SELECT coalesce(sum(cost) FILTER (WHERE used_at IS NOT NULL), 0)::int,
           coalesce(sum(cost) FILTER (WHERE used_at IS NULL), 0)::int
    FROM rate_grants
    WHERE queue = %(queue)s AND (used_at IS NULL OR used_at > now() - make_interval(secs => %(seconds)s))
"""

_SPENT_BY_KEYS = """
    SELECT key,
           coalesce(sum(cost) FILTER (WHERE used_at > now() - make_interval(secs => %(seconds)s)), 0)::int,
           coalesce(sum(cost) FILTER (WHERE used_at IS NULL), 0)::int
    FROM rate_grants WHERE queue = %(queue)s AND key = ANY(%(keys)s) GROUP BY key
"""

_GRANT = """
    INSERT INTO rate_grants (queue, key, job_id, fence, cost)
    SELECT %(queue)s, key, job_id, fence, cost
    FROM json_to_recordset(%(grants)s::json) AS g (key text, job_id bigint, fence int, cost int)
"""

# A clock that is set back does not stop a bucket until it is as late again.
_BUCKETS = """
    SELECT key, level, extract(epoch FROM LEAST(updated_at, now()))::float FROM rate_buckets
    WHERE queue = %(queue)s AND key = ANY(%(keys)s)
"""

_KEEP_BUCKETS = """
    INSERT INTO rate_buckets (queue, key, level, updated_at)
    SELECT %(queue)s, key, level, to_timestamp(updated_at)
    FROM json_to_recordset(%(buckets)s::json) AS b (key text, level float, updated_at float)
    ON CONFLICT (queue, key) DO UPDATE SET level = excluded.level, updated_at = excluded.updated_at
"""


class Spent(NamedTuple):
    """The costs that were spent of a rate limit.

    Attributes:
        used: by starts in the window.
        let_in: by jobs on their way.
    """

    used: int = 0
    let_in: int = 0


class Start(NamedTuple):
    """A start that was noticed now: when it was, in seconds."""

    key: str
    cost: int
    at: float


def settle(connection: Connection, queue: str) -> list[Start]:
    """Notice which jobs started since the last round, in the order of their starts, and which never will."""
    started = [Start(*row) for row in fetch_all(connection, _SETTLE, {"queue": queue})]
    connection.exec_driver_sql(_GIVE_BACK, {"queue": queue})
    return sorted(started, key=lambda start: start.at)


def forget(connection: Connection, queue: str, *, older_than_seconds: float) -> None:
    """Drop the starts that no window reaches back to."""
    connection.exec_driver_sql(_FORGET, {"queue": queue, "seconds": older_than_seconds})


def spent(connection: Connection, queue: str, *, seconds: float) -> Spent:
    """Read what the queue has spent in a window of so many seconds."""
    row = fetch_one(connection, _SPENT, {"queue": queue, "seconds": seconds})
    assert row is not None
    return Spent(*row)


def spent_by_keys(
    connection: Connection, queue: str, keys: Iterable[str], *, seconds: float
) -> dict[str, Spent]:
    """Read what the keys have spent in a window of so many seconds; those that spent nothing are left out."""
    parameters = {"queue": queue, "keys": list(keys), "seconds": seconds}
    return {row[0]: Spent(row[1], row[2]) for row in fetch_all(connection, _SPENT_BY_KEYS, parameters)}


def grant(connection: Connection, queue: str, jobs: Sequence[Candidate]) -> None:
    """Note what jobs that are let in now will spend."""
    grants = [
        {"key": job.key or None, "job_id": job.id, "fence": job.fence, "cost": job.cost} for job in jobs
    ]
    connection.exec_driver_sql(_GRANT, {"queue": queue, "grants": orjson.dumps(grants).decode()})


def buckets(
    connection: Connection, queue: str, rate: RateLimit, keys: Iterable[str]
) -> dict[str, TokenBucket]:
    """Read the token buckets of keys; of the queue itself under the key ''. Full where there is none yet."""
    rows = fetch_all(connection, _BUCKETS, {"queue": queue, "keys": list(keys)})
    return {row[0]: TokenBucket(rate, min(row[1], rate.limit), row[2]) for row in rows}


def keep_buckets(connection: Connection, queue: str, changed: dict[str, TokenBucket]) -> None:
    """Write the levels of buckets."""
    rows = [
        {"key": key, "level": bucket.level, "updated_at": bucket.updated_at}
        for key, bucket in sorted(changed.items())
    ]
    parameters = {"queue": queue, "buckets": orjson.dumps(rows).decode()}
    connection.exec_driver_sql(_KEEP_BUCKETS, parameters)
