"""Giving back: a worker returns jobs that it claimed and that have not begun."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import KEYS, atomic, fetch_all, key_arrays
from goqueue.engine.queue_rows import CLOSED, GOVERNED
from goqueue.engine.transitions.release import Released, settle
from goqueue.jobs import JobStatus

__all__ = ["GivenBack", "Returns", "give_back"]

# What was claimed and never began: no attempt is counted and none is written, its place in the order is what
# it was (a claim leaves `rank` alone), and of a governed queue it keeps the slot that it held while it was
# claimed, and what it will spend of a rate: the grant follows the fence, which only ever rises. (A breaker
# that opened meanwhile takes back what was let in.) Which schemas could not read its payload stays noted, and
# until when it waits for another one: nobody has read it meanwhile. One that somebody wanted stopped ends
# here. Rows are changed by their ids, because somebody may ask for that at this moment. A locked row is
# passed over, and given back later. Whoever gives back under an old fence, or twice, changes nothing.
_GIVE_BACK = f"""
    WITH held AS MATERIALIZED (
        SELECT job.id, job.queue, job.fence
        FROM {KEYS} AS claim (id, fence)
        CROSS JOIN LATERAL (
            SELECT jobs.id, jobs.queue, jobs.fence FROM jobs
            WHERE jobs.id = claim.id AND jobs.fence = claim.fence AND jobs.status || '' = 'running'
              AND jobs.worker_id = %(worker_id)s
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    ), unspent AS (
        UPDATE rate_grants SET fence = held.fence FROM held
        WHERE rate_grants.queue = held.queue AND rate_grants.used_at IS NULL
          AND rate_grants.job_id = held.id AND rate_grants.fence = held.fence - 1
    )
    UPDATE jobs
    SET status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
        reason = CASE WHEN cancel_requested_at IS NULL THEN reason ELSE 'cancelled' END,
        finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END,
        attempts = greatest(jobs.attempts - 1, 0), worker_id = NULL, begun_at = NULL, updated_at = now(),
        started_at = (SELECT last.started_at FROM attempts AS last WHERE last.job_id = jobs.id
                      ORDER BY last.fence DESC LIMIT 1),
        admitted = cancel_requested_at IS NULL
            AND (jobs.queue = ANY (ARRAY (SELECT name FROM queues WHERE {GOVERNED}))
                 OR jobs.type = ANY (ARRAY (SELECT name FROM types WHERE governed)))
            AND NOT EXISTS (SELECT FROM types WHERE name = jobs.type AND breaker_state <> 'closed'
                            AND breaker_changed_at > jobs.started_at)
    WHERE jobs.id = ANY (ARRAY (SELECT id FROM held)) AND status = 'running'
    RETURNING jobs.id, jobs.fence, jobs.status, jobs.status = 'queued' AND NOT jobs.quarantined
        AND (LEAST(expires_at, deadline_at) > now()) IS NOT FALSE
        AND jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE {CLOSED}))
"""


class GivenBack(NamedTuple):
    """A job that was claimed and went back without having begun.

    Attributes:
        fence: under which it may be claimed next.
        status: queued; or cancelled, where somebody had asked for that.
        starts: it may start now, beside others: its queue is open and its time is not over. (A suspect is
            pushed by the dispatcher, to where it belongs.)
    """

    id: int
    fence: int
    status: JobStatus
    starts: bool


class Returns(NamedTuple):
    """The result of giving claims back: the jobs, and those that a cancelled one of them released."""

    jobs: list[GivenBack]
    released: list[Released]


@retry_on_conflict
def give_back(connection: Connection, claims: Iterable[tuple[int, int]], *, worker_id: int) -> Returns:
    """Give back the (id, fence) of jobs that never began: running → queued, with no attempt spent.

    One that somebody wanted stopped is cancelled, and what waits for it is settled in the same transaction.
    Those that this worker does not hold under this fence are left out.
    """
    with atomic(connection):
        rows = fetch_all(connection, _GIVE_BACK, {**key_arrays(claims), "worker_id": worker_id})
        jobs = [GivenBack(job_id, fence, JobStatus(status), starts) for job_id, fence, status, starts in rows]
        ended = [job.id for job in jobs if job.status is JobStatus.CANCELLED]
        return Returns(jobs, settle(connection, ended))
