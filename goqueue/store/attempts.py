"""Attempts: how a job is claimed, how its attempt is recorded, and how it is taken back from a lost worker.

Each `UPDATE` names the state that it leaves and the fence that it holds; no row back means that somebody else
won, and the caller goes on. Rows are locked in id order, so that two such statements queue up instead of
deadlocking. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.jobs import ClaimedJob, JobStatus, Outcome
from goqueue.rules.known_types import KnownTypes
from goqueue.store.queues import CLOSED, GOVERNED
from goqueue.store.rows import TRACEPARENT, array, fetch_all, text_array

__all__ = ["claim", "queues_and_types", "record", "rescue"]

# Both hot statements first find and lock their rows, one index lookup a message, and then change them by
# their place (ctid), which a locked row keeps. As plain joins they were at the planner's mercy: after an
# ANALYZE that saw hardly any queued row it expected one, read the whole table for each message, and a drain
# fell to a tenth of its speed until the next ANALYZE. Messages come in id order, and so are the rows locked.
# The places stand there as an array also where they are joined: the join alone was made by reading the whole
# table while that was small, and a session kept the plan while it grew, until the next ANALYZE.

# A claim is refused, not only late, when the lease of the claiming worker ran out: a process that was
# stopped and goes on must not take new jobs under an old lease. The closed and governed queues are arrays, so
# that they are read once a statement and not once a row.
_CLAIM = f"""
    WITH chosen AS MATERIALIZED (
        SELECT job.place
        FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS message (id, fence)
        CROSS JOIN LATERAL (
            SELECT jobs.ctid AS place FROM jobs
            WHERE jobs.id = message.id AND jobs.fence = message.fence AND jobs.status = 'queued'
              AND jobs.available_at <= now() AND jobs.attempts <= jobs.max_retries
              AND (%(types)s::text[] IS NULL OR jobs.type = ANY (%(types)s::text[]))
              AND ((jobs.unreadable_until > now()) IS NOT TRUE
                   OR NOT jobs.unreadable_by && %(schemas)s::text[])
              AND (LEAST(jobs.expires_at, jobs.deadline_at) > now()) IS NOT FALSE
              AND jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE {CLOSED}))
              AND (jobs.admitted
                   OR (jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE {GOVERNED}))
                       AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
            LIMIT 1 FOR UPDATE
        ) AS job
        WHERE EXISTS (SELECT FROM workers WHERE workers.id = %(worker_id)s AND stopped_at IS NULL
                      AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
    )
    UPDATE jobs
    SET status = 'running', attempts = jobs.attempts + 1, fence = jobs.fence + 1,
        worker_id = %(worker_id)s, admitted = false, started_at = now(), updated_at = now()
    WHERE jobs.ctid = ANY (ARRAY (SELECT place FROM chosen))
    RETURNING jobs.id, jobs.fence, queue, type, payload::text, attempts, max_retries, quarantined,
              time_limit_seconds, options, started_at, extract(epoch FROM deadline_at - now())::float,
              extract(epoch FROM now() - available_at)::float, unreadable_until <= now()
