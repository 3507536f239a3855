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
        jobs: those that it claimed first, as many as it has threads, at most JOBS_SHOWN.
        held: how many it holds: its threads have a job each, the others wait for one of them.
    """

    jobs: Sequence[RunningJob] = ()
    held: int = 0


# Who holds a lease is an entry of workers_heartbeat_idx; the table also remembers those of the last days.
_PRESENT = f"""
    SELECT {COLUMNS} FROM workers WHERE stopped_at IS NULL ORDER BY id DESC LIMIT %(limit)s
"""

# From the end of the primary key: only the few that hold a lease are passed over.
_GONE = f"""
    SELECT {COLUMNS} FROM workers WHERE stopped_at IS NOT NULL ORDER BY id DESC LIMIT %(limit)s
"""

# Each worker has its part of `running_jobs`, of at most its threads and what it claimed ahead.
_AT_HAND = f"""
    SELECT worker.id, job.held, job.id, job.type, job.queue, job.started_at
    FROM unnest(%(ids)s::bigint[], %(threads)s::int[]) AS worker (id, threads)
    CROSS JOIN LATERAL (
        SELECT id, type, queue, coalesce(started_at, updated_at) AS started_at,
               (count(*) OVER ())::int AS held
        FROM {RUNNING_JOBS} WHERE holder = worker.id
        ORDER BY started_at, id LIMIT least(worker.threads, {JOBS_SHOWN})
    ) AS job
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
    workers = list(workers)
    parameters = {
        "ids": [worker.id for worker in workers],
        "threads": [worker.threads for worker in workers],
    }
    jobs = defaultdict[int, list[RunningJob]](list)
    held: dict[int, int] = {}
    for worker_id, count, *job in fetch_all(connection, _AT_HAND, parameters):
        jobs[worker_id].append(RunningJob(*job))
        held[worker_id] = count
    return {worker_id: WorkAtHand(found, held[worker_id]) for worker_id, found in jobs.items()}


def _workers(connection: Connection, sql: str, limit: int, lease_seconds: float) -> list[Worker]:
    rows = fetch_all(connection, sql, {"limit": limit, "lease_seconds": lease_seconds})
    return [Worker(*row) for row in rows]
