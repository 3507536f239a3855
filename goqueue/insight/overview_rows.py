"""The service at a glance, for a page that many look at: every count stops at a bound and walks an index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, READY_JOBS, READY_ORDER, RUNNING_JOBS, ready_between
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.queue_rows import CLOSED, PAUSED
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.insight.forecast import Course
from goqueue.jobs import MAX_JOB_ID

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

#: Running jobs are counted up to here: each is a row to look at, because their index does not hold the queue.
RUNNING_COUNTED_UP_TO = 10_000

#: An older job of a key that has run for longer than this holds up those behind it; before, it is their turn.
MOVES_FOR_SECONDS = 180

# In strict order only the oldest unfinished job of a key may start. One that is ready, or runs for a moment,
# is no obstacle: its key moves on.
_BEHIND = f"""
    queues.fifo AND concurrency_key IS NOT NULL AND NOT admitted AND (
        SELECT oldest.id <> jobs.id AND NOT (
            (oldest.status = 'running' AND oldest.started_at > now() - interval '{MOVES_FOR_SECONDS} seconds')
            OR (oldest.place = 'ready' AND oldest.type <> ALL (tripped.names)))
        FROM jobs AS oldest
        WHERE oldest.queue = queues.name AND oldest.unfinished_key = jobs.concurrency_key
        ORDER BY oldest.queue, oldest.unfinished_key, oldest.id LIMIT 1)
"""

# Of each queue three walks: along its part of `ready_jobs`, which needs nothing else; at its head,
# where the oldest is; and, where jobs wait, along the end of its part of jobs_queue_id_idx. That one is said
# as rows: for `queue = …` the planner walks the primary key, and passes over every newer job of other queues.
_QUEUES = f"""
    WITH running AS MATERIALIZED (
        SELECT queue, count(*)::int AS jobs
        FROM (SELECT queue FROM {RUNNING_JOBS} LIMIT {RUNNING_COUNTED_UP_TO}) AS counted
        GROUP BY queue
    ), tripped AS MATERIALIZED (
        SELECT coalesce(array_agg(name), ARRAY[]::text[]) AS names FROM types
        WHERE governed AND breaker IS NOT NULL AND breaker_state <> 'closed'
    )
    SELECT queues.name, {PAUSED} IS TRUE, {CLOSED} IS TRUE, ready.jobs::int, head.oldest,
           coalesce(running.jobs, 0), head.looked_at::int, head.tripped::int, head.held::int,
           arrivals.jobs::int, arrivals.first, arrivals.after_first::int, now()
    FROM queues
    LEFT JOIN running ON running.queue = queues.name
    CROSS JOIN tripped
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM ready_jobs WHERE {ready_between("queues.name")}
            ORDER BY {READY_ORDER} LIMIT {COUNTED_UP_TO}) AS counted
    ) AS ready
    CROSS JOIN LATERAL (
        SELECT min(available_at) AS oldest, count(*) AS looked_at,
               count(*) FILTER (WHERE is_tripped) AS tripped,
               count(*) FILTER (WHERE is_tripped OR is_behind) AS held
        FROM (
            SELECT available_at, NOT admitted AND type = ANY (tripped.names) AS is_tripped,
                   {_BEHIND} AS is_behind
            FROM {READY_JOBS} WHERE {ready_between("queues.name")}
            ORDER BY {READY_ORDER} LIMIT {OLDEST_AMONG}) AS next
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


def _count(rows: str) -> str:
    return f"(SELECT count(*)::int FROM (SELECT FROM {rows} LIMIT {COUNTED_UP_TO}) AS counted)"


_SERVICE = f"""
    SELECT EXISTS (SELECT FROM jobs), {_count(f"jobs WHERE {LATER}")},
           {_count("jobs WHERE rare_state = 'blocked'")}, {_count("running_jobs")},
           {_count("jobs WHERE rare_state = 'failed'")},
           workers.count, workers.threads, workers.busy
    FROM (SELECT count(*)::int, coalesce(sum(threads), 0)::int AS threads, coalesce(sum(busy), 0)::int AS busy
          FROM workers WHERE {SERVING}) AS workers
"""


@dataclass(frozen=True, slots=True)
class QueueGlance:
    """A queue at a glance.

    Attributes:
        is_closed: nothing of it starts now: it is paused, or was told to slow down.
        ready: jobs that could start now, up to COUNTED_UP_TO.
        oldest_at: since when the oldest of the next ones could.
        arrivals_per_second: jobs that were created in it, where some are ready.
        running: jobs of it that run.
        held_by: why none of the next ones may start, though nothing closed the queue: a breaker, or keys.
        some_tripped: some of the next ones are of types whose circuit breaker is not closed.
    """

    name: str
    is_paused: bool
    is_closed: bool
    ready: int
    oldest_at: datetime | None
    arrivals_per_second: float
    running: int = 0
    held_by: Course | None = None
    some_tripped: bool = False


@dataclass(frozen=True, slots=True)
class ServiceGlance:
    """The whole service at a glance; counts go up to COUNTED_UP_TO.

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
    """Read the queues, by name; of very many, those in which most waits; or the one of this name."""
    found = [_queue(*row) for row in fetch_all(connection, _QUEUES, {"name": name})]
    return sorted(found, key=lambda queue: queue.name)


def of_service(connection: Connection, *, lease_seconds: float) -> ServiceGlance:
    """Read what the queues do not tell."""
    row = fetch_one(connection, _SERVICE, {"lease_seconds": lease_seconds})
    assert row is not None
    return ServiceGlance(*row)


def _queue(  # noqa: PLR0917  (the columns of the row)
    name: str,
    is_paused: bool,
    is_closed: bool,
    ready: int,
    oldest_at: datetime | None,
    running: int,
    looked_at: int,
    tripped: int,
    held: int,
    arrivals: int,
    first: datetime | None,
    after_first: int,
    now: datetime,
) -> QueueGlance:
    held_by = None
    if looked_at and held == looked_at:
        held_by = Course.BREAKER if tripped else Course.KEYS
    rate = _rate(arrivals, after_first, first, now)
    return QueueGlance(
        name, is_paused, is_closed, ready, oldest_at, rate, running, held_by, some_tripped=tripped > 0
    )


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
