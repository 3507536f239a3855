"""Admission: what a queue's limits are decided by, and how the decision is written.

All of a round runs in one transaction that holds the lock of the queue's row (`open_queue`), so that rounds
of a queue follow one another, also while two dispatchers believe that they lead, and a change of limits comes
between two rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import IN_ORDER, READY_JOBS, READY_OUTSIDE, RUNNING_JOBS, SUSPECT
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import KEYS, array, fetch_all, fetch_one, key_arrays
from goqueue.engine.queue_rows import CLOSED
from goqueue.engine.ready_rows import TRIED
from goqueue.limits.conflict_rules import FullLimit
from goqueue.limits.queue_setting_rows import limits_from_row, type_limits_from_row
from goqueue.limits.rules import Candidate, Holder, TypeLimitState
from goqueue.limits.settings import QueueLimits

__all__ = [
    "LetIn",
    "OpenQueue",
    "admit",
    "count_probes",
    "holders",
    "let_in",
    "limited_types",
    "namespace_slots",
    "oldest_holders",
    "open_queue",
    "put_back",
    "types_of",
    "waiting_queues",
]

#: How long a round waits for a lock: the dispatcher waits with it.
LOCK_MILLISECONDS = 250

# One index descent a queue: is there anything to decide at all?
_WAITING_QUEUES = f"""
    SELECT name FROM unnest(%(queues)s::text[]) AS name
    WHERE EXISTS (SELECT FROM {READY_JOBS} WHERE queue_name = name AND {READY_OUTSIDE})
       OR EXISTS (SELECT FROM jobs WHERE queue = name AND {SUSPECT} AND NOT admitted)
"""

# A queue whose row somebody else has locked waits for another round: the others must not wait for it. What
# the round locks from here on is not waited for any longer than that, either.
_OPEN_QUEUE = f"""
    SELECT concurrency, key_concurrency, on_conflict, fair, fifo, rate, key_rate, ramp_seconds,
           CASE WHEN ramping_until > now()
               THEN greatest(0, extract(epoch FROM now() - ramping_since)
                             / greatest(0.001, extract(epoch FROM ramping_until - ramping_since)))::float END,
           extract(epoch FROM now())::float, namespace_governed,
           set_config('lock_timeout', '{LOCK_MILLISECONDS}', true)
    FROM queues WHERE name = %(queue)s AND {CLOSED} IS NOT TRUE FOR UPDATE SKIP LOCKED
"""

# Locked as well: a type is limited over all queues.
_TYPES = """
    SELECT name, concurrency, breaker, breaker_state,
           CASE WHEN probed_at >= breaker_changed_at THEN probes_let_in ELSE 0 END,
           extract(epoch FROM now() - probed_at)::float
    FROM types WHERE governed ORDER BY name FOR UPDATE
"""

# Who holds a slot: what runs, whoever let it in, and what was let in and has not started. Both are few.
_HOLDERS = f"""
    SELECT queue, coalesce(concurrency_key, ''), type,
           sum(running)::int, sum(waiting)::int, sum(suspects)::int, sum(alone)::int,
           sum(limit_cost - 1)::int
    FROM (
        SELECT queue, concurrency_key, type, 1 AS running, 0 AS waiting, 0 AS suspects, 0 AS alone, limit_cost
        FROM {RUNNING_JOBS}
        WHERE (queue = %(queue)s OR type = ANY(%(types)s))
        UNION ALL
        SELECT queue, concurrency_key, type, 0, 1, quarantined::int, (quarantined AND suspicion = 2)::int,
               limit_cost
        FROM jobs
        WHERE admitted AND (queue = %(queue)s OR type = ANY(%(types)s))
    ) AS holder
    GROUP BY 1, 2, 3
"""

# Locked, because the queues of the namespace share it; and who runs, or was let in, of all of them.
_NAMESPACE_QUOTA = "SELECT max_running_jobs FROM running_quota FOR UPDATE"
_NAMESPACE_HOLDERS = """
    SELECT (SELECT count(*) FROM running_jobs) + (SELECT count(*) FROM jobs WHERE admitted)
