"""Counts for people to read, each along the partial index of its state.

Those of few jobs are counted when they are asked for; those of many are the ones that the scheduler keeps
(`kept_count_rows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import READY_JOBS, READY_ORDER, ready_between
from goqueue.db.statements import FIRST, fetch_all, fetch_one
from goqueue.engine.listing.kept_count_rows import FRESH, GLANCED_AT, KINDS
from goqueue.engine.queue_rows import PAUSED
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.engine.workers.worker_slot_rows import EACH_QUEUE, QUEUE_SLOTS
from goqueue.jobs import MAX_JOB_ID, JobStatus

__all__ = ["COUNTED_UP_TO", "QueueStatistics", "ServiceStatistics", "by_queue", "of_service"]

#: Where no count is kept, counting stops here: a count of this number means "this many or more". About a
#: tenth of a second a state.
COUNTED_UP_TO = 1_000_000

#: The oldest is looked for among so many of the next jobs of each queue, each of which is a row to look at.
#: An older one behind them has a lower priority.
OLDEST_AMONG = 20

_KEPT = f"""
    kept AS MATERIALIZED (SELECT kind, name, jobs FROM kept_counts WHERE {FRESH})
"""


def _bound(kept: str) -> str:
    """Up to where to count: where a count is kept, only to see that there are not fewer now."""
    return f"LIMIT CASE WHEN {kept} IS NULL THEN {COUNTED_UP_TO} ELSE {GLANCED_AT} END"


def _scattered(name: str) -> str:
    """Counts by queue of a state whose index does not begin with the queue: all are counted, or none."""
    return f"""{name} AS MATERIALIZED (
        SELECT name AS queue, jobs AS count, true AS is_kept FROM kept WHERE kind = '{name}'
        UNION ALL
        SELECT queue, count(*), false FROM (
            SELECT queue FROM (SELECT queue FROM {KINDS[name]}) AS jobs
            WHERE NOT EXISTS (SELECT FROM kept WHERE kind = '{name}') LIMIT {COUNTED_UP_TO}
        ) AS counted GROUP BY queue)"""


def _of_queue(name: str, rows: str, order: str) -> str:
    """The count of a state of one queue, along its part of the index of the state."""
    return f"""
    LEFT JOIN kept AS kept_{name} ON kept_{name}.kind = '{name}' AND kept_{name}.name = queues.name
    CROSS JOIN LATERAL (
        SELECT CASE WHEN count(*) = {GLANCED_AT} THEN coalesce(kept_{name}.jobs, count(*)) ELSE count(*)
               END AS count, count(*) = {GLANCED_AT} AND kept_{name}.jobs IS NOT NULL AS is_kept
        FROM (SELECT FROM {rows} ORDER BY {order} {_bound(f"kept_{name}.jobs")}) AS counted
    ) AS {name}"""


# Said as rows: with `queue = …` the planner may walk the failed jobs of all queues, or all jobs of the queue.
_FAILED_OF_QUEUE = (
    "jobs WHERE rare_state = 'failed' AND (rare_state, queue, id) > ('failed', queues.name, 0) "
    f"AND (rare_state, queue, id) < ('failed', queues.name, {MAX_JOB_ID})"
)

# The laterals walk the queue's part of `ready_jobs`, in rank order, and of jobs_rare_queue_idx.
_BY_QUEUE = f"""
    WITH {_KEPT}, {_scattered("waiting")}, {_scattered("quarantined")}, {_scattered("running")},
    live AS (
        SELECT queue, count(*) AS workers, sum(threads) AS threads, sum({QUEUE_SLOTS}) AS slots
        FROM workers CROSS JOIN {EACH_QUEUE}
        WHERE {SERVING}
        GROUP BY queue
    )
    SELECT queues.name, CASE WHEN {PAUSED} THEN queues.paused_at END, ready.count, coalesce(waiting.count, 0),
           coalesce(quarantined.count, 0), coalesce(running.count, 0), failed.count,
           extract(epoch FROM now() - head.oldest)::float, coalesce(live.workers, 0)::int,
           coalesce(live.threads, 0)::int, CASE WHEN {PAUSED} THEN queues.paused_until END,
           CASE WHEN {PAUSED} THEN queues.paused_by END, CASE WHEN {PAUSED} THEN queues.pause_reason END,
           CASE WHEN queues.throttled_until > now() THEN queues.throttled_until END,
           array_remove(ARRAY[CASE WHEN ready.is_kept THEN 'ready' END,
                              CASE WHEN waiting.is_kept THEN 'waiting' END,
                              CASE WHEN quarantined.is_kept THEN 'quarantined' END,
                              CASE WHEN running.is_kept THEN 'running' END,
                              CASE WHEN failed.is_kept THEN 'failed' END], NULL),
           coalesce(live.slots, 0)::int
    FROM queues
    {_of_queue("ready", f"ready_jobs WHERE {ready_between('queues.name')}", READY_ORDER)}
    {_of_queue("failed", _FAILED_OF_QUEUE, "rare_state, queue, id")}
    CROSS JOIN LATERAL (
        SELECT min(GREATEST(available_at, {FIRST})) AS oldest FROM (
            SELECT available_at FROM {READY_JOBS} WHERE {ready_between("queues.name")}
            ORDER BY {READY_ORDER} LIMIT {OLDEST_AMONG}) AS next
    ) AS head
    LEFT JOIN waiting ON waiting.queue = queues.name
    LEFT JOIN quarantined ON quarantined.queue = queues.name
    LEFT JOIN running ON running.queue = queues.name
    LEFT JOIN live ON live.queue = queues.name
    WHERE %(name)s::text IS NULL OR queues.name = %(name)s
    ORDER BY queues.name
