"""What clients do to a job: every transition that no worker makes, one function each, one guarded statement.

Each `UPDATE` names the state that it leaves and, where a holder acts, the fence that it holds; no row back
means that somebody else won, and the caller goes on. Rows are locked in id order where a statement takes
many, so that two such statements queue up instead of deadlocking. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import rank_of
from goqueue.db.statements import (
    FIRST,
    JOB_COLUMNS,
    LAST,
    TRACEPARENT,
    array,
    atomic,
    fetch_all,
    fetch_one,
    job_from_row,
)
from goqueue.engine import unique_rows as unique_keys
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import CLIENT_TRANSITIONS, LEGAL_TRANSITIONS, Job, JobStatus

__all__ = [
    "Cancelled",
    "cancel",
    "get",
    "get_many",
    "increment_attempts",
    "retry",
    "save",
    "set_priority",
    "set_status",
    "traceparents",
]

# What a worker holds is only asked for: the worker stops it and records how it ended. A row that was claimed,
# or given back, between the snapshot and the lock is looked at again as it is now: so it is found by its id,
# by which the snapshot has it too, and not by its place. The array keeps the planner from reading the table.
_CANCEL = """
    WITH chosen AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[])
        AND status IN ('queued', 'blocked', 'running') ORDER BY id FOR UPDATE
    )
    UPDATE jobs
    SET status = CASE WHEN worker_id IS NULL THEN 'cancelled' ELSE status END,
        reason = CASE WHEN worker_id IS NULL THEN 'cancelled' ELSE reason END,
        finished_at = CASE WHEN worker_id IS NULL THEN now() END,
        admitted = false,
        cancel_requested_at = CASE WHEN worker_id IS NULL THEN cancel_requested_at
                                   ELSE coalesce(cancel_requested_at, now()) END,
        updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
    WHERE id = ANY (ARRAY (SELECT id FROM chosen)) AND status IN ('queued', 'blocked', 'running')
    RETURNING id, status = 'running'
"""

# A replay is a new life: attempts and deaths are counted anew; the attempt rows and the fence stay. Limits of
# its time that have passed meanwhile are dropped: with them it would never run again.
_RETRY = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('failed', 'cancelled')
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET status = 'queued', attempts = 0, deaths = 0, quarantined = false, suspicion = 0,
                    result = NULL,
                    cancel_requested_at = NULL, cancel_acknowledged_at = NULL, reason = NULL,
                    expires_at = CASE WHEN expires_at > now() THEN expires_at END,
                    deadline_at = CASE WHEN deadline_at > now() THEN deadline_at END,
                    fingerprint = NULL, unreadable_by = NULL, unreadable_until = NULL,
                    finished_at = NULL, updated_at = now(),
                    available_at = coalesce(%(available_at)s::timestamptz, now()),
                    rank = CASE WHEN (%(available_at)s::timestamptz > now()) IS NOT TRUE
                        THEN {rank_of("coalesce(%(available_at)s::timestamptz, now())")} END
    FROM chosen WHERE jobs.id = chosen.id AND jobs.status IN ('failed', 'cancelled')
    RETURNING jobs.id, jobs.fence, jobs.queue
"""

# The head start of a row that has its place in the order is the difference of the priorities.
_SET_PRIORITY = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('queued', 'blocked')
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET priority = %(priority)s, updated_at = now(),
                    rank = CASE WHEN rank IS NOT NULL THEN GREATEST({FIRST},
                        {rank_of(f"LEAST(rank, {LAST})", priority="(%(priority)s - priority)")}) END
    FROM chosen WHERE jobs.id = chosen.id AND jobs.status IN ('queued', 'blocked')
    RETURNING jobs.id
"""

_SET_STATUS = f"""
    UPDATE jobs SET status = %(wanted)s, worker_id = NULL, admitted = false, fingerprint = NULL,
        unreadable_by = NULL, unreadable_until = NULL, updated_at = now(),
        fence = fence + CASE WHEN %(wanted)s = 'running' THEN 1 ELSE 0 END,
        started_at = CASE WHEN %(wanted)s = 'running' THEN now() ELSE started_at END,
        begun_at = CASE WHEN %(wanted)s = 'running' THEN now() WHEN %(final)s THEN begun_at END,
        available_at = CASE WHEN %(wanted)s = 'queued' THEN now() ELSE available_at END,
        rank = CASE WHEN %(wanted)s = 'queued'
            THEN {rank_of("now()")} END,
        cancel_requested_at = CASE WHEN %(wanted)s <> 'queued' THEN cancel_requested_at END,
        cancel_acknowledged_at = CASE WHEN %(wanted)s <> 'queued' THEN cancel_acknowledged_at END,
        expires_at = CASE WHEN %(wanted)s <> 'queued' OR expires_at > now() THEN expires_at END,
        deadline_at = CASE WHEN %(wanted)s <> 'queued' OR deadline_at > now() THEN deadline_at END,
        finished_at = CASE WHEN %(final)s THEN now() END
    WHERE id = %(id)s AND status = ANY(%(sources)s)
      AND (%(wanted)s <> 'queued' OR attempts <= max_retries)
      AND (%(wanted)s <> 'running' OR (LEAST(expires_at, deadline_at) > now()) IS NOT FALSE)
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


