"""Claiming by range: a worker takes the first ready jobs between places in the order of a queue.

What `claim.py` says of its statement holds for this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import READY_ORDER, ready_between
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import array, contents_of, fetch_all, text_array
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.transitions.claim import (
    ASSIGNMENTS,
    CLAIMED,
    HAS_LEASE,
    LISTED_AS_RUNNING,
    MAY_START,
    claimant,
    claimed_job,
)
from goqueue.jobs import ClaimedJob

__all__ = ["Range", "claim_ranges", "messages_in"]

#: Behind which (rank, id) it begins, and with which it ends.
Range = tuple[tuple[str, int], tuple[str, int]]

_IN_RANGE = ready_between("%(queue)s", "range.behind, range.behind_id", "range.last, range.last_id + 1")

# Rows in the order of `ready_jobs`, from one place in it to another: first which they are, which is no more
# than a few ranges hold, and then one by one the rows of the jobs, as far as there is room. In one step, the
# planner would rather lock all of them and sort. Two such statements pass over each other's locked rows, so
# their order does not matter. Arrays and limit are kept from the planner, as by `KEYS`.
_CLAIM_RANGES = f"""
    WITH listed AS MATERIALIZED (
        SELECT ready.*
        FROM unnest((SELECT %(behind)s::timestamptz[]), (SELECT %(behind_ids)s::bigint[]),
                    (SELECT %(last)s::timestamptz[]), (SELECT %(last_ids)s::bigint[]))
             AS range (behind, behind_id, last, last_id)
        CROSS JOIN LATERAL (
            SELECT ctid AS ready_place, ready_rank, job_id, job_fence FROM ready_jobs
            WHERE {_IN_RANGE}
            ORDER BY {READY_ORDER}
        ) AS ready
    ), chosen AS MATERIALIZED (
        SELECT job.* FROM listed CROSS JOIN LATERAL (
            SELECT jobs.id, listed.ready_place FROM jobs
            WHERE jobs.id = listed.job_id AND jobs.fence = listed.job_fence AND jobs.rank = listed.ready_rank
              AND jobs.queue = %(queue)s AND jobs.status = 'queued' AND NOT jobs.quarantined
              AND {MAY_START}
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
        WHERE {HAS_LEASE}
        LIMIT (SELECT %(limit)s::bigint)
    ), {LISTED_AS_RUNNING}
    UPDATE jobs SET status = 'running', {ASSIGNMENTS}
    WHERE {rows_of("chosen")}
    RETURNING {CLAIMED}, date_part('epoch', rank)
"""

#: Jobs of ranges, to be claimed one by one where PostgreSQL refuses one of them.
_IN_RANGES = f"""
    SELECT job.job_id, job.job_fence
    FROM unnest(%(behind)s::timestamptz[], %(behind_ids)s::bigint[],
                %(last)s::timestamptz[], %(last_ids)s::bigint[])
         AS range (behind, behind_id, last, last_id)
    CROSS JOIN LATERAL (
        SELECT job_id, job_fence FROM ready_jobs
        WHERE {_IN_RANGE}
        ORDER BY {READY_ORDER} LIMIT %(limit)s
    ) AS job
    LIMIT %(limit)s
"""


@retry_on_conflict
def claim_ranges(
    connection: Connection,
    queue: str,
    ranges: Sequence[Range],
    *,
    limit: int,
    worker_id: int,
    lease_seconds: float,
    known: KnownTypes | None = None,
) -> list[ClaimedJob]:
    """Move the first `limit` ready jobs of these ranges of a queue to running, as `claim` does; in order.

    A range says behind which (rank, id) it begins, and with which it ends.
    """
    parameters = {
        **_range_arrays(ranges),
        **claimant(worker_id, lease_seconds, known),
        "queue": queue,
        "limit": limit,
    }
    rows = sorted(fetch_all(connection, _CLAIM_RANGES, parameters), key=lambda row: (row[-1], row[0]))
    contents = contents_of(connection)
    return [claimed_job(row[:-1], contents) for row in rows]


def messages_in(
    connection: Connection, queue: str, ranges: Sequence[Range], *, limit: int
) -> list[tuple[int, int]]:
    """Read the (id, fence) of the first `limit` ready jobs of these ranges, in order."""
    parameters = {**_range_arrays(ranges), "queue": queue, "limit": limit}
    return [(row[0], row[1]) for row in fetch_all(connection, _IN_RANGES, parameters)]


def _range_arrays(ranges: Sequence[Range]) -> dict[str, str]:
    return {
        "behind": text_array(tuple(behind[0] for behind, _ in ranges)),
        "behind_ids": array(behind[1] for behind, _ in ranges),
        "last": text_array(tuple(last[0] for _, last in ranges)),
        "last_ids": array(last[1] for _, last in ranges),
    }