"""


def _total(name: str, rows: str) -> str:
    """Select the live count of a state, as far as it is counted, and the kept one."""
    kept = f"(SELECT sum(jobs) FROM kept WHERE kind = '{name}')"
    return f"""
        SELECT '{name}', {kept}::bigint, (SELECT count(*) FROM (
            SELECT FROM {rows} {_bound(kept)}) AS counted)"""


_COUNTS = f"WITH {_KEPT} " + " UNION ALL ".join(_total(name, rows) for name, rows in KINDS.items())


# A job may end again after it was run again, so that of attempts, too, the last one counts.
_LATELY_COMPLETED = """
    attempts CROSS JOIN LATERAL (
        SELECT finished_at FROM jobs WHERE jobs.id = attempts.job_id AND jobs.status = 'completed' LIMIT 1
    ) AS job
    WHERE attempts.finished_at > now() - interval '1 minute'
      AND job.finished_at = attempts.finished_at
"""


def _finished(status: JobStatus, up_to: int) -> str:
    """Select how many ended in the last minute; of completed ones, with the few that have no attempt."""
    rare = f"jobs WHERE rare_state = '{status.value}' AND rare_since > now() - interval '1 minute'"
    sources = [rare, _LATELY_COMPLETED] if status is JobStatus.COMPLETED else [rare]
    counts = (f"(SELECT count(*) FROM (SELECT FROM {rows} LIMIT {up_to}) AS counted)" for rows in sources)
    return f"least({up_to}, {' + '.join(counts)})"


# reltuples is -1 before the first vacuum or analyze. Of partitions, those are summed up that have the rows.
_COMPLETED_ESTIMATE = """
    SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
    WHERE relkind = 'r' AND (oid = 'jobs'::regclass OR oid = ANY (ARRAY (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'jobs'::regclass)))
"""

_ENDS = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)


def _finished_up_to(up_to: int) -> str:
    return "SELECT " + ", ".join(_finished(status, up_to) for status in _ENDS)


#: What ended in a minute is counted up to here; where more did, the roller has counted it.
ENDS_COUNTED_UP_TO = 1_000

# The last minute of what is counted. No row: no roller has run lately.
_FINISHED_COUNTED = """
    SELECT coalesce(sum(completed), 0)::int, coalesce(sum(failed), 0)::int,
           coalesce(sum(cancelled), 0)::int, coalesce(sum(expired), 0)::int
    FROM rollup_progress LEFT JOIN rollups
      ON scope = 'service' AND name = '' AND rollups.step_seconds = 10
      AND starts_at >= up_to - interval '1 minute'
    WHERE rollup_progress.step_seconds = 10 AND up_to > now() - interval '1 minute'
    GROUP BY up_to
