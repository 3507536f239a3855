"""Rescuing: running jobs are taken back from workers that were lost."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import rank_of
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import FIRST, array, atomic, fetch_all
from goqueue.engine.transitions.release import settle
from goqueue.jobs import FINAL_STATUSES, JobStatus

__all__ = ["LOST_ERROR", "UNHEARD_ERROR", "Rescued", "rescue"]

# `workers.end_lost` ran before: a worker whose lease has ended cannot renew it any more, so none of its jobs
# can be claimed, held or recorded under it while they are taken back here. What is decided by is read where
# the row is locked: that is its last version, while the rest of the statement sees the rows as they were when
# it began, without the cancel, or the begin of what must not be repeated, that was noted meanwhile. Nor is a
# row taken that has another worker by then.
#
# Listed is all that runs, or what ended workers hold, from these on: past the entries of all others, and,
# under a held vacuum horizon, of all that has run since. A worker's row stays while it holds a job.
#
# What its worker took along keeps its place in the order, before all that came later, and gets its attempt
# back. The first death makes a suspect that runs beside others, the second one that runs alone; only the
# deaths of that count. A worker that was lost together with others of its host says nothing about one job:
# its jobs are no suspects then, but the next death sends them to run alone all the same, so that there is an
# end.
#
# `of_unheard` looks at nothing else than what workers hold that lease over HTTP, and live: of each of their
# jobs they have to be heard, since the answer that brought it may have been lost, and whoever has the name of
# a worker now may be another process. `updated_at` is when that was last.
_RESCUE = f"""
    WITH listed AS MATERIALIZED (
        SELECT holder, job_id, false AS lives FROM (
            SELECT holder, job_id FROM running_jobs
            WHERE holder >= 0 AND NOT %(of_ended)s::boolean AND NOT %(of_unheard)s::boolean
            UNION ALL
            SELECT ended.id, held.job_id FROM workers AS ended CROSS JOIN LATERAL (
                SELECT job_id FROM running_jobs WHERE (holder, job_id) > (ended.id, 0) AND holder <= ended.id
                ORDER BY holder, job_id LIMIT %(limit)s
            ) AS held
            WHERE ended.stopped_at IS NOT NULL AND %(of_ended)s::boolean AND NOT %(of_unheard)s::boolean
        ) AS running
        WHERE NOT EXISTS (SELECT FROM workers WHERE workers.id = holder AND stopped_at IS NULL)
        UNION ALL
        SELECT remote.id, held.job_id, true FROM workers AS remote CROSS JOIN LATERAL (
            SELECT job_id FROM running_jobs WHERE (holder, job_id) > (remote.id, 0) AND holder <= remote.id
            ORDER BY holder, job_id
        ) AS held
        WHERE remote.remote_name IS NOT NULL AND remote.stopped_at IS NULL AND %(of_unheard)s::boolean
        ORDER BY job_id
    ), lost AS MATERIALIZED (
        SELECT job.* FROM listed CROSS JOIN LATERAL (
            SELECT id, worker_id, deaths, cancel_requested_at IS NOT NULL AS cancelled,
                   unrepeatable_fence IS NOT DISTINCT FROM fence AS unrepeatable,
                   quarantined AND suspicion = 2 AS lonely,
                   suspicion > 0 OR worker_id <> ALL (%(lost_together)s::bigint[]) AS suspect
            FROM jobs
            WHERE jobs.id = listed.job_id AND status = 'running' AND worker_id = listed.holder
              AND (NOT listed.lives
                   OR jobs.updated_at <= now() - make_interval(secs => %(lease_seconds)s))
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
        LIMIT %(limit)s
    ), before AS (
        SELECT lost.*, CASE
                   WHEN cancelled THEN 'cancelled'
                   WHEN unrepeatable OR (lonely AND deaths + 1 >= %(max_deaths)s) THEN 'failed'
                   ELSE 'queued' END AS becomes,
               %(error)s::text || CASE WHEN unrepeatable
                   THEN '; its type says that it must not run again after that' ELSE '' END AS error
        FROM lost
    ), rescued AS (
        UPDATE jobs
        SET status = becomes,
            attempts = greatest(0, jobs.attempts - (becomes = 'queued')::int),
            deaths = jobs.deaths + lonely::int, quarantined = becomes = 'queued' AND suspect,
            suspicion = CASE WHEN becomes = 'queued' THEN least(2, jobs.suspicion + 1) ELSE 0 END,
            worker_id = NULL, fingerprint = NULL, unreadable_until = NULL,
            reason = CASE WHEN becomes = 'cancelled' THEN becomes ELSE 'worker_died' END,
            error = before.error, begun_at = CASE WHEN becomes <> 'queued' THEN jobs.begun_at END,
            available_at = now(), updated_at = now(),
            rank = CASE WHEN becomes = 'queued'
                THEN LEAST(jobs.rank, {rank_of("now()")}) END,
            finished_at = CASE WHEN becomes <> 'queued' THEN now() END
        FROM before WHERE jobs.id = before.id AND {rows_of("before")} AND jobs.status = 'running'
        RETURNING jobs.id, jobs.fence, jobs.queue, jobs.status, jobs.quarantined, jobs.started_at,
                  jobs.attempts + (becomes = 'queued')::int AS attempt, before.worker_id, before.error
    ), attempt AS (
        INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, started_at, run_seconds)
        SELECT id, fence, attempt, worker_id, 'worker_died', error, started_at,
               extract(epoch FROM now() - LEAST(GREATEST(started_at, {FIRST}), now()))
        FROM rescued
        ON CONFLICT DO NOTHING
    )
    SELECT id, status, queue, fence, quarantined FROM rescued
