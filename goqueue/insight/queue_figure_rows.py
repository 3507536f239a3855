"""Queues as their pages show them, beside what `overview` tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, RUNNING_JOBS
from goqueue.db.statements import Values, fetch_all
from goqueue.engine.queue_rows import PAUSED
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.insight.overview_rows import COUNTED_UP_TO
from goqueue.limits.queue_setting_rows import DEFAULTS, LIMITS, limits_from_row
from goqueue.limits.settings import QueueLimits

__all__ = ["QueueCount", "QueueCounts", "QueueStanding", "counts_of_each", "standing_of_each"]


#: Of waiting and running jobs each is a row to look at: their indexes do not hold the queue.
ROWS_COUNTED_UP_TO = 10_000


def _grouped(name: str, rows: str, up_to: int) -> str:
    """Counts by queue, and whether not all of them were counted, of whichever queue."""
    return f"""
    {name} AS MATERIALIZED (
        SELECT queue, count(*) AS count, sum(count(*)) OVER () >= {up_to} AS is_least
        FROM (SELECT queue FROM {rows} LIMIT {up_to}) AS counted GROUP BY queue)"""


def _count(name: str) -> str:
    return f"coalesce({name}.count, 0)::int, coalesce((SELECT bool_or(is_least) FROM {name}), false)"


# Each count walks the table or the partial index of its state. Failed jobs are counted by jobs_failure_idx
# alone, which holds their queue.
_COUNTS = f"""
    WITH {_grouped("waiting", f"jobs WHERE {LATER}", ROWS_COUNTED_UP_TO)},
    {_grouped("running", RUNNING_JOBS, ROWS_COUNTED_UP_TO)},
    {_grouped("failed", "jobs WHERE rare_state = 'failed'", COUNTED_UP_TO)},
    live AS MATERIALIZED (
        SELECT queue, count(*)::int AS workers, sum(threads)::int AS threads
        FROM workers CROSS JOIN unnest(queues) AS queue WHERE {SERVING} GROUP BY queue
    )
    SELECT named.queue, {_count("waiting")}, {_count("running")}, {_count("failed")},
           coalesce(live.workers, 0), coalesce(live.threads, 0)
    FROM unnest(%(names)s::text[]) AS named (queue)
    LEFT JOIN waiting USING (queue)
    LEFT JOIN running USING (queue)
    LEFT JOIN failed USING (queue)
    LEFT JOIN live USING (queue)
"""

_STANDING = f"""
    SELECT name, CASE WHEN {PAUSED} THEN paused_at END, CASE WHEN {PAUSED} THEN paused_until END,
           CASE WHEN {PAUSED} THEN paused_by END, CASE WHEN {PAUSED} THEN pause_reason END,
           CASE WHEN throttled_until > now() THEN throttled_until END,
           CASE WHEN ramping_until > now() AND ramping_since <= now() THEN ramping_until END, {LIMITS}
    FROM queues WHERE name = ANY (%(names)s)
"""


class QueueCount(NamedTuple):
    """A number of jobs; `is_least`: it was not counted further."""

    value: int = 0
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The counts of what does not wait for a worker, and of who works.

    Attributes:
        waiting: jobs whose time has not come.
        workers, threads: live worker processes that take its jobs.
    """

    waiting: QueueCount
    running: QueueCount
    failed: QueueCount
    workers: int
    threads: int


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """The way in which a queue lets its jobs in now.

    Attributes:
        paused_at, paused_until, paused_by, pause_reason: its pause, where it is paused.
        throttled_until: it was told to slow down, and starts nothing before.
        ramping_until: it grows from one job at a time until then.
    """

    paused_at: datetime | None = None
    paused_until: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    throttled_until: datetime | None = None
    ramping_until: datetime | None = None
    limits: QueueLimits = DEFAULTS

    @property
    def is_closed(self) -> bool:
        """Whether the queue starts no job now: it is paused, or was told to slow down."""
        return self.paused_at is not None or self.throttled_until is not None


def counts_of_each(
    connection: Connection, names: Sequence[str], *, lease_seconds: float
) -> dict[str, QueueCounts]:
    """Read the counts of these queues, by name."""
    parameters = {"names": list(names), "lease_seconds": lease_seconds}
    return {row[0]: _counts(row) for row in fetch_all(connection, _COUNTS, parameters)}


def standing_of_each(connection: Connection, names: Sequence[str]) -> dict[str, QueueStanding]:
    """Tell how queues let their jobs in now, by name; those without a row are left out."""
    rows = fetch_all(connection, _STANDING, {"names": list(names)})
    return {name: _standing(*columns) for name, *columns in rows}


def _counts(row: Values) -> QueueCounts:
    waiting, running, failed = (QueueCount(row[place], row[place + 1]) for place in (1, 3, 5))
    return QueueCounts(waiting, running, failed, *row[7:])


def _standing(
    paused_at: datetime | None,
    paused_until: datetime | None,
    paused_by: str | None,
    pause_reason: str | None,
    throttled_until: datetime | None,
    ramping_until: datetime | None,
    *limits: Any,
) -> QueueStanding:
    return QueueStanding(
        paused_at=paused_at,
        paused_until=paused_until,
        paused_by=paused_by,
        pause_reason=pause_reason,
        throttled_until=throttled_until,
        ramping_until=ramping_until,
        limits=limits_from_row(limits),
    )