"""

_OLDEST_READY = f"""
    SELECT extract(epoch FROM now() - min(GREATEST(available_at, {FIRST})))::float FROM (
        SELECT next.available_at FROM queues CROSS JOIN LATERAL (
            SELECT available_at FROM {READY_JOBS} WHERE {ready_between("queues.name")}
            ORDER BY {READY_ORDER} LIMIT {OLDEST_AMONG}) AS next
    ) AS heads
"""

_WORKERS = f"""
    SELECT count(*)::int, coalesce(sum(threads), 0)::int, coalesce(sum(busy), 0)::int,
           coalesce(sum(async_slots), 0)::int, coalesce(sum(async_busy), 0)::int
    FROM workers WHERE {SERVING}
"""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """One queue: what waits in it, and who serves it.

    Attributes:
        oldest_ready_age_seconds: of the next jobs, how long the oldest could have started.
        estimated: the counts that the scheduler made a few seconds ago, because they are many.
        slots: jobs of it that its live workers run at once: on their threads, their event loops, or both.
    """

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
    estimated: Sequence[str] = ()
    slots: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """The statistics of all queues together.

    Attributes:
        counts: ready, waiting, quarantined, blocked, running, failed, cancelled, expired.
        completed_estimate: rows by the planner's statistics, less the counted ones.
        finished_last_minute: completed, failed, cancelled, expired.
        workers, threads, busy: of the live workers that take jobs.
        async_slots, async_busy: how many async jobs they run at once beside their threads, and have.
        estimated: the counts that the scheduler made a few seconds ago, because they are many;
            finished_last_minute is that of the last minute that was counted.
    """

    counts: dict[str, int]
    completed_estimate: int
    finished_last_minute: dict[str, int]
    oldest_ready_age_seconds: float | None
    workers: int
    threads: int
    busy: int
    async_slots: int
    async_busy: int
    estimated: Sequence[str] = ()


def by_queue(
    connection: Connection, *, lease_seconds: float, name: str | None = None
) -> list[QueueStatistics]:
    """Read every queue that has a row, by name; or the one of this name."""
    rows = fetch_all(connection, _BY_QUEUE, {"lease_seconds": lease_seconds, "name": name})
    return [QueueStatistics(*row) for row in rows]


def of_service(connection: Connection, *, lease_seconds: float) -> ServiceStatistics:
    """Read the service at a glance."""
    counts, estimated = _counts(connection)
    (rows_estimate,) = _row(connection, _COMPLETED_ESTIMATE)
    finished = _row(connection, _finished_up_to(ENDS_COUNTED_UP_TO))
    if ENDS_COUNTED_UP_TO in finished:
        counted = fetch_one(connection, _FINISHED_COUNTED, {})
        finished = counted or _row(connection, _finished_up_to(COUNTED_UP_TO))
        estimated += ["finished_last_minute"] if counted else []
    (oldest,) = _row(connection, _OLDEST_READY)
    crew = _row(connection, _WORKERS, lease_seconds=lease_seconds)
    workers, threads, busy, async_slots, async_busy = crew
    return ServiceStatistics(
        counts=counts,
        completed_estimate=max(0, rows_estimate - sum(counts.values())),
        finished_last_minute=dict(zip((status.value for status in _ENDS), finished, strict=True)),
        oldest_ready_age_seconds=oldest,
        workers=workers,
        threads=threads,
        busy=busy,
        async_slots=async_slots,
        async_busy=async_busy,
        estimated=estimated,
    )


def _counts(connection: Connection) -> tuple[dict[str, int], list[str]]:
    """The counts of each state, and those that are kept ones."""
    rows = fetch_all(connection, _COUNTS, {})
    kept = {str(name): int(jobs) for name, jobs, live in rows if jobs is not None and live >= GLANCED_AT}
    live_counts = {str(name): int(live) for name, _, live in rows}
    return live_counts | kept, list(kept)


def _row(connection: Connection, sql: str, **parameters: float) -> tuple[int, ...]:
    row = fetch_one(connection, sql, parameters)
    assert row is not None
    return row
