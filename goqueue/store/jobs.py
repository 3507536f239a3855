"""Every transition of a job, one function each, one guarded statement each.

Each `UPDATE` names the state that it leaves and, where a holder acts, the fence that it holds; no row back
means that somebody else won, and the caller goes on. Rows are locked in id order where a statement takes
many, so that two such statements queue up instead of deadlocking. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import LEGAL_TRANSITIONS, ClaimedJob, Job, JobStatus, Outcome
from goqueue.store.rows import JOB_COLUMNS, array, fetch_all, fetch_one, job_from_row

__all__ = [
    "cancel",
    "claim",
    "get",
    "increment_attempts",
    "record",
    "rescue",
    "retry",
    "save",
    "set_status",
]

# Both hot statements first find and lock their rows, one index lookup a message, and then change them by
# their place (ctid), which a locked row keeps. As plain joins they were at the planner's mercy: after an
# ANALYZE that saw hardly any queued row it expected one, read the whole table for each message, and a drain
# fell to a tenth of its speed until the next ANALYZE. Messages come in id order, and so are the rows locked.

# A claim is refused, not only late, when the lease of the claiming worker ran out: a process that was
# stopped and goes on must not take new jobs under an old lease. The paused queues are an array, so that they
# are read once a statement and not once a row.
_CLAIM = """
    WITH chosen AS MATERIALIZED (
        SELECT job.place
        FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS message (id, fence)
        CROSS JOIN LATERAL (
            SELECT jobs.ctid AS place FROM jobs
            WHERE jobs.id = message.id AND jobs.fence = message.fence AND jobs.status = 'queued'
              AND jobs.available_at <= now() AND jobs.attempts <= jobs.max_retries
              AND jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE paused_at IS NOT NULL))
            LIMIT 1 FOR UPDATE
        ) AS job
        WHERE EXISTS (SELECT FROM workers WHERE workers.id = %(worker_id)s AND stopped_at IS NULL
                      AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
    )
    UPDATE jobs
    SET status = 'running', attempts = jobs.attempts + 1, fence = jobs.fence + 1,
        worker_id = %(worker_id)s, started_at = now(), updated_at = now()
    WHERE jobs.ctid = ANY (ARRAY (SELECT place FROM chosen))
    RETURNING jobs.id, jobs.fence, queue, type, payload::text, attempts, max_retries, quarantined,
              time_limit_seconds, options, started_at
"""

# What is not ours any more is simply not in `held`. A retry that no claim could take any more (a client
# counted attempts meanwhile, an actor's `retry_when` wants more than it may have) ends the job: queued, it
# would be pushed and refused for ever.
_RECORD = """
    WITH held AS MATERIALIZED (
        SELECT job.place, o.*
        FROM json_to_recordset(%(outcomes)s::json) AS o (
            id bigint, fence int, status text, outcome text, result json, error text, traceback text,
            reason text, delay float, refund int, run float)
        CROSS JOIN LATERAL (
            SELECT jobs.ctid AS place FROM jobs
            WHERE jobs.id = o.id AND jobs.fence = o.fence AND jobs.status = 'running'
            LIMIT 1 FOR UPDATE
        ) AS job
    ), recorded AS (
        UPDATE jobs
        SET status = CASE WHEN o.status = 'queued' AND jobs.attempts - o.refund > jobs.max_retries
                THEN 'failed' ELSE o.status END,
            attempts = jobs.attempts - o.refund, worker_id = NULL,
            quarantined = jobs.quarantined AND o.outcome = 'interrupted',
            result = o.result, error = o.error, reason = o.reason, updated_at = now(),
            available_at = CASE WHEN o.status = 'queued'
                THEN now() + make_interval(secs => o.delay) ELSE jobs.available_at END,
            rank = CASE WHEN o.status = 'queued' AND o.delay <= 0
                THEN now() - make_interval(secs => jobs.priority * %(head_start)s) END,
            finished_at = CASE WHEN o.status <> 'queued' OR jobs.attempts - o.refund > jobs.max_retries
                THEN now() END
        FROM held AS o WHERE jobs.ctid = o.place
        RETURNING jobs.id, jobs.fence, jobs.attempts + o.refund AS attempt, jobs.started_at,
                  o.outcome, o.error, o.traceback, o.run
    )
    INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, traceback, started_at,
                          run_seconds)
    SELECT id, fence, attempt, %(worker_id)s, outcome, error, traceback, started_at, run FROM recorded
    RETURNING job_id, fence
