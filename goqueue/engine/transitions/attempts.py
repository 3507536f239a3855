"""Attempts: how a job is claimed, how its attempt is recorded, and how it is taken back from a lost worker.

Each `UPDATE` names the state that it leaves and the fence that it holds; no row back means that somebody else
won, and the caller goes on. Rows are locked in id order, so that two such statements queue up instead of
deadlocking. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import rank_of
from goqueue.db.statements import FIRST, LAST, TRACEPARENT, array, fetch_all, text_array
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.queue_rows import CLOSED, GOVERNED
from goqueue.jobs import ClaimedJob, JobStatus, Outcome

__all__ = [
    "GivenBack",
    "Rescued",
    "begin_unrepeatable",
    "claim",
    "give_back",
    "locked",
    "queues_and_types",
    "record",
    "rescue",
    "still_running",
]

# Both hot statements first find and lock their rows, one index lookup a message, and then change them by
# their place (ctid), which a locked row keeps. As plain joins they were at the planner's mercy: after an
# ANALYZE that saw hardly any queued row it expected one, read the whole table for each message, and a drain
# fell to a tenth of its speed until the next ANALYZE. Messages come in id order, and so are the rows locked.
# The places stand there as an array also where they are joined: the join alone was made by reading the whole
# table while that was small, and a session kept the plan while it grew, until the next ANALYZE.

# A row that somebody else has locked is passed over, by both: whoever waited for it would hold up the jobs of
# all queues that were claimed, or all outcomes that were written, in the same statement.
#
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
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
        WHERE EXISTS (SELECT FROM workers WHERE workers.id = %(worker_id)s AND stopped_at IS NULL
                      AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
    )
    UPDATE jobs
    SET status = 'running', attempts = jobs.attempts + 1, fence = jobs.fence + 1,
        worker_id = %(worker_id)s, admitted = false, started_at = now(), begun_at = NULL, updated_at = now()
    WHERE jobs.ctid = ANY (ARRAY (SELECT place FROM chosen))
    RETURNING jobs.id, jobs.fence, queue, type, payload::text, attempts, max_retries, quarantined,
              time_limit_seconds, options, date_part('epoch', started_at),
              date_part('epoch', NULLIF(LEAST(deadline_at, {LAST}), {LAST}) - now()),
              date_part('epoch', now() - GREATEST(available_at, {FIRST})),
              date_part('epoch', NULLIF(LEAST(expires_at, {LAST}), {LAST}) - now()),
              unreadable_until <= now()
"""

