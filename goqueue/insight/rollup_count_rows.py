"""Counting what ended into `rollups`: the SQL of the roller. It reads only the rows of the time it counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.bounded_reads import ALONG_INDEXES
from goqueue.db.statements import FIRST, fetch_all, fetch_one
from goqueue.insight.histograms import BOUNDS, added, trimmed
from goqueue.insight.rollup_rows import RollupScope
from goqueue.insight.rollup_steps import StepLength

__all__ = [
    "RollupCount",
    "add_up",
    "count",
    "delete_older",
    "lock_progress",
    "next_count",
    "next_end",
    "write",
]

_FINAL = ("completed", "failed", "cancelled", "expired")

# Two schedulers may lead for a moment, while one steps down: the second waits for the first here, and then
# sees how far that came.
_LOCK = "SELECT up_to FROM rollup_progress WHERE step_seconds = %(step_seconds)s FOR UPDATE"

_SET_PROGRESS = """
    INSERT INTO rollup_progress (step_seconds, up_to) VALUES (%(step_seconds)s, %(up_to)s)
    ON CONFLICT (step_seconds) DO UPDATE SET up_to = EXCLUDED.up_to
    RETURNING step_seconds
"""

# One descent of jobs_rare_since_idx for each status, and one of attempts_finished_idx. Not every attempt ends
# its job: a step may come out empty.
_FIRST_OF = """(SELECT rare_since FROM jobs
         WHERE rare_state = '{status}' AND rare_since IS NOT NULL AND rare_since >= %(since)s
         ORDER BY rare_since LIMIT 1)"""
_NEXT_END = f"""
    SELECT least({", ".join(_FIRST_OF.format(status=status) for status in _FINAL)},
        (SELECT finished_at FROM attempts WHERE finished_at >= %(since)s ORDER BY finished_at LIMIT 1))
"""

_NEXT_COUNT = """
    SELECT starts_at FROM rollups WHERE step_seconds = %(step_seconds)s AND starts_at >= %(since)s
    ORDER BY starts_at LIMIT 1
"""

# What a worker recorded is found by its attempts; the rest of what completed is left to `_RARELY_ENDED`.
_COMPLETED = """
        SELECT job.* FROM attempts CROSS JOIN LATERAL (
            SELECT id, fence, queue, type, status, started_at, available_at, finished_at FROM jobs
            WHERE jobs.id = attempts.job_id AND jobs.status = 'completed' LIMIT 1
        ) AS job
        WHERE attempts.finished_at >= %(since)s AND attempts.finished_at < %(until)s
          AND job.fence = attempts.fence AND job.finished_at = attempts.finished_at"""

_RARELY_ENDED = """
        SELECT id, fence, queue, type, status, started_at, available_at, finished_at FROM jobs
        WHERE rare_state = '{status}' AND rare_since >= %(since)s AND rare_since < %(until)s"""

# A worker of the release before 0016 records an attempt, and leaves it to the trigger to say that the job
# completed.
_COMPLETED_WITHOUT = (
    _RARELY_ENDED.format(status="completed")
    + """
          AND NOT EXISTS (SELECT FROM attempts WHERE job_id = jobs.id AND attempts.fence = jobs.fence
                          AND attempts.finished_at = jobs.finished_at)"""
)
_ENDED = (
    _COMPLETED,
    _COMPLETED_WITHOUT,
    *(_RARELY_ENDED.format(status=status) for status in _FINAL if status != "completed"),
)

_STARTS_AT = "date_bin(make_interval(secs => %(step_seconds)s), {moment}, timestamptz 'epoch')"

# Ranges of attempts_finished_idx and of jobs_rare_since_idx, and of each job one look for the attempt by
# which it ended (a job that was put back into its queue and cancelled there did not end by its last one). A
# job that is to become available after it started was not started by its turn: how long it waited is not
# known.
_COUNT = f"""
    WITH ended AS ({" UNION ALL".join(_ENDED)}
    ), measured AS (
        SELECT {_STARTS_AT.format(moment="ended.finished_at")} AS starts_at, queue, type, status,
               CASE WHEN ended.started_at >= available_at
                    THEN extract(epoch FROM ended.started_at - GREATEST(available_at, {FIRST}))::float
                    END AS wait,
               attempt.run_seconds AS run
        FROM ended LEFT JOIN LATERAL (
            SELECT run_seconds FROM attempts
            WHERE job_id = ended.id AND fence = ended.fence AND attempts.finished_at = ended.finished_at
            LIMIT 1
        ) AS attempt ON true
    )
    SELECT starts_at, queue, type, status, width_bucket(wait, %(bounds)s::float[]) AS wait_bucket,
           width_bucket(run, %(bounds)s::float[]) AS run_bucket,
           count(*)::int, coalesce(sum(wait), 0), coalesce(sum(run), 0)
    FROM measured GROUP BY starts_at, queue, type, status, wait_bucket, run_bucket