class Cancelled(NamedTuple):
    """What a cancel came to, by the ids of the jobs.

    Attributes:
        ended: they are cancelled.
        requested: a worker runs them, and was asked to stop them.
    """

    ended: list[int]
    requested: list[int]


def get(connection: Connection, job_id: int) -> Job:
    """The job.

    Raises:
        JobNotFoundError: there is none with this id.
    """
    row = fetch_one(connection, f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = %(id)s", {"id": job_id})
    if row is None:
        raise JobNotFoundError(job_id)
    return job_from_row(row)


def get_many(connection: Connection, job_ids: Iterable[int]) -> list[Job]:
    """Those of the jobs that exist, in the order of their ids."""
    sql = f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id"
    return [job_from_row(row) for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


def traceparents(connection: Connection, job_ids: Iterable[int]) -> list[str]:
    """The different traces that these jobs belong to, at most 100."""
    sql = f"""
        SELECT DISTINCT options ->> '{TRACEPARENT}' FROM jobs
        WHERE id = ANY(%(ids)s::bigint[]) AND options ->> '{TRACEPARENT}' IS NOT NULL LIMIT 100
    """
    return [row[0] for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


@retry_on_conflict
def cancel(connection: Connection, job_ids: Iterable[int]) -> Cancelled:
    """Cancel unfinished jobs: at once, or, where a worker runs it, by a request that the worker acknowledges.

    The first request of a job counts; asking again changes nothing. See `cancellation.py`.
    """
    cancelled = Cancelled([], [])
    for job_id, held in fetch_all(connection, _CANCEL, {"ids": array(job_ids)}):
        (cancelled.requested if held else cancelled.ended).append(job_id)
    return cancelled


@retry_on_conflict
def retry(
    connection: Connection,
    job_ids: Iterable[int],
    *,
    available_at: datetime | None = None,
) -> list[tuple[int, int, str]]:
    """Move failed and cancelled jobs to queued, attempts counted anew; the (id, fence, queue) that were.

    A job with a unique key takes it again, and stays as it is where another one has it: two would be alike.
    """
    ids = set(job_ids)
    parameters = {"available_at": available_at}
    keyed = unique_keys.keyed(connection, ids)
    if not keyed:
        rows = fetch_all(connection, _RETRY, parameters | {"ids": array(ids)})
    else:
        with atomic(connection):
            left = keyed.keys() - unique_keys.take_again(connection, keyed)
            rows = fetch_all(connection, _RETRY, parameters | {"ids": array(ids - left)})
    return [(row[0], row[1], row[2]) for row in rows]


@retry_on_conflict
def set_priority(connection: Connection, job_ids: Iterable[int], priority: int) -> list[int]:
    """Give queued and blocked jobs another priority, and so another place in the order; their ids."""
    parameters = {"ids": array(job_ids), "priority": priority}
    return [row[0] for row in fetch_all(connection, _SET_PRIORITY, parameters)]


def set_status(connection: Connection, job_id: int, wanted: JobStatus) -> None:
    """Move a job on behalf of a client that runs it itself (the original contract's `PUT …/status`).

    Raises:
        JobNotFoundError: there is no such job.
        IllegalTransitionError: the state machine forbids it from the present state.
        UniqueKeyHeldError: it shall be queued again, and another job has its unique key.
    """
    sources = [status.value for status, targets in CLIENT_TRANSITIONS.items() if wanted in targets]
    parameters = {
        "id": job_id,
        "wanted": wanted.value,
        "sources": sources,
        "final": not LEGAL_TRANSITIONS[wanted] or wanted in {JobStatus.FAILED, JobStatus.CANCELLED},
    }
    keyed = unique_keys.keyed(connection, [job_id]) if wanted is JobStatus.QUEUED else {}
    with atomic(connection) if keyed else nullcontext():
        if keyed and not unique_keys.take_again(connection, keyed):
            parameters["sources"] = sorted({*sources} - {"failed", "cancelled"})
        if fetch_one(connection, _SET_STATUS, parameters) is None:
            current = get(connection, job_id).status
            if keyed and current in {JobStatus.FAILED, JobStatus.CANCELLED}:
                unique_keys.refuse(connection, job_id, keyed[job_id])
            raise IllegalTransitionError(job_id, current, wanted)


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