# What is not ours any more is simply not in `held`; nor is, at first, a job that others wait for: its end is
# recorded in one transaction with what follows for them (`dependencies.py`), and only there.
#
# `status || ''` keeps the planner from jobs_running_idx: after an ANALYZE that saw hardly any running row it
# walked all that run for each outcome, and a drain fell to a third of its speed.
#
# A retry that no claim could take any more (a client counted attempts meanwhile, an actor's `retry_when`
# wants more than it may have), or that would start after the deadline, ends the job: queued, it would be
# pushed and refused for ever. So does one of a job that someone wants to stop.
_RECORD = f"""
    WITH held AS MATERIALIZED (
        SELECT job.place, o.*, CASE
            WHEN o.status <> 'queued' THEN o.status
            WHEN job.cancel_requested_at IS NOT NULL THEN 'cancelled'
            WHEN job.out_of_attempts OR job.out_of_time THEN 'failed'
            ELSE 'queued' END AS becomes,
            job.out_of_time
        FROM json_to_recordset(%(outcomes)s::json) AS o (
            id bigint, fence int, status text, outcome text, result json, error text, traceback text,
            reason text, fingerprint text, delay float, refund int, run float, begun float, schema text,
            wait float)
        CROSS JOIN LATERAL (
            SELECT jobs.ctid AS place, jobs.cancel_requested_at,
                   jobs.attempts - o.refund > jobs.max_retries AS out_of_attempts,
                   jobs.deadline_at <= now() + make_interval(secs => o.delay) AS out_of_time
            FROM jobs
            WHERE jobs.id = o.id AND jobs.fence = o.fence AND jobs.status || '' = 'running'
              AND jobs.has_dependants <= %(with_dependants)s
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    ), recorded AS (
        UPDATE jobs
        SET status = o.becomes, attempts = jobs.attempts - o.refund, worker_id = NULL,
            quarantined = jobs.quarantined AND o.outcome = 'interrupted',
            suspicion = CASE WHEN o.outcome = 'interrupted' THEN jobs.suspicion ELSE 0 END,
            result = o.result, error = o.error, updated_at = now(),
            started_at = coalesce(to_timestamp(o.begun), jobs.started_at),
            begun_at = CASE WHEN o.becomes <> 'queued' THEN jobs.begun_at END,
            reason = CASE
                WHEN o.becomes = o.status THEN o.reason
                WHEN o.becomes = 'cancelled' THEN 'cancelled'
                WHEN o.out_of_time THEN 'deadline'
                ELSE o.reason END,
            fingerprint = CASE WHEN o.becomes = 'failed' THEN o.fingerprint END,
            available_at = CASE WHEN o.becomes = 'queued'
                THEN now() + make_interval(secs => o.delay) ELSE jobs.available_at END,
            rank = CASE WHEN o.becomes = 'queued' AND o.delay <= 0
                THEN LEAST(CASE WHEN o.outcome = 'interrupted' THEN jobs.rank END,
                           {rank_of("now()", priority="jobs.priority")}) END,
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
        FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS claim (id, fence)
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

# Of messages that no claim took: whose row is still theirs to take, but locked by somebody.
_LOCKED = """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS message (id, fence)
    ), free AS MATERIALIZED (
        SELECT job.id FROM wanted CROSS JOIN LATERAL (
            SELECT jobs.id FROM jobs
            WHERE jobs.id = wanted.id AND jobs.fence = wanted.fence AND jobs.status = 'queued'
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    )
    SELECT wanted.id, wanted.fence FROM wanted CROSS JOIN LATERAL (
        SELECT FROM jobs
        WHERE jobs.id = wanted.id AND jobs.fence = wanted.fence AND jobs.status = 'queued' LIMIT 1
    ) AS job
    WHERE wanted.id NOT IN (SELECT id FROM free)
"""

_STILL_RUNNING = """
    SELECT wanted.id, wanted.fence
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS wanted (id, fence)
    CROSS JOIN LATERAL (SELECT fence, status FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job
    WHERE job.fence = wanted.fence AND job.status = 'running'
"""

# `workers.end_lost` ran before: a worker whose lease has ended cannot renew it any more, so none of its jobs
# can be claimed, held or recorded under it while they are taken back here. What is decided by is read where
# the row is locked: that is its last version, while the rest of the statement sees the rows as they were when
# it began, without the cancel, or the begin of what must not be repeated, that was noted meanwhile.
#
# What its worker took along keeps its place in the order, before all that came later, and gets its attempt
# back. The first death makes a suspect that runs beside others, the second one that runs alone; only the
# deaths of that count. A worker that was lost together with others of its host says nothing about one job:
# its jobs are no suspects then, but the next death sends them to run alone all the same, so that there is an
# end.
_RESCUE = f"""
    WITH lost AS MATERIALIZED (
        SELECT id, worker_id, deaths, cancel_requested_at IS NOT NULL AS cancelled,
               unrepeatable_fence IS NOT DISTINCT FROM fence AS unrepeatable,
               quarantined AND suspicion = 2 AS lonely,
               suspicion > 0 OR worker_id <> ALL (%(lost_together)s::bigint[]) AS suspect
        FROM jobs
        WHERE status = 'running' AND worker_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM workers WHERE workers.id = jobs.worker_id AND stopped_at IS NULL)
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
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
        FROM before WHERE jobs.id = before.id AND jobs.status = 'running'
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

_BEGIN_UNREPEATABLE = """
    UPDATE jobs SET unrepeatable_fence = fence
    WHERE id = %(id)s AND fence = %(fence)s AND status = 'running' AND worker_id = %(worker_id)s
    RETURNING id
"""


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


#: The error of an attempt whose worker was lost.
LOST_ERROR = (
    "the worker process died or fell silent while it ran this job: it was killed, or code in C held Python's "
    "global lock (the GIL) for longer than the lease (lease_seconds)"
)


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
    a paused queue, or is locked by somebody, or when the worker's lease has run out; also when its type is
    not `known` to the worker (None: it is not asked), or its payload could not be read by the worker's schema
    a while ago.
    """
    ordered = sorted(set(messages))
    parameters = {
        **_arrays(ordered),
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


def locked(connection: Connection, messages: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of these (id, fence) messages whose job is queued under it, in a row that somebody has locked."""
    return set(fetch_all(connection, _LOCKED, _arrays(sorted(messages))))


@retry_on_conflict
def record(
    connection: Connection,
    outcomes: Sequence[Outcome],
    *,
    worker_id: int,
    with_dependants: bool = False,
) -> set[tuple[int, int]]:
    """Write how attempts ended: running → completed, failed, cancelled or queued, and one attempt row each.

    Returns the (id, fence) pairs that were recorded. The others were no longer held (stale results), are
    locked by somebody (`still_running` tells), or are jobs that others wait for: these are recorded by
    `dependencies.record`, which says `with_dependants`.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.job_id)
    parameters = {
        "outcomes": orjson.dumps([_outcome_record(outcome) for outcome in ordered]).decode(),
        "worker_id": worker_id,
        "with_dependants": with_dependants,
    }
    return {(row[0], row[1]) for row in fetch_all(connection, _RECORD, parameters)}


def still_running(connection: Connection, keys: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of these (id, fence) that are running under that fence, whoever has locked them."""
    ordered = sorted(keys)
    return set(fetch_all(connection, _STILL_RUNNING, _arrays(ordered))) if ordered else set()


@retry_on_conflict
def give_back(
    connection: Connection, claims: Iterable[tuple[int, int]], *, worker_id: int
) -> list[GivenBack]:
    """Take back the claims of jobs that never began: running → queued, or cancelled, with no attempt spent.

    Those that this worker does not hold under this fence are left out. What follows for jobs that wait for a
    cancelled one is not done here: see `claims.give_back`.
    """
    ordered = sorted(set(claims))
    parameters = {
        "ids": array(job_id for job_id, _ in ordered),
        "fences": array(fence for _, fence in ordered),
        "worker_id": worker_id,
    }
    rows = fetch_all(connection, _GIVE_BACK, parameters)
    return [GivenBack(job_id, fence, JobStatus(status), starts) for job_id, fence, status, starts in rows]


@retry_on_conflict
def rescue(
    connection: Connection,
    *,
    max_deaths: int,
    lost_together: Collection[int] = (),
    limit: int = 1000,
) -> list[Rescued]:
    """Take back running jobs of ended workers, at most `limit`: running → queued, or failed.

    No attempt is spent. A job that died `max_deaths` times while it ran alone is failed. The end of workers
    that were `lost_together` with others says nothing about one of their jobs.
    """
    parameters = {
        "max_deaths": max_deaths,
        "lost_together": array(lost_together),
        "limit": limit,
        "error": LOST_ERROR,
    }
    return [
        Rescued(row[0], JobStatus(row[1]), *row[2:]) for row in fetch_all(connection, _RESCUE, parameters)
    ]


def begin_unrepeatable(connection: Connection, job_id: int, fence: int, worker_id: int) -> bool:
    """Note that an attempt begins that must not be repeated when its worker dies; False: it is not held."""
    parameters = {"id": job_id, "fence": fence, "worker_id": worker_id}
    return bool(fetch_all(connection, _BEGIN_UNREPEATABLE, parameters))


def queues_and_types(connection: Connection, job_ids: Sequence[int]) -> list[tuple[str, str]]:
    """The queue and the type of each of these jobs."""
    if not job_ids:
        return []
    sql = "SELECT queue, type FROM jobs WHERE id = ANY (%(ids)s::bigint[])"
    return [(row[0], row[1]) for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


def _arrays(keys: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {"ids": array(job_id for job_id, _ in keys), "fences": array(fence for _, fence in keys)}


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
        "begun": outcome.begun,
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
