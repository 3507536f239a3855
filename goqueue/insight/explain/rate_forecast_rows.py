"""Rate limits that stop a job, and when they will afford it: as the admission computes it. Only reads.

The admission first notices what has started; until then that counts as on its way, which for what is free
comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one
from goqueue.insight.explain.facts import JobFacts, RateFacts
from goqueue.limits import candidate_rows as candidate_store
from goqueue.limits import rate_rows as rate_store
from goqueue.limits.rate_rows import QUEUE_BUCKET, Spent
from goqueue.limits.rate_rules import RateBudget, TokenBucket, keeps_history
from goqueue.limits.settings import QueueLimits, RateAlgorithm, RateLimit

__all__ = ["rates_reached"]

# When so much of what was spent has left the window: a walk along the queue's starts, the oldest first, which
# stops there.
_QUEUE_FREE_AT = """
    SELECT extract(epoch FROM used_at + make_interval(secs => %(seconds)s) - now())::float FROM (
        SELECT used_at, sum(cost) OVER (ORDER BY used_at ROWS UNBOUNDED PRECEDING) AS freed
        FROM rate_grants
        WHERE queue = %(queue)s AND used_at > now() - make_interval(secs => %(seconds)s)
    ) AS spent
    WHERE freed >= %(needed)s LIMIT 1
"""

# Those of a key are few beside the queue's: they are read first, by the key, and then put in order.
_KEY_FREE_AT = """
    WITH of_key AS MATERIALIZED (
        SELECT used_at, cost FROM rate_grants
        WHERE queue = %(queue)s AND key = %(key)s AND key IS NOT NULL
          AND used_at > now() - make_interval(secs => %(seconds)s)
    )
    SELECT extract(epoch FROM used_at + make_interval(secs => %(seconds)s) - now())::float FROM (
        SELECT used_at, sum(cost) OVER (ORDER BY used_at ROWS UNBOUNDED PRECEDING) AS freed FROM of_key
    ) AS spent
    WHERE freed >= %(needed)s LIMIT 1
"""


def rates_reached(
    connection: Connection, job: JobFacts, limits: QueueLimits, now_seconds: float
) -> tuple[RateFacts, ...]:
    """Read the rate limits that do not afford the next start: of the job, or of the one that is before it.

    Where keys take turns nobody can say who is next: then what counts is the job itself.
    """
    return tuple(_reached(connection, job, limits, now_seconds))


def _reached(
    connection: Connection, job: JobFacts, limits: QueueLimits, now_seconds: float
) -> Iterator[RateFacts]:
    next_id, cost = job.id, job.rate_cost
    if limits.key_rate is not None and job.concurrency_key is not None:
        yield from _of(connection, job, limits.key_rate, job.concurrency_key, (next_id, cost, now_seconds))
    if limits.rate is None:
        return
    if not limits.by_key and not job.quarantined:
        for first in candidate_store.by_rank(connection, job.queue, 1):
            next_id, cost = first.id, first.cost
    yield from _of(connection, job, limits.rate, QUEUE_BUCKET, (next_id, cost, now_seconds))


def _of(
    connection: Connection, job: JobFacts, rate: RateLimit, key: str, wanted: tuple[int, int, float]
) -> Iterator[RateFacts]:
    """One limit: of the queue, or of a key."""
    next_id, cost, now = wanted
    spent = _spent(connection, job.queue, rate, key)
    used: int | None = spent.used
    level: float | None = None
    if rate.algorithm is RateAlgorithm.SLIDING_WINDOW:
        budget = RateBudget.of_window(rate, used=spent.used, let_in=spent.let_in)
    else:
        full = TokenBucket(rate, float(rate.limit), now)
        bucket = rate_store.buckets(connection, job.queue, rate, [key]).get(key, full)
        budget = RateBudget.of_bucket(bucket, now, let_in=spent.let_in)
        used, level = None, bucket.at(now)
    if budget.affords(cost):
        return
    if level is None:
        free_in = _window_free_in(connection, job.queue, key, rate, cost=cost, spent=spent)
    else:
        free_in = _bucket_free_in(rate, level, cost=cost, let_in=spent.let_in)
    kind, name = ("queue", job.queue) if key == QUEUE_BUCKET else ("key", key)
    yield RateFacts(kind, name, rate, cost, next_id, used, level, spent.let_in, free_in)


def _spent(connection: Connection, queue: str, rate: RateLimit, key: str) -> Spent:
    seconds = keeps_history(rate)
    if key == QUEUE_BUCKET:
        return rate_store.spent(connection, queue, seconds=seconds)
    return rate_store.spent_by_keys(connection, queue, [key], seconds=seconds).get(key, Spent())


def _bucket_free_in(rate: RateLimit, level: float, *, cost: int, let_in: int) -> float | None:
    """Seconds until the bucket has enough; a job that costs more than it holds needs a full one."""
    if cost > rate.limit and let_in:
        return None
    needed = min(cost, rate.limit) + let_in - level
    return needed * rate.period_seconds / rate.limit


def _window_free_in(
    connection: Connection, queue: str, key: str, rate: RateLimit, *, cost: int, spent: Spent
) -> float | None:
    """Seconds until enough has left the window; None where jobs on their way have to start before."""
    needed = spent.used if cost > rate.limit else cost + spent.used + spent.let_in - rate.limit
    if needed > spent.used or (cost > rate.limit and spent.let_in):
        return None
    parameters = {"queue": queue, "key": key, "seconds": rate.period_seconds, "needed": needed}
    sql = _QUEUE_FREE_AT if key == QUEUE_BUCKET else _KEY_FREE_AT
    row = fetch_one(connection, sql, parameters)
    return row[0] if row else None
