"""The nominal times of schedules that were decided: one row each, and with it the job, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.jobs import JobStatus

__all__ = [
    "TickRow",
    "UnfinishedJob",
    "decided",
    "forget",
    "page",
    "recent_of_each",
    "record",
    "record_manual",
    "unfinished_jobs",
]

#: Jobs of older ticks than so many are taken to have ended: a look back has to end somewhere.
LOOK_BACK = 1_000

# The primary key (schedule, nominal time, kind) refuses a second decision, and with it the job that this
# transaction has inserted.
_RECORD = """
    INSERT INTO schedule_ticks (schedule_id, nominal_at, kind, outcome, job_id)
    SELECT %(id)s, nominal_at, 'scheduled', outcome, job_id
    FROM json_to_recordset(%(ticks)s::json) AS tick (nominal_at timestamptz, outcome text, job_id bigint)
    RETURNING nominal_at
"""

_RECORD_MANUAL = """
    INSERT INTO schedule_ticks (schedule_id, nominal_at, kind, outcome, job_id)
    VALUES (%(id)s, clock_timestamp(), 'manual', 'fired', %(job_id)s) RETURNING nominal_at
"""

_DECIDED = """
    SELECT nominal_at FROM schedule_ticks
    WHERE schedule_id = %(id)s AND kind = 'scheduled' AND nominal_at = ANY(%(times)s::timestamptz[])
"""

# The newest ticks by a walk along the primary key, and each one's job by its own.
_UNFINISHED = """
    SELECT job.id, job.status FROM (
        (SELECT job_id FROM schedule_ticks WHERE schedule_id = %(id)s
         ORDER BY nominal_at DESC LIMIT %(limit)s)
        UNION ALL SELECT unnest(%(also)s::bigint[])
    ) AS tick
    CROSS JOIN LATERAL (
        SELECT id, status FROM jobs WHERE jobs.id = tick.job_id AND finished_at IS NULL LIMIT 1
    ) AS job
    ORDER BY job.id
"""

_PAGE = """
    SELECT tick.nominal_at, tick.kind, tick.outcome, tick.job_id, job.status, tick.decided_at
    FROM (
        SELECT * FROM schedule_ticks
        WHERE schedule_id = %(id)s AND nominal_at < coalesce(%(before)s::timestamptz, 'infinity')
        ORDER BY nominal_at DESC, kind DESC LIMIT %(limit)s
    ) AS tick
    LEFT JOIN jobs AS job ON job.id = tick.job_id
    ORDER BY tick.nominal_at DESC, tick.kind DESC
"""

# A walk along the primary key for each schedule, and each tick's job by its own: bounded by both numbers.
_RECENT_OF_EACH = """
    SELECT chosen.id, tick.nominal_at, tick.kind, tick.outcome, tick.job_id, job.status, tick.decided_at
    FROM unnest(%(ids)s::bigint[]) AS chosen (id)
    CROSS JOIN LATERAL (
        SELECT * FROM schedule_ticks WHERE schedule_id = chosen.id
        ORDER BY nominal_at DESC, kind DESC LIMIT %(limit)s
    ) AS tick
    LEFT JOIN LATERAL (SELECT status FROM jobs WHERE jobs.id = tick.job_id LIMIT 1) AS job ON true
    ORDER BY chosen.id, tick.nominal_at DESC, tick.kind DESC
"""

# By schedule, so that each walk along the primary key ends at the first tick that is young enough.
_FORGET = """
    DELETE FROM schedule_ticks WHERE (schedule_id, nominal_at, kind) IN (
        SELECT schedules.id, old.nominal_at, old.kind FROM schedules
        CROSS JOIN LATERAL (
            SELECT nominal_at, kind FROM schedule_ticks
            WHERE schedule_id = schedules.id AND nominal_at < now() - make_interval(secs => %(age)s)
            ORDER BY nominal_at LIMIT %(limit)s
        ) AS old
        LIMIT %(limit)s)
    RETURNING nominal_at
"""


class TickRow(NamedTuple):
    """A tick that was decided.

    Attributes:
        job_status: None where it has no job, or the job was deleted meanwhile.
    """

    nominal_at: datetime
    kind: str
    outcome: str
    job_id: int | None
    job_status: str | None
    decided_at: datetime


class UnfinishedJob(NamedTuple):
    """The job of an earlier tick."""

    id: int
    status: JobStatus


def record(
    connection: Connection, schedule_id: int, ticks: Sequence[tuple[datetime, str, int | None]]
) -> None:
    """Record what was decided about nominal times: (time, outcome, job), in the transaction of the jobs."""
    rows = [
        {"nominal_at": nominal_at, "outcome": outcome, "job_id": job_id}
        for nominal_at, outcome, job_id in ticks
    ]
    fetch_all(connection, _RECORD, {"id": schedule_id, "ticks": orjson.dumps(rows).decode()})


def record_manual(connection: Connection, schedule_id: int, job_id: int) -> None:
    """Record a job that someone asked for; its nominal time is now."""
    fetch_one(connection, _RECORD_MANUAL, {"id": schedule_id, "job_id": job_id})


def decided(connection: Connection, schedule_id: int, times: Iterable[datetime]) -> set[datetime]:
    """Tell which of these nominal times have been decided before: none, unless a clock was set back."""
    parameters = {"id": schedule_id, "times": list(times)}
    return {row[0] for row in fetch_all(connection, _DECIDED, parameters)}


def unfinished_jobs(connection: Connection, schedule_id: int, *, also: Iterable[int]) -> list[UnfinishedJob]:
    """Read the jobs of the newest 1,000 ticks, and these, that have not finished; the oldest first."""
    parameters = {"id": schedule_id, "limit": LOOK_BACK, "also": array(also)}
    return [
        UnfinishedJob(row[0], JobStatus(row[1])) for row in fetch_all(connection, _UNFINISHED, parameters)
    ]


def page(connection: Connection, schedule_id: int, *, before: datetime | None, limit: int) -> list[TickRow]:
    """Read decided ticks with a nominal time before this one, the newest first."""
    parameters = {"id": schedule_id, "before": before, "limit": limit}
    return [TickRow(*row) for row in fetch_all(connection, _PAGE, parameters)]


def recent_of_each(
    connection: Connection, schedule_ids: Iterable[int], *, limit: int
) -> dict[int, list[TickRow]]:
    """Read so many decided ticks of each schedule, the newest first; one without any is left out."""
    found: dict[int, list[TickRow]] = {}
    for row in fetch_all(connection, _RECENT_OF_EACH, {"ids": array(schedule_ids), "limit": limit}):
        found.setdefault(row[0], []).append(TickRow(*row[1:]))
    return found


def forget(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Delete ticks whose nominal time is longer ago than the age; how many."""
    return len(fetch_all(connection, _FORGET, {"age": age_seconds, "limit": limit}))
