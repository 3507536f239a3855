"""Gauges of the whole service for Prometheus, in one statement a scrape, and what holds back vacuum."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, READY_JOBS, READY_ORDER, fits, ready_between
from goqueue.db.statements import FIRST, LAST, fetch_all, fetch_one
from goqueue.engine.listing.kept_count_rows import FRESH, GLANCED_AT
from goqueue.engine.queue_rows import PAUSED
from goqueue.engine.workers.worker_rows import SERVING

__all__ = ["QueueGauges", "ServiceGauges", "horizon_age", "lateness_of_due", "read"]

#: Counting a queue stops here, after some tenths of a second: this number means "this many or more".
COUNTED_UP_TO = 1_000_000

#: The oldest is looked for among so many of the next jobs. An older one behind them has a lower priority, and
#: is older by less than the head start of theirs: a minute for each step.
OLDEST_AMONG = 1_000

# What holds back vacuum in this database: transactions with a snapshot or with writes, and prepared ones.
# Not vacuum itself, which PostgreSQL leaves out as well. Without the privilege pg_read_all_stats other users'
# transactions have no age here, and only those of the own user are seen.
_HORIZON = """
    SELECT extract(epoch FROM now() - min(began))::float FROM (
        SELECT xact_start AS began FROM pg_stat_activity
        WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
          AND (datname = current_database() OR backend_type = 'walsender')
          AND pid <> ALL (ARRAY (SELECT pid FROM pg_stat_progress_vacuum))
        UNION ALL
        SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
    ) AS holders
"""

# Both laterals walk the queue's part of `ready_jobs` in its order; the first needs nothing else.
# Who knows a type is asked once for each that was met: workers that know the same are one.
_READ = f"""
    WITH live AS MATERIALIZED (
        SELECT queues, threads, busy, signature, types, labels, async_types, async_slots, async_busy
        FROM workers WHERE {SERVING}
    ), knowing AS MATERIALIZED (
        SELECT DISTINCT ON (queues, signature) queues, types, labels, threads, async_types, async_slots
        FROM live
    ), serving AS MATERIALIZED (
        SELECT queue, count(*)::int AS workers FROM live CROSS JOIN unnest(live.queues) AS queue
        GROUP BY queue
    ), kept AS MATERIALIZED (
        SELECT kind, name, jobs FROM kept_counts WHERE kind IN ('ready', 'failed') AND {FRESH}
    ), failed AS MATERIALIZED (
        SELECT name AS queue, jobs FROM kept WHERE kind = 'failed'
        UNION ALL
        SELECT queue, count(*) FROM (
            SELECT queue FROM jobs
            WHERE rare_state = 'failed' AND NOT EXISTS (SELECT FROM kept WHERE kind = 'failed')
            LIMIT {COUNTED_UP_TO}) AS counted GROUP BY queue
    ), queue AS (
        SELECT queues.name, ({PAUSED}) AS paused,
               CASE WHEN ready.depth = {GLANCED_AT} THEN coalesce(kept.jobs, ready.depth) ELSE ready.depth
               END AS depth, first.oldest_age,
               CASE WHEN serving.workers > 0 THEN first.unrunnable ELSE 0 END AS unrunnable,
               coalesce(failed.jobs, 0) AS dead_letters,
               coalesce(serving.workers, 0) AS workers,
               queues.slo_wait_seconds AS slo_wait, queues.slo_objective
        FROM queues
        LEFT JOIN kept ON kept.kind = 'ready' AND kept.name = queues.name
        CROSS JOIN LATERAL (
            SELECT count(*) AS depth FROM (
                SELECT FROM ready_jobs WHERE {ready_between("queues.name")} ORDER BY {READY_ORDER}
                LIMIT CASE WHEN kept.jobs IS NULL THEN {COUNTED_UP_TO} ELSE {GLANCED_AT} END) AS counted
        ) AS ready
        CROSS JOIN LATERAL (
            SELECT extract(epoch FROM now() - min(alike.oldest))::float AS oldest_age,
                   sum(alike.jobs) FILTER (WHERE alike.waits OR NOT EXISTS (
                       SELECT FROM knowing WHERE queues.name = ANY (knowing.queues)
                       AND (knowing.types IS NULL OR alike.type = ANY (knowing.types))
                       AND (alike.requires IS NULL
                            OR ({fits("alike.requires", "knowing.labels")} AND alike.slots <= CASE
                                WHEN alike.type = ANY (knowing.async_types) THEN knowing.async_slots
                                ELSE knowing.threads END))
                   ))::int AS unrunnable
            FROM (
                SELECT next.type, next.waits, next.requires, next.slots,
                       min(GREATEST(available_at, {FIRST})) AS oldest, count(*) AS jobs
                FROM (
                    SELECT available_at, type, (unreadable_until > now()) IS TRUE AS waits, requires, slots
                    FROM {READY_JOBS}
                    WHERE {ready_between("queues.name")} ORDER BY {READY_ORDER} LIMIT {OLDEST_AMONG}) AS next
                GROUP BY next.type, next.waits, next.requires, next.slots) AS alike
        ) AS first
        LEFT JOIN serving ON serving.queue = queues.name
        LEFT JOIN failed ON failed.queue = queues.name
    ), service AS (
        SELECT count(*)::int AS workers, coalesce(sum(threads), 0)::int AS threads,
               coalesce(sum(busy), 0)::int AS busy, coalesce(sum(async_slots), 0)::int AS async_slots,
               coalesce(sum(async_busy), 0)::int AS async_busy
        FROM live
    )
    SELECT service.workers, service.threads, service.busy, service.async_slots, service.async_busy,
           ({_HORIZON}),
           queue.name, queue.paused, queue.depth, queue.oldest_age, queue.dead_letters, queue.workers,
           queue.slo_wait, queue.slo_objective, queue.unrunnable
    FROM service LEFT JOIN queue ON true
    ORDER BY queue.name