"""

# `workers.end_lost` ran before: a worker whose lease has ended cannot renew it any more, so none of its jobs
# can be claimed, held or recorded under it while they are taken back here.
_RESCUE = """
    WITH lost AS (
        SELECT id FROM jobs
        WHERE status = 'running' AND worker_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM workers WHERE workers.id = jobs.worker_id AND stopped_at IS NULL)
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), before AS (
        SELECT jobs.id, jobs.worker_id,
               jobs.attempts > jobs.max_retries
               OR (jobs.quarantined AND jobs.deaths + 1 >= %(max_deaths)s) AS hopeless
        FROM jobs JOIN lost USING (id)
    ), rescued AS (
        UPDATE jobs
        SET status = CASE WHEN hopeless THEN 'failed' ELSE 'queued' END,
            deaths = jobs.deaths + jobs.quarantined::int, quarantined = NOT hopeless,
            worker_id = NULL, reason = 'worker_died',
            error = 'the worker process died or fell silent while it ran this job',
            available_at = now(), updated_at = now(),
            rank = CASE WHEN NOT hopeless THEN now() - make_interval(secs => priority * %(head_start)s) END,
            finished_at = CASE WHEN hopeless THEN now() END
        FROM before WHERE jobs.id = before.id AND jobs.status = 'running'
        RETURNING jobs.id, jobs.fence, jobs.attempts, jobs.status, jobs.started_at, before.worker_id
    ), attempt AS (
        INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, started_at, run_seconds)
        SELECT id, fence, attempts, worker_id, 'worker_died',
               'the worker process died or fell silent while it ran this job', started_at,
               extract(epoch FROM now() - started_at)
        FROM rescued
        ON CONFLICT DO NOTHING
    )
    SELECT id, status FROM rescued
"""

# A worker's claim ends here and now; what the worker still says about it is refused, so its attempt row is
# written here.
_CANCEL = """
    WITH chosen AS (
        SELECT id, worker_id, started_at FROM jobs WHERE id = ANY(%(ids)s::bigint[])
        AND status IN ('queued', 'blocked', 'running') ORDER BY id FOR UPDATE
    ), cancelled AS (
        UPDATE jobs SET status = 'cancelled', reason = 'cancelled', worker_id = NULL, finished_at = now(),
                        updated_at = now()
        FROM chosen WHERE jobs.id = chosen.id AND jobs.status IN ('queued', 'blocked', 'running')
        RETURNING jobs.id, jobs.fence, jobs.attempts, chosen.worker_id, chosen.started_at
    ), attempt AS (
        INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, started_at, run_seconds)
        SELECT id, fence, attempts, worker_id, 'cancelled', started_at,
               extract(epoch FROM now() - started_at)
        FROM cancelled WHERE worker_id IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    SELECT id FROM cancelled
"""

# A replay is a new life: attempts and deaths are counted anew; the attempt rows and the fence stay.
_RETRY = """
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('failed', 'cancelled')
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET status = 'queued', attempts = 0, deaths = 0, quarantined = false, result = NULL,
                    reason = NULL, available_at = now(), finished_at = NULL, updated_at = now(),
                    rank = now() - make_interval(secs => priority * %(head_start)s)
    FROM chosen WHERE jobs.id = chosen.id AND jobs.status IN ('failed', 'cancelled')
    RETURNING jobs.id, jobs.fence, jobs.queue
"""

_SET_STATUS = """
    UPDATE jobs SET status = %(wanted)s, worker_id = NULL, updated_at = now(),
        fence = fence + CASE WHEN %(wanted)s = 'running' THEN 1 ELSE 0 END,
        started_at = CASE WHEN %(wanted)s = 'running' THEN now() ELSE started_at END,
        available_at = CASE WHEN %(wanted)s = 'queued' THEN now() ELSE available_at END,
        rank = CASE WHEN %(wanted)s = 'queued'
            THEN now() - make_interval(secs => priority * %(head_start)s) END,
        finished_at = CASE WHEN %(final)s THEN now() END
    WHERE id = %(id)s AND status = ANY(%(sources)s)
      AND (%(wanted)s <> 'queued' OR attempts <= max_retries)
    RETURNING id
"""

_INCREMENT = """
    UPDATE jobs SET attempts = attempts + 1, updated_at = now()
    WHERE id = %(id)s AND ((status = 'queued' AND attempts < max_retries)
                        OR (status = 'running' AND attempts <= max_retries))
    RETURNING id
"""

_SAVE = """
    UPDATE jobs SET result = %(result)s::json, error = nullif(%(error)s, ''), updated_at = now()
    WHERE id = %(id)s RETURNING id
