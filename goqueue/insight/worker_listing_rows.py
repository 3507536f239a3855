"""Worker processes for people: who is there, and what each runs. Bounded, whatever the tables hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import RUNNING_JOBS
from goqueue.db.statements import fetch_all
from goqueue.engine.workers.worker_rows import COLUMNS, Worker

__all__ = [
    "GONE_SHOWN",
    "JOBS_SHOWN",
    "WORKERS_SHOWN",
    "RunningJob",
    "WorkAtHand",
    "at_hand",
    "gone",
    "present",
]

#: So many processes are shown, the newest ones; of those that are gone; and so many jobs of each.
WORKERS_SHOWN = 200
GONE_SHOWN = 20
JOBS_SHOWN = 16


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds."""

    id: int
    type: str
    queue: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class WorkAtHand:
    """The work that a worker holds.

    Attributes:
        jobs: those that it claimed first, as many as it has threads and async slots, at most JOBS_SHOWN.
        count: how many it holds; what has no place yet waits for one.
        threads, async_slots: how many of both these take, or wait for.
    """

    jobs: Sequence[RunningJob] = ()
    count: int = 0
    threads: int = 0
    async_slots: int = 0


# Who holds a lease is an entry of workers_heartbeat_idx; the table also remembers those of the last days.
_PRESENT = f"""
    SELECT {COLUMNS} FROM workers WHERE stopped_at IS NULL ORDER BY id DESC LIMIT %(limit)s
"""

# From the end of the primary key: only the few that hold a lease are passed over.
_GONE = f"""
    SELECT {COLUMNS} FROM workers WHERE stopped_at IS NOT NULL ORDER BY id DESC LIMIT %(limit)s
"""

# Each worker has its part of `running_jobs`, of at most its threads, its async slots and what it claimed
# ahead.
_AT_HAND = f"""
    SELECT worker.id, job.count, job.threads, job.async_slots, job.id, job.type, job.queue, job.started_at
    FROM workers AS worker
    CROSS JOIN LATERAL (
        SELECT id, type, queue, coalesce(started_at, updated_at) AS started_at,
               (count(*) OVER ())::int AS count,
               coalesce(sum(slots) FILTER (WHERE NOT is_async) OVER (), 0)::int AS threads,
               coalesce(sum(slots) FILTER (WHERE is_async) OVER (), 0)::int AS async_slots
        FROM {RUNNING_JOBS}
        CROSS JOIN LATERAL (SELECT (jobs.type = ANY (worker.async_types)) IS TRUE AS is_async) AS kind
        WHERE running_jobs.holder = worker.id
        ORDER BY started_at, id LIMIT least(worker.threads + worker.async_slots, {JOBS_SHOWN})
    ) AS job
    WHERE worker.id = ANY (%(ids)s::bigint[])
    ORDER BY worker.id, job.started_at, job.id
"""


def present(connection: Connection, *, lease_seconds: float) -> list[Worker]:
    """Read processes that nobody ended, the newest first; one more than WORKERS_SHOWN if there are more."""
    return _workers(connection, _PRESENT, WORKERS_SHOWN + 1, lease_seconds)


def gone(connection: Connection, *, lease_seconds: float) -> list[Worker]:
    """Read the last ones that ended, the newest first."""
    return _workers(connection, _GONE, GONE_SHOWN, lease_seconds)


def at_hand(connection: Connection, workers: Iterable[Worker]) -> dict[int, WorkAtHand]:
    """Read what each of these workers holds, by its id; who holds nothing is not in it."""
    jobs = defaultdict[int, list[RunningJob]](list)
    held: dict[int, tuple[int, int, int]] = {}
    for row in fetch_all(connection, _AT_HAND, {"ids": [worker.id for worker in workers]}):
        jobs[row[0]].append(RunningJob(*row[4:]))
        held[row[0]] = (row[1], row[2], row[3])
    return {worker_id: WorkAtHand(found, *held[worker_id]) for worker_id, found in jobs.items()}


def _workers(connection: Connection, sql: str, limit: int, lease_seconds: float) -> list[Worker]:
    rows = fetch_all(connection, sql, {"limit": limit, "lease_seconds": lease_seconds})
    return [Worker(*row) for row in rows]
