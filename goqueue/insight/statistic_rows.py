"""Counts for people to read. Each is bounded, and each is read from the partial index of its state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, READY, SUSPECT
from goqueue.db.statements import FIRST, fetch_all, fetch_one
from goqueue.engine.queue_rows import PAUSED
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.jobs import JobStatus

__all__ = ["COUNTED_UP_TO", "QueueStatistics", "ServiceStatistics", "by_queue", "of_service"]

#: Counting stops here: a count of this number means "this many or more". About a tenth of a second a state.
COUNTED_UP_TO = 1_000_000

_RUNNING = "status = 'running'"


def _grouped(name: str, condition: str) -> str:
    """Counts by queue of a state that is rare beside the ready one."""
    return (
        f"{name} AS (SELECT queue, count(*) AS count FROM (SELECT queue FROM jobs WHERE {condition} "
        f"LIMIT {COUNTED_UP_TO}) AS counted GROUP BY queue)"
    )


# The lateral walks the queue's part of jobs_ready_idx, in rank order.
_BY_QUEUE = f"""
    WITH {_grouped("waiting", LATER)}, {_grouped("quarantined", SUSPECT)},
         {_grouped("running", _RUNNING)}, {_grouped("failed", "status = 'failed'")},
    live AS (
        SELECT queue, count(*) AS workers, sum(threads) AS threads
        FROM workers CROSS JOIN unnest(queues) AS queue
        WHERE {SERVING}
        GROUP BY queue
    )
    SELECT queues.name, CASE WHEN {PAUSED} THEN queues.paused_at END, ready.count, coalesce(waiting.count, 0),
           coalesce(quarantined.count, 0), coalesce(running.count, 0), coalesce(failed.count, 0),
           extract(epoch FROM now() - ready.oldest)::float, coalesce(live.workers, 0)::int,
           coalesce(live.threads, 0)::int, CASE WHEN {PAUSED} THEN queues.paused_until END,
           CASE WHEN {PAUSED} THEN queues.paused_by END, CASE WHEN {PAUSED} THEN queues.pause_reason END,
           CASE WHEN queues.throttled_until > now() THEN queues.throttled_until END
    FROM queues
    CROSS JOIN LATERAL (
        SELECT count(*), min(GREATEST(available_at, {FIRST})) AS oldest FROM (
            SELECT available_at FROM jobs WHERE queue = queues.name AND {READY}
            ORDER BY rank, id LIMIT {COUNTED_UP_TO}) AS counted
    ) AS ready
    LEFT JOIN waiting ON waiting.queue = queues.name
    LEFT JOIN quarantined ON quarantined.queue = queues.name
    LEFT JOIN running ON running.queue = queues.name
    LEFT JOIN failed ON failed.queue = queues.name
    LEFT JOIN live ON live.queue = queues.name
    WHERE %(name)s::text IS NULL OR queues.name = %(name)s
    ORDER BY queues.name
"""


def _count(condition: str) -> str:
    return f"(SELECT count(*) FROM (SELECT FROM jobs WHERE {condition} LIMIT {COUNTED_UP_TO}) AS counted)"


def _finished(status: JobStatus) -> str:
    return _count(f"status = '{status.value}' AND finished_at > now() - interval '1 minute'")


_COUNTS = f"""
    SELECT {_count(READY)}, {_count(LATER)}, {_count(SUSPECT)}, {_count("status = 'blocked'")},
           {_count(_RUNNING)}, {_count("status = 'failed'")}, {_count("status = 'cancelled'")},
           {_count("status = 'expired'")}
"""

# reltuples is -1 before the first vacuum or analyze.
_COMPLETED_ESTIMATE = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'jobs'::regclass"

_FINISHED = f"""
    SELECT {_finished(JobStatus.COMPLETED)}, {_finished(JobStatus.FAILED)}, {_finished(JobStatus.CANCELLED)},
           {_finished(JobStatus.EXPIRED)}
"""

_OLDEST_READY = f"""
    SELECT extract(epoch FROM now() - min(GREATEST(available_at, {FIRST})))::float FROM (
        SELECT available_at FROM jobs WHERE {READY} LIMIT {COUNTED_UP_TO}) AS counted
"""

_WORKERS = f"""
    SELECT count(*)::int, coalesce(sum(threads), 0)::int, coalesce(sum(busy), 0)::int FROM workers
    WHERE {SERVING}
"""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """One queue: what waits in it, and who serves it."""

    name: str
    paused_at: datetime | None = None
    ready: int = 0
    waiting: int = 0
    quarantined: int = 0
    running: int = 0
    failed: int = 0
    oldest_ready_age_seconds: float | None = None
    workers: int = 0
    threads: int = 0
    paused_until: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    throttled_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """The statistics of all queues together.

    Attributes:
        counts: ready, waiting, quarantined, blocked, running, failed, cancelled, expired.
        completed_estimate: rows by the planner's statistics, less the counted ones.
        finished_last_minute: completed, failed, cancelled, expired.
        workers, threads, busy: of the live workers that take jobs.
    """

    counts: dict[str, int]
    completed_estimate: int
    finished_last_minute: dict[str, int]
    oldest_ready_age_seconds: float | None
    workers: int
    threads: int
    busy: int


def by_queue(
    connection: Connection, *, lease_seconds: float, name: str | None = None
) -> list[QueueStatistics]:
    """Read every queue that has a row, by name; or the one of this name."""
    rows = fetch_all(connection, _BY_QUEUE, {"lease_seconds": lease_seconds, "name": name})
    return [QueueStatistics(*row) for row in rows]


def of_service(connection: Connection, *, lease_seconds: float) -> ServiceStatistics:
    """Read the service at a glance."""
    names = ("ready", "waiting", "quarantined", "blocked", "running", "failed", "cancelled", "expired")
    counts = dict(zip(names, _row(connection, _COUNTS), strict=True))
    (rows_estimate,) = _row(connection, _COMPLETED_ESTIMATE)
    finished = _row(connection, _FINISHED)
    (oldest,) = _row(connection, _OLDEST_READY)
    workers, threads, busy = _row(connection, _WORKERS, lease_seconds=lease_seconds)
    return ServiceStatistics(
        counts=counts,
        completed_estimate=max(0, rows_estimate - sum(counts.values())),
        finished_last_minute=dict(
            zip(("completed", "failed", "cancelled", "expired"), finished, strict=True)
        ),
        oldest_ready_age_seconds=oldest,
        workers=workers,
        threads=threads,
        busy=busy,
    )


def _row(connection: Connection, sql: str, **parameters: float) -> tuple[int, ...]:
    row = fetch_one(connection, sql, parameters)
    assert row is not None
    return row