"""

# The attempts that failed, less those by which a job ended.
_RETRIED = f"""
    SELECT {_STARTS_AT.format(moment="attempts.finished_at")} AS starts_at, job.queue, job.type,
           count(*)::int
    FROM attempts CROSS JOIN LATERAL (
        SELECT queue, type, finished_at FROM jobs WHERE jobs.id = attempts.job_id LIMIT 1
    ) AS job
    WHERE attempts.outcome = 'failed'
      AND attempts.finished_at >= %(since)s AND attempts.finished_at < %(until)s
      AND job.finished_at IS DISTINCT FROM attempts.finished_at
    GROUP BY 1, 2, 3
"""

_PARTS = """
    SELECT scope, name, completed, failed, cancelled, expired, retried, waits, runs, wait_seconds, run_seconds
    FROM rollups
    WHERE step_seconds = %(step_seconds)s AND starts_at >= %(since)s AND starts_at < %(until)s
"""

# What is counted again replaces what was.
_WRITE = """
    INSERT INTO rollups (scope, name, step_seconds, starts_at, completed, failed, cancelled, expired, retried,
                         waits, runs, wait_seconds, run_seconds)
    SELECT scope, name, %(step_seconds)s, starts_at, completed, failed, cancelled, expired, retried,
           waits, runs, wait_seconds, run_seconds
    FROM json_to_recordset(%(rows)s::json) AS row (
        scope text, name text, starts_at timestamptz, completed int, failed int, cancelled int, expired int,
        retried int, waits int[], runs int[], wait_seconds float, run_seconds float)
    ON CONFLICT (scope, name, step_seconds, starts_at) DO UPDATE
    SET completed = EXCLUDED.completed, failed = EXCLUDED.failed, cancelled = EXCLUDED.cancelled,
        expired = EXCLUDED.expired, retried = EXCLUDED.retried, waits = EXCLUDED.waits, runs = EXCLUDED.runs,
        wait_seconds = EXCLUDED.wait_seconds, run_seconds = EXCLUDED.run_seconds
    RETURNING scope
"""

# Along rollups_age_idx.
_DELETE = """
    DELETE FROM rollups WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM rollups
        WHERE step_seconds = %(step_seconds)s AND starts_at < now() - make_interval(secs => %(age)s)
        ORDER BY starts_at LIMIT %(limit)s))
    RETURNING scope