"""

# The first entry of jobs_later_idx.
_LATENESS = f"""
    SELECT extract(epoch FROM now() - available_at)::float FROM jobs
    WHERE {LATER} AND available_at BETWEEN {FIRST} AND {LAST}
    ORDER BY available_at LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """The gauges of one queue.

    Attributes:
        depth: jobs that could start now, up to COUNTED_UP_TO; where they are many, as the scheduler counted
            them a few seconds ago. So are the dead letters.
        oldest_age_seconds: of the next jobs, how long the oldest could have started; 0 where there is none.
        dead_letters: jobs that are failed now.
        workers: live worker processes that serve it.
        slo_wait_seconds, slo_objective: its objective; None where it has none.
        unrunnable: of the next jobs, those whose type no live worker of the queue knows, whose payload one
            could not read, or that require what no worker has; 0 where no worker serves it.
    """

    name: str
    paused: bool
    depth: int
    oldest_age_seconds: float
    dead_letters: int
    workers: int
    slo_wait_seconds: float | None
    slo_objective: float | None
    unrunnable: int = 0


@dataclass(frozen=True, slots=True)
class ServiceGauges:
    """The whole service, by PostgreSQL.

    Attributes:
        workers, threads, busy: of the live workers that take jobs.
        async_slots, async_busy: how many async jobs they run at once beside their threads, and have.
        horizon_age_seconds: the age of the oldest transaction that holds back vacuum; 0 where none does.
    """

    workers: int
    threads: int
    busy: int
    async_slots: int
    async_busy: int
    horizon_age_seconds: float
    queues: tuple[QueueGauges, ...]


def read(connection: Connection, *, lease_seconds: float) -> ServiceGauges:
    """Read all gauges as they are now."""
    rows = fetch_all(connection, _READ, {"lease_seconds": lease_seconds})
    workers, threads, busy, async_slots, async_busy, horizon = rows[0][:6]
    queues = tuple(_queue(*row[6:]) for row in rows if row[6] is not None)
    return ServiceGauges(workers, threads, busy, async_slots, async_busy, max(0.0, horizon or 0.0), queues)


def horizon_age(connection: Connection) -> float:
    """Read the age of the oldest transaction that holds back vacuum, in seconds; 0 where none does."""
    row = fetch_one(connection, _HORIZON, {})
    return max(0.0, row[0] or 0.0) if row else 0.0


def lateness_of_due(connection: Connection) -> float:
    """Tell for how many seconds the first job whose time has come has waited for its place in the order."""
    row = fetch_one(connection, _LATENESS, {})
    return max(0.0, row[0]) if row else 0.0


def _queue(  # noqa: PLR0917  (the columns of a row)
    name: str,
    paused: bool | None,
    depth: int,
    oldest_age: float | None,
    dead_letters: int,
    workers: int,
    slo_wait: float | None,
    slo_objective: float | None,
    unrunnable: int | None,
) -> QueueGauges:
    has_slo = slo_wait is not None
    return QueueGauges(
        name=name,
        paused=bool(paused),
        depth=depth,
        oldest_age_seconds=max(0.0, oldest_age or 0.0),
        dead_letters=dead_letters,
        workers=workers,
        slo_wait_seconds=slo_wait,
        slo_objective=slo_objective if has_slo else None,
        unrunnable=unrunnable or 0,
    )
