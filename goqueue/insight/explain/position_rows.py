"""The place of a job in its queue: how many come before it, and how many start a second. Only for people.

Each is one bounded walk along an index, so a backlog of millions answers as soon as one of thousands.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from goqueue.db.fragments import (
    READY_JOBS,
    READY_OF_KEYS,
    READY_ORDER,
    RUNNING_JOBS,
    SUSPECT_ALONE,
    SUSPECT_BESIDE,
    ready_between,
)
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.insight.explain.admission import KEYS_COUNTED_UP_TO
from goqueue.insight.explain.facts import JobFacts, Position

__all__ = ["COUNTED_UP_TO", "position_of", "starts_per_second"]

#: Jobs ahead are counted up to here: some 10 ms.
COUNTED_UP_TO = 25_000

#: How far back starts are looked at, and at how many jobs that have ended.
STARTS_SECONDS = 60
STARTS_MAX = 2_000

Parameters = dict[str, Any]

_BY_RANK = f"""
    SELECT count(*)::int FROM (
        SELECT FROM ready_jobs
        WHERE {ready_between("%(queue)s", before="%(rank)s, %(id)s")}
        ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS before
"""

_READY = f"""
    SELECT count(*)::int FROM (
        SELECT FROM ready_jobs WHERE {ready_between("%(queue)s")} ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS ready
"""

# Those of other keys are passed over, but not counted; the walk has its bound all the same.
_KEYLESS = f"""
    SELECT count(*) FILTER (WHERE concurrency_key IS NULL AND NOT admitted)::int FROM (
        SELECT concurrency_key, admitted FROM {READY_JOBS}
        WHERE {ready_between("%(queue)s", before="%(rank)s, %(id)s")}
        ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS before
"""

_OF_KEY = f"""
    SELECT count(*)::int FROM (
        SELECT FROM ready_jobs
        WHERE queue_name = %(queue)s AND open_key = %(key)s AND {READY_OF_KEYS}
          AND (ready_rank, job_id) < (%(rank)s, %(id)s)
        ORDER BY queue_name, open_key, ready_rank, job_id LIMIT %(limit)s
    ) AS before
"""

# One descent of ready_jobs_key_idx a key, as in `candidates.ring`.
_OTHER_KEYS = f"""
    WITH RECURSIVE ring (key, steps) AS (
        (SELECT open_key, 1 FROM ready_jobs
         WHERE queue_name = %(queue)s AND {READY_OF_KEYS}
         ORDER BY queue_name, open_key LIMIT 1)
        UNION ALL
        SELECT next.key, ring.steps + 1 FROM ring CROSS JOIN LATERAL (
            SELECT open_key AS key FROM ready_jobs
            WHERE queue_name = %(queue)s AND {READY_OF_KEYS} AND open_key > ring.key
            ORDER BY queue_name, open_key LIMIT 1
        ) AS next
        WHERE ring.steps <= %(limit)s
    )
    SELECT count(*)::int FROM ring WHERE key IS DISTINCT FROM %(key)s
"""

_LET_IN = """
    SELECT count(*)::int FROM (
        SELECT FROM jobs WHERE admitted AND queue = %(queue)s AND (rank, id) < (%(rank)s, %(id)s)
        ORDER BY queue, rank, id LIMIT %(limit)s
    ) AS before
"""

_BESIDE = f"""
    SELECT count(*)::int FROM (
        SELECT FROM jobs
        WHERE queue = %(queue)s AND {SUSPECT_BESIDE}
          AND (rank, id) < (%(rank)s, %(id)s)
        ORDER BY rank, id LIMIT %(limit)s
    ) AS before
"""

_SUSPECTS = f"""
    SELECT count(*)::int FROM (
        SELECT FROM jobs WHERE {SUSPECT_ALONE}
          AND (deaths, rank, id) < (%(deaths)s, %(rank)s, %(id)s)
        ORDER BY deaths, rank, id LIMIT %(limit)s
    ) AS before
"""

# Starts have no index, and get none for this: they are seen at the jobs that run, and at the newest attempts
# that have ended (and at the few jobs that completed without one). Where these are too many for a minute,
# they stand for a shorter time.
_STARTS = f"""
    WITH ended AS MATERIALIZED (
        SELECT job.queue, newest.started_at, newest.finished_at FROM (
            SELECT job_id, started_at, finished_at FROM attempts
            WHERE finished_at > now() - interval '{STARTS_SECONDS} seconds'
            ORDER BY finished_at DESC LIMIT {STARTS_MAX}
        ) AS newest
        CROSS JOIN LATERAL (SELECT queue FROM jobs WHERE jobs.id = newest.job_id LIMIT 1) AS job
        UNION ALL
        (SELECT queue, started_at, finished_at FROM jobs
         WHERE rare_state = 'completed' AND rare_since > now() - interval '{STARTS_SECONDS} seconds'
         ORDER BY rare_since DESC LIMIT {STARTS_MAX})
    ), span AS (
        SELECT CASE WHEN count(*) < {STARTS_MAX} THEN now() - interval '{STARTS_SECONDS} seconds'
                    ELSE min(finished_at) END AS since FROM ended
    ), started AS (
        SELECT started_at FROM ended WHERE queue = %(queue)s
        UNION ALL
        SELECT started_at FROM {RUNNING_JOBS} WHERE queue = %(queue)s
    )
    SELECT count(*)::int, min(started_at), min(since) FROM started, span WHERE started_at > since
"""


def position_of(connection: Connection, job: JobFacts, *, by_key: bool, weight: int) -> Position | None:
    """Tell how many jobs come before a queued one; None while it has no place in the order.

    `by_key`: the keys of its queue take turns, and its own may start `weight` jobs in one.
    """
    if not job.in_order:
        return None
    parameters: Parameters = {
        "queue": job.queue,
        "key": job.concurrency_key,
        "rank": job.rank,
        "id": job.id,
        "deaths": job.deaths,
    }
    if job.quarantined:
        ahead = _count(connection, _SUSPECTS if job.runs_alone else _BESIDE, parameters)
        return Position(ahead, COUNTED_UP_TO)
    if job.admitted:
        return Position(_count(connection, _LET_IN, parameters), COUNTED_UP_TO)
    if not by_key:
        return Position(_count(connection, _BY_RANK, parameters), COUNTED_UP_TO)
    own = _count(connection, _KEYLESS if job.concurrency_key is None else _OF_KEY, parameters)
    others = _count(connection, _OTHER_KEYS, parameters, KEYS_COUNTED_UP_TO)
    return _in_turns(connection, parameters, own, others, weight)


def _in_turns(connection: Connection, parameters: Parameters, own: int, others: int, weight: int) -> Position:
    """In each turn of its key `weight` jobs start, and at least one of each other key before."""
    turns = own // max(1, weight) + 1
    most = min(own + turns * others, COUNTED_UP_TO)
    # Itself is one of those that are ready; the others need not have as many jobs as they have turns.
    ready = _count(connection, _READY, parameters, most + 1)
    return Position(min(most, max(own, ready - 1)), COUNTED_UP_TO, own, others)


def starts_per_second(connection: Connection, queue: str, now: datetime) -> float:
    """Read the starts of a queue a second, over the last minute or since the first start in it."""
    row = fetch_one(connection, _STARTS, {"queue": queue})
    assert row is not None
    starts, first, since = row
    if not starts:
        return 0.0
    whole = max((now - since) / timedelta(seconds=1), 1e-3)
    seconds = max((now - first) / timedelta(seconds=1), 1e-3)
    # Between n starts lie n - 1 intervals; of one start, only the minute is known.
    return float(max(starts / whole, (starts - 1) / seconds))


def _count(connection: Connection, sql: str, parameters: Parameters, limit: int = COUNTED_UP_TO) -> int:
    rows = fetch_all(connection, sql, parameters | {"limit": limit})
    return int(rows[0][0])