"""

_PARAMETER_BOUNDS = "{" + ",".join(map(repr, BOUNDS)) + "}"

Key = tuple[RollupScope, str, datetime]


@dataclass(slots=True)
class RollupCount:
    """A row of `rollups` in the making."""

    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FINAL, 0))
    retried: int = 0
    waits: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    wait_seconds: float = 0.0
    run_seconds: float = 0.0


def lock_progress(connection: Connection, length: StepLength) -> datetime | None:
    """Lock the progress of these steps until the transaction ends; up to when they are counted, or None."""
    row = fetch_one(connection, _LOCK, {"step_seconds": length.seconds})
    return row[0] if row else None


def next_end(connection: Connection, since: datetime) -> datetime | None:
    """Find the first time since then at which a job ended or an attempt failed; None: there is none."""
    row = fetch_one(connection, _NEXT_END, {"since": since})
    return row[0] if row else None


def next_count(connection: Connection, length: StepLength, since: datetime) -> datetime | None:
    """Find the start of the first step since then in which something was counted; None: there is none."""
    row = fetch_one(connection, _NEXT_COUNT, {"step_seconds": length.seconds, "since": since})
    return row[0] if row else None


def count(
    connection: Connection, length: StepLength, since: datetime, until: datetime
) -> dict[Key, RollupCount]:
    """Read the rows of the steps between two moments, from the rows of jobs and attempts."""
    # By outdated statistics the planner might rather read the whole table.
    fetch_one(connection, ALONG_INDEXES, {})
    parameters = {
        "step_seconds": length.seconds,
        "since": since,
        "until": until,
        "bounds": _PARAMETER_BOUNDS,
    }
    counts: dict[Key, RollupCount] = {}
    for row in fetch_all(connection, _COUNT, parameters):
        for key in _keys(*row[:3]):
            _add(counts.setdefault(key, RollupCount()), *row[3:])
    for starts_at, queue, type_, jobs in fetch_all(connection, _RETRIED, parameters):
        for key in _keys(starts_at, queue, type_):
            counts.setdefault(key, RollupCount()).retried += jobs
    return counts


def add_up(
    connection: Connection, parts: StepLength, since: datetime, until: datetime
) -> dict[Key, RollupCount]:
    """Read the rows of one step as the sums of those that are its parts."""
    parameters = {"step_seconds": parts.seconds, "since": since, "until": until}
    counts: dict[Key, RollupCount] = {}
    for row in fetch_all(connection, _PARTS, parameters):
        total = counts.setdefault((RollupScope(row[0]), row[1], since), RollupCount())
        for status, jobs in zip(_FINAL, row[2:6], strict=True):
            total.ended[status] += jobs
        total.retried += row[6]
        total.waits, total.runs = list(added(total.waits, row[7])), list(added(total.runs, row[8]))
        total.wait_seconds += row[9]
        total.run_seconds += row[10]
    return counts


def write(
    connection: Connection, length: StepLength, counts: dict[Key, RollupCount], up_to: datetime
) -> None:
    """Put the rows in the place of what was counted before, and note until when is counted."""
    if counts:
        records = [_record(key, counts[key]) for key in sorted(counts)]
        parameters = {"step_seconds": length.seconds, "rows": orjson.dumps(records).decode()}
        fetch_all(connection, _WRITE, parameters)
    fetch_one(connection, _SET_PROGRESS, {"step_seconds": length.seconds, "up_to": up_to})


def delete_older(connection: Connection, length: StepLength, *, limit: int) -> int:
    """Delete rows that are older than they are kept, the oldest first; how many."""
    parameters = {"step_seconds": length.seconds, "age": length.kept_seconds, "limit": limit}
    return len(fetch_all(connection, _DELETE, parameters))


def _keys(starts_at: datetime, queue: str, type_: str) -> Iterable[Key]:
    return (
        (RollupScope.SERVICE, "", starts_at),
        (RollupScope.QUEUE, queue, starts_at),
        (RollupScope.TYPE, type_, starts_at),
    )


def _add(
    total: RollupCount, status: str, wait: int | None, run: int | None, jobs: int, *seconds: float
) -> None:
    total.ended[status] += jobs
    for histogram, bucket in ((total.waits, wait), (total.runs, run)):
        if bucket is not None:
            histogram.extend([0] * (bucket + 1 - len(histogram)))
            histogram[bucket] += jobs
    total.wait_seconds += seconds[0]
    total.run_seconds += seconds[1]


def _record(key: Key, total: RollupCount) -> dict[str, Any]:
    scope, name, starts_at = key
    return {
        "scope": scope.value,
        "name": name,
        "starts_at": starts_at,
        **total.ended,
        "retried": total.retried,
        "waits": trimmed(total.waits),
        "runs": trimmed(total.runs),
        "wait_seconds": total.wait_seconds,
        "run_seconds": total.run_seconds,
    }