"""


#: The error of an attempt whose worker was lost.
LOST_ERROR = (
    "the worker process died or fell silent while it ran this job: it was killed, or code in C held Python's "
    "global lock (the GIL) for longer than the lease (lease_seconds)"
)

#: The error of an attempt of which a remote worker, which goes on, has said nothing for a lease.
UNHEARD_ERROR = (
    "the remote worker sent no heartbeat for this job for as long as the lease (lease_seconds): the answer "
    "that brought it the job was lost, or it stood still, or another process has its name"
)


class Rescued(NamedTuple):
    """A job that was taken back from a lost worker.

    Attributes:
        quarantined: it is a suspect; one that is queued and none may start at once, wherever there is room.
    """

    id: int
    status: JobStatus
    queue: str
    fence: int
    quarantined: bool


@retry_on_conflict
def rescue(
    connection: Connection,
    *,
    max_deaths: int,
    lost_together: Collection[int] = (),
    limit: int = 1000,
    leave_locked: bool = False,
    of_ended: bool = False,
    unheard_seconds: float | None = None,
) -> list[Rescued]:
    """Take back running jobs of ended workers, at most `limit`: running → queued, failed or cancelled.

    No attempt is spent. A job that died `max_deaths` times while it ran alone is failed. The end of workers
    that were `lost_together` with others says nothing about one of their jobs. What waits for those that
    ended is settled in the same transaction; with `leave_locked`, what somebody has locked is left to the
    releaser. `of_ended` looks at the jobs of workers that have ended, instead of at all that runs: it misses
    only those of a worker whose row is gone.

    `unheard_seconds` looks instead at what remote workers hold that live: jobs of which they have said
    nothing for so long. The answer that brought one was lost, or its worker forgot it.
    """
    parameters = {
        "max_deaths": max_deaths,
        "lost_together": array(lost_together),
        "limit": limit,
        "of_ended": of_ended,
        "of_unheard": unheard_seconds is not None,
        "lease_seconds": unheard_seconds or 0.0,
        "error": LOST_ERROR if unheard_seconds is None else UNHEARD_ERROR,
    }
    with atomic(connection):
        rows = fetch_all(connection, _RESCUE, parameters)
        rescued = [Rescued(row[0], JobStatus(row[1]), *row[2:]) for row in rows]
        ended = [job.id for job in rescued if job.status in FINAL_STATUSES]
        settle(connection, ended, leave_locked=leave_locked)
    return rescued