"""


def get(connection: Connection, job_id: int) -> Job:
    """The job.

    Raises:
        JobNotFoundError: there is none with this id.
    """
    row = fetch_one(connection, f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = %(id)s", {"id": job_id})
    if row is None:
        raise JobNotFoundError(job_id)
    return job_from_row(row)


@retry_on_conflict
def claim(
    connection: Connection, messages: Iterable[tuple[int, int]], *, worker_id: int, lease_seconds: float
) -> list[ClaimedJob]:
    """Move the queued jobs of these (id, fence) messages to running, held by the worker; in any order.

    A message is left out when its job is not queued under this fence, is not due, is out of attempts, is in
    a paused queue, or when the worker's lease has run out.
    """
    ordered = sorted(set(messages))
    parameters = {
        "ids": array(job_id for job_id, _ in ordered),
        "fences": array(fence for _, fence in ordered),
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
    }
    return [ClaimedJob(*row) for row in fetch_all(connection, _CLAIM, parameters)]


@retry_on_conflict
def record(
    connection: Connection, outcomes: Sequence[Outcome], *, worker_id: int, head_start_seconds: float
) -> set[tuple[int, int]]:
    """Write how attempts ended: running → completed, failed or queued, and one attempt row each.

    Returns the (id, fence) pairs that were recorded; the others were no longer held: stale results.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.job_id)
    parameters = {
        "outcomes": orjson.dumps([_outcome_record(outcome) for outcome in ordered]).decode(),
        "worker_id": worker_id,
        "head_start": head_start_seconds,
    }
    return {(row[0], row[1]) for row in fetch_all(connection, _RECORD, parameters)}


@retry_on_conflict
def rescue(
    connection: Connection, *, max_deaths: int, head_start_seconds: float, limit: int = 1000
) -> list[tuple[int, JobStatus]]:
    """Take back the running jobs of ended workers: running → queued (quarantined), or failed."""
    parameters = {"max_deaths": max_deaths, "head_start": head_start_seconds, "limit": limit}
    return [(row[0], JobStatus(row[1])) for row in fetch_all(connection, _RESCUE, parameters)]


@retry_on_conflict
def cancel(connection: Connection, job_ids: Iterable[int]) -> list[int]:
    """Move queued, blocked and running jobs to cancelled; the ids that were. A late result is refused."""
    return [row[0] for row in fetch_all(connection, _CANCEL, {"ids": array(job_ids)})]


@retry_on_conflict
def retry(
    connection: Connection, job_ids: Iterable[int], *, head_start_seconds: float
) -> list[tuple[int, int, str]]:
    """Move failed and cancelled jobs to queued, attempts counted anew; the (id, fence, queue) that were."""
    parameters = {"ids": array(job_ids), "head_start": head_start_seconds}
    return [(row[0], row[1], row[2]) for row in fetch_all(connection, _RETRY, parameters)]


def set_status(connection: Connection, job_id: int, wanted: JobStatus, *, head_start_seconds: float) -> None:
    """Move a job on behalf of a client that runs it itself (the original contract's `PUT …/status`).

    Raises:
        JobNotFoundError: there is no such job.
        IllegalTransitionError: the state machine forbids it from the present state.
    """
    sources = [status.value for status, targets in LEGAL_TRANSITIONS.items() if wanted in targets]
    parameters = {
        "id": job_id,
        "wanted": wanted.value,
        "sources": sources,
        "final": not LEGAL_TRANSITIONS[wanted] or wanted in {JobStatus.FAILED, JobStatus.CANCELLED},
        "head_start": head_start_seconds,
    }
    if fetch_one(connection, _SET_STATUS, parameters) is None:
        raise IllegalTransitionError(job_id, get(connection, job_id).status, wanted)


def increment_attempts(connection: Connection, job_id: int) -> None:
    """Count one more attempt of an unfinished job.

    Raises:
        JobNotFoundError: there is no such job.
        IllegalTransitionError: it is finished, or its attempts are all counted.
    """
    if fetch_one(connection, _INCREMENT, {"id": job_id}) is None:
        raise IllegalTransitionError(job_id, get(connection, job_id).status, "attempted once more")


def save(connection: Connection, job_id: int, *, result: str | None, error: str) -> None:
    """Keep a result (JSON text) and an error with the job.

    Raises:
        JobNotFoundError: there is no such job.
    """
    if fetch_one(connection, _SAVE, {"id": job_id, "result": result, "error": error}) is None:
        raise JobNotFoundError(job_id)


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": outcome.job_id,
        "fence": outcome.fence,
        "status": outcome.status.value,
        "outcome": outcome.attempt_outcome.value,
        "delay": outcome.delay_seconds,
        "refund": int(outcome.refund),
        "run": outcome.run_seconds,
    }
    if outcome.result is not None:
        record["result"] = orjson.Fragment(outcome.result)
    if outcome.error is not None:
        record |= {"error": outcome.error, "traceback": outcome.traceback, "reason": outcome.reason}
    return record