"""

# What is not ours any more is simply not in `held`; nor is, at first, a job that others wait for: its end is
# recorded in one transaction with what follows for them (`goqueue/store/dependencies.py`), and only there.
#
# `status || ''` keeps the planner from jobs_running_idx: after an ANALYZE that saw hardly any running row it
# walked all that run for each outcome, and a drain fell to a third of its speed.
#
# A retry that no claim could take any more (a client counted attempts meanwhile, an actor's `retry_when`
# wants more than it may have), or that would start after the deadline, ends the job: queued, it would be
# pushed and refused for ever. So does one of a job that someone wants to stop.
_RECORD = """
    WITH held AS MATERIALIZED (
        SELECT job.place, o.*, CASE
            WHEN o.status <> 'queued' THEN o.status
            WHEN job.cancel_requested_at IS NOT NULL THEN 'cancelled'
            WHEN job.out_of_attempts OR job.out_of_time THEN 'failed'
            ELSE 'queued' END AS becomes,
            job.out_of_time
        FROM json_to_recordset(%(outcomes)s::json) AS o (
            id bigint, fence int, status text, outcome text, result json, error text, traceback text,
            reason text, fingerprint text, delay float, refund int, run float, schema text, wait float)
        CROSS JOIN LATERAL (
            SELECT jobs.ctid AS place, jobs.cancel_requested_at,
                   jobs.attempts - o.refund > jobs.max_retries AS out_of_attempts,
                   jobs.deadline_at <= now() + make_interval(secs => o.delay) AS out_of_time
            FROM jobs
            WHERE jobs.id = o.id AND jobs.fence = o.fence AND jobs.status || '' = 'running'
              AND jobs.has_dependants <= %(with_dependants)s
            LIMIT 1 FOR UPDATE
        ) AS job
    ), recorded AS (
        UPDATE jobs
        SET status = o.becomes, attempts = jobs.attempts - o.refund, worker_id = NULL,
            quarantined = jobs.quarantined AND o.outcome = 'interrupted',
            result = o.result, error = o.error, updated_at = now(),
            reason = CASE
                WHEN o.becomes = o.status THEN o.reason
                WHEN o.becomes = 'cancelled' THEN 'cancelled'
                WHEN o.out_of_time THEN 'deadline'
                ELSE o.reason END,
            fingerprint = CASE WHEN o.becomes = 'failed' THEN o.fingerprint END,
            available_at = CASE WHEN o.becomes = 'queued'
                THEN now() + make_interval(secs => o.delay) ELSE jobs.available_at END,
            rank = CASE WHEN o.becomes = 'queued' AND o.delay <= 0
                THEN now() - make_interval(secs => jobs.priority * %(head_start)s) END,
            unreadable_by = CASE WHEN o.schema IS NOT NULL
                THEN array_append(jobs.unreadable_by, o.schema) END,
            unreadable_until = CASE WHEN o.schema IS NOT NULL
                THEN coalesce(jobs.unreadable_until, now() + make_interval(secs => o.wait)) END,
            finished_at = CASE WHEN o.becomes <> 'queued' THEN now() END
        FROM held AS o WHERE jobs.ctid = o.place AND jobs.ctid = ANY (ARRAY (SELECT place FROM held))
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
               CASE WHEN jobs.cancel_requested_at IS NOT NULL THEN 'cancelled'
                    WHEN jobs.attempts > jobs.max_retries
                         OR (jobs.quarantined AND jobs.deaths + 1 >= %(max_deaths)s) THEN 'failed'
                    ELSE 'queued' END AS becomes
        FROM jobs JOIN lost USING (id)
    ), rescued AS (
        UPDATE jobs
        SET status = becomes,
            deaths = jobs.deaths + jobs.quarantined::int, quarantined = becomes = 'queued',
            worker_id = NULL, fingerprint = NULL, unreadable_until = NULL,
            reason = CASE WHEN becomes = 'cancelled' THEN becomes ELSE 'worker_died' END,
            error = 'the worker process died or fell silent while it ran this job',
            available_at = now(), updated_at = now(),
            rank = CASE WHEN becomes = 'queued'
                THEN now() - make_interval(secs => priority * %(head_start)s) END,
            finished_at = CASE WHEN becomes <> 'queued' THEN now() END
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


@retry_on_conflict
def claim(
    connection: Connection,
    messages: Iterable[tuple[int, int]],
    *,
    worker_id: int,
    lease_seconds: float,
    known: KnownTypes | None = None,
) -> list[ClaimedJob]:
    """Move the queued jobs of these (id, fence) messages to running, held by the worker; in any order.

    A message is left out when its job is not queued under this fence, is not due, is out of attempts, is in
    a paused queue, or when the worker's lease has run out; also when its type is not `known` to the worker
    (None: it is not asked), or its payload could not be read by the worker's schema a while ago.
    """
    ordered = sorted(set(messages))
    parameters = {
        "ids": array(job_id for job_id, _ in ordered),
        "fences": array(fence for _, fence in ordered),
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
        "types": known and text_array(known.types),
        "schemas": text_array(known.schemas) if known else "{}",
    }
    claimed = [ClaimedJob(*row) for row in fetch_all(connection, _CLAIM, parameters)]
    for job in claimed:
        if job.options is not None:
            _take_traceparent(job)
    return claimed


@retry_on_conflict
def record(
    connection: Connection,
    outcomes: Sequence[Outcome],
    *,
    worker_id: int,
    head_start_seconds: float,
    with_dependants: bool = False,
) -> set[tuple[int, int]]:
    """Write how attempts ended: running → completed, failed, cancelled or queued, and one attempt row each.

    Returns the (id, fence) pairs that were recorded. The others were no longer held (stale results), or are
    jobs that others wait for: these are recorded by `dependencies.record`, which says `with_dependants`.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.job_id)
    parameters = {
        "outcomes": orjson.dumps([_outcome_record(outcome) for outcome in ordered]).decode(),
        "worker_id": worker_id,
        "head_start": head_start_seconds,
        "with_dependants": with_dependants,
    }
    return {(row[0], row[1]) for row in fetch_all(connection, _RECORD, parameters)}


@retry_on_conflict
def rescue(
    connection: Connection, *, max_deaths: int, head_start_seconds: float, limit: int = 1000
) -> list[tuple[int, JobStatus]]:
    """Take back the running jobs of ended workers: running → queued (quarantined), or failed."""
    parameters = {"max_deaths": max_deaths, "head_start": head_start_seconds, "limit": limit}
    return [(row[0], JobStatus(row[1])) for row in fetch_all(connection, _RESCUE, parameters)]


def queues_and_types(connection: Connection, job_ids: Sequence[int]) -> list[tuple[str, str]]:
    """The queue and the type of each of these jobs."""
    if not job_ids:
        return []
    sql = "SELECT queue, type FROM jobs WHERE id = ANY (%(ids)s::bigint[])"
    return [(row[0], row[1]) for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


def _take_traceparent(job: ClaimedJob) -> None:
    """It is kept among the options, and is none of a Dramatiq message."""
    assert job.options is not None
    job.traceparent = job.options.pop(TRACEPARENT, None)
    job.options = job.options or None


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
    if outcome.unreadable_by is not None:
        record |= {"schema": outcome.unreadable_by, "wait": outcome.unreadable_wait_seconds}
    if outcome.result is not None:
        record["result"] = orjson.Fragment(outcome.result)
    if outcome.error is not None:
        record |= {
            "error": outcome.error,
            "traceback": outcome.traceback,
            "reason": outcome.reason,
            "fingerprint": outcome.failure_kind and outcome.failure_kind.fingerprint,
        }
    elif outcome.reason is not None:
        record["reason"] = outcome.reason
    return record