"""

# Locked one by one in id order and changed by their ids, as in `transitions/claim.py`.
_ADMIT = f"""
    WITH chosen AS MATERIALIZED (
        SELECT job.id FROM {KEYS} AS wanted (id, fence)
        CROSS JOIN LATERAL (
            SELECT jobs.id FROM jobs
            WHERE jobs.id = wanted.id AND jobs.fence = wanted.fence AND {IN_ORDER} AND NOT jobs.admitted
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    )
    UPDATE jobs SET admitted = true WHERE {rows_of("chosen")}
    RETURNING jobs.id
"""

_LET_IN = f"""
    SELECT queue, id, fence, rank, quarantined, type, {TRIED}, requires, slots FROM jobs WHERE admitted
    ORDER BY queue, rank, id LIMIT %(limit)s
"""

# As `_ADMIT`: nobody is there any more who could run them, and others may have their slots.
_PUT_BACK = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY (%(ids)s::bigint[]) AND admitted ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET admitted = false WHERE {rows_of("chosen")} AND jobs.admitted
"""

_COUNT_PROBES = """
    UPDATE types SET probed_at = now(), probes_let_in = %(count)s
        + CASE WHEN probed_at >= breaker_changed_at AND NOT %(anew)s THEN probes_let_in ELSE 0 END
    WHERE name = %(name)s
"""


_OLDEST_HOLDERS = f"""
    SELECT id, cancel_requested_at IS NOT NULL FROM (
        SELECT jobs.* FROM {RUNNING_JOBS}
        UNION ALL
        SELECT * FROM jobs WHERE admitted
    ) AS holder
    WHERE CASE WHEN %(type)s::text IS NULL THEN queue = %(queue)s ELSE type = %(type)s END
      AND (%(key)s::text IS NULL OR concurrency_key = %(key)s)
    ORDER BY id LIMIT %(count)s
"""


@dataclass(frozen=True, slots=True)
class OpenQueue:
    """A queue whose row is locked.

    Attributes:
        ramp: how far it has come after a pause or a slow-down, 0 to 1; None: it does not ramp up.
        now: PostgreSQL's time, in seconds.
        namespace_governed: the namespace has a quota of jobs that run.
    """

    limits: QueueLimits
    ramp: float | None
    now: float
    namespace_governed: bool = False


class LetIn(NamedTuple):
    """A job that was let in and has not started."""

    queue: str
    id: int
    fence: int
    rank: datetime
    quarantined: bool
    type: str
    tried: list[str] | None
    requires: list[str] | None
    slots: int


def waiting_queues(connection: Connection, queues: Iterable[str]) -> list[str]:
    """Read those of the queues in which some job waits to be let in."""
    return [row[0] for row in fetch_all(connection, _WAITING_QUEUES, {"queues": list(queues)})]


def open_queue(connection: Connection, queue: str) -> OpenQueue | None:
    """Lock a queue for the rest of the transaction; None while it is closed, or locked by somebody else."""
    row = fetch_one(connection, _OPEN_QUEUE, {"queue": queue})
    return OpenQueue(limits_from_row(row[:8]), row[8], row[9], row[10]) if row else None


def namespace_slots(connection: Connection) -> float:
    """Return how many more jobs of the namespace may run; its quota is locked until the transaction ends."""
    quota = fetch_one(connection, _NAMESPACE_QUOTA, {})
    if quota is None:
        return math.inf
    held = fetch_one(connection, _NAMESPACE_HOLDERS, {})
    assert held is not None
    return float(quota[0] - held[0])


def types_of(connection: Connection) -> dict[str, TypeLimitState]:
    """Read the limited types, locked for the rest of the transaction."""
    return {
        row[0]: TypeLimitState(type_limits_from_row(row[1:4]), row[4], row[5])
        for row in fetch_all(connection, _TYPES, {})
    }


def holders(connection: Connection, queue: str, types: Iterable[str]) -> list[Holder]:
    """Read who holds slots of the queue, and of the types in whatever queue."""
    rows = fetch_all(connection, _HOLDERS, {"queue": queue, "types": list(types)})
    return [Holder(*row) for row in rows]


def admit(connection: Connection, jobs: Sequence[Candidate]) -> set[int]:
    """Let jobs in; the ids that were. A job that changed since it was read, or is locked, is left out."""
    if not jobs:
        return set()
    return {row[0] for row in fetch_all(connection, _ADMIT, key_arrays((job.id, job.fence) for job in jobs))}


def let_in(connection: Connection, limit: int) -> list[LetIn]:
    """Read what was let in and has not started, by queue and rank."""
    return [LetIn(*row) for row in fetch_all(connection, _LET_IN, {"limit": limit})]


def put_back(connection: Connection, job_ids: Iterable[int]) -> None:
    """Take back that these were let in, where they have not started."""
    connection.exec_driver_sql(_PUT_BACK, {"ids": array(job_ids)})


def oldest_holders(connection: Connection, queue: str, limit: FullLimit, count: int) -> list[int]:
    """Read the oldest `count` jobs that hold a slot of a limit, less those asked to stop already."""
    parameters = {"queue": queue, "count": count} | limit._asdict()
    return [row[0] for row in fetch_all(connection, _OLDEST_HOLDERS, parameters) if not row[1]]


def limited_types(connection: Connection) -> set[str]:
    """Read the types that have limits."""
    return {row[0] for row in fetch_all(connection, "SELECT name FROM types WHERE governed", {})}


def count_probes(connection: Connection, name: str, count: int, *, anew: bool) -> None:
    """Note that probes of a half-open type were let in; `anew`: those before came to nothing."""
    connection.exec_driver_sql(_COUNT_PROBES, {"name": name, "count": count, "anew": anew})
