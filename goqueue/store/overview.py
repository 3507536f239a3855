"""The service at a glance, for a page that many look at: every count stops at a bound and walks an index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.jobs import MAX_JOB_ID
from goqueue.store.queues import CLOSED, PAUSED
from goqueue.store.rows import fetch_all, fetch_one
from goqueue.store.workers import SERVING

__all__ = ["COUNTED_UP_TO", "QUEUES_SHOWN", "QueueGlance", "ServiceGlance", "of_queues", "of_service"]

#: Counting stops here, after some ten milliseconds: this number means "this many or more".
COUNTED_UP_TO = 100_000

#: So many queues are shown, those in which most waits.
QUEUES_SHOWN = 100

#: So far back, and at so many of the newest jobs of a queue, arrivals are looked for.
ARRIVALS_SECONDS = 180
ARRIVALS_MAX = 200

#: The oldest is looked for among so many of the next jobs, each of which is a row to look at.
OLDEST_AMONG = 100

_READY = "queue = queues.name AND status = 'queued' AND rank IS NOT NULL AND NOT quarantined"

# Of each queue three walks: along its part of jobs_ready_idx, which needs nothing but the index; at its head,
# where the oldest is; and, where jobs wait, along the end of its part of jobs_queue_id_idx. That one is said
# as rows: for `queue = …` the planner walks the primary key, and passes over every newer job of other queues.
_QUEUES = f"""
    SELECT queues.name, {PAUSED} IS TRUE, {CLOSED} IS TRUE, ready.jobs::int, head.oldest,
           arrivals.jobs::int, arrivals.first, arrivals.after_first::int, now()
    FROM queues
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM jobs WHERE {_READY} ORDER BY rank, id LIMIT {COUNTED_UP_TO}) AS counted
    ) AS ready
    CROSS JOIN LATERAL (
        SELECT min(available_at) AS oldest FROM (
            SELECT available_at FROM jobs WHERE {_READY} ORDER BY rank, id LIMIT {OLDEST_AMONG}) AS next
    ) AS head
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, min(created_at) AS first,
               count(*) FILTER (WHERE created_at > least_created_at) AS after_first
        FROM (SELECT created_at, min(created_at) OVER () AS least_created_at FROM (
                  SELECT created_at FROM jobs
                  WHERE (queue, id) > (queues.name, 0) AND (queue, id) < (queues.name, {MAX_JOB_ID})
                    AND ready.jobs > 0
                  ORDER BY queue DESC, id DESC LIMIT {ARRIVALS_MAX}) AS newest) AS newest
        WHERE created_at > now() - interval '{ARRIVALS_SECONDS} seconds'
    ) AS arrivals
    WHERE %(name)s::text IS NULL OR queues.name = %(name)s
    ORDER BY ready.jobs DESC, queues.name LIMIT {QUEUES_SHOWN}
"""


def _count(condition: str) -> str:
    return (
        f"(SELECT count(*)::int FROM (SELECT FROM jobs WHERE {condition} LIMIT {COUNTED_UP_TO}) AS counted)"
    )


_SERVICE = f"""
    SELECT EXISTS (SELECT FROM jobs), {_count("status = 'queued' AND rank IS NULL")},
           {_count("status = 'blocked'")}, {_count("status = 'running'")}, {_count("status = 'failed'")},
           workers.count, workers.threads, workers.busy
    FROM (SELECT count(*)::int, coalesce(sum(threads), 0)::int AS threads, coalesce(sum(busy), 0)::int AS busy
          FROM workers WHERE {SERVING}) AS workers
"""


@dataclass(frozen=True, slots=True)
class QueueGlance:
    """A queue.

    Attributes:
        is_closed: nothing of it starts now: it is paused, or was told to slow down.
        ready: jobs that could start now, up to COUNTED_UP_TO.
        oldest_at: since when the oldest of the next ones could.
        arrivals_per_second: jobs that were created in it, where some are ready.
    """

    name: str
    is_paused: bool
    is_closed: bool
    ready: int
    oldest_at: datetime | None
    arrivals_per_second: float


@dataclass(frozen=True, slots=True)
class ServiceGlance:
    """Everything together; counts up to COUNTED_UP_TO.

    Attributes:
        has_jobs: there is any job at all.
        waiting: for a time: a run-at, a retry.
        blocked: until other jobs have ended.
        workers, threads, busy: of the live workers that take jobs.
    """

    has_jobs: bool
    waiting: int
    blocked: int
    running: int
    failed: int
    workers: int
    threads: int
    busy: int


def of_queues(connection: Connection, name: str | None = None) -> list[QueueGlance]:
    """The queues, by name; of very many, those in which most waits; or the one of this name."""
    found = [_queue(*row) for row in fetch_all(connection, _QUEUES, {"name": name})]
    return sorted(found, key=lambda queue: queue.name)


def of_service(connection: Connection, *, lease_seconds: float) -> ServiceGlance:
    """What the queues do not tell."""
    row = fetch_one(connection, _SERVICE, {"lease_seconds": lease_seconds})
    assert row is not None
    return ServiceGlance(*row)


def _queue(  # noqa: PLR0917  (the columns of the row)
    name: str,
    is_paused: bool,
    is_closed: bool,
    ready: int,
    oldest_at: datetime | None,
    arrivals: int,
    first: datetime | None,
    after_first: int,
    now: datetime,
) -> QueueGlance:
    return QueueGlance(name, is_paused, is_closed, ready, oldest_at, _rate(arrivals, after_first, first, now))


def _rate(jobs: int, after_first: int, first: datetime | None, now: datetime) -> float:
    """Where there are more than were looked at, they stand for the time since the oldest of them.

    That one does not count: between n arrivals lie n - 1 intervals. Of a batch, which has one moment, only
    the whole time is known.
    """
    if first is None:
        return 0.0
    if jobs == ARRIVALS_MAX and after_first:
        return after_first / max((now - first).total_seconds(), 1e-3)
    return jobs / ARRIVALS_SECONDS
