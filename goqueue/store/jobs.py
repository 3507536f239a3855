"""What clients do to a job: every transition that no worker makes, one function each, one guarded statement.

Each `UPDATE` names the state that it leaves and, where a holder acts, the fence that it holds; no row back
means that somebody else won, and the caller goes on. Rows are locked in id order where a statement takes
many, so that two such statements queue up instead of deadlocking. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import LEGAL_TRANSITIONS, Job, JobStatus
from goqueue.store.rows import JOB_COLUMNS, array, fetch_all, fetch_one, job_from_row

__all__ = [
    "cancel",
    "get",
    "increment_attempts",
    "retry",
    "save",
    "set_status",
]

# A worker's claim ends here and now; what the worker still says about it is refused, so its attempt row is
# written here.
_CANCEL = """
    WITH chosen AS (
        SELECT id, worker_id, started_at FROM jobs WHERE id = ANY(%(ids)s::bigint[])
        AND status IN ('queued', 'blocked', 'running') ORDER BY id FOR UPDATE
    ), cancelled AS (
        UPDATE jobs SET status = 'cancelled', reason = 'cancelled', worker_id = NULL, admitted = false,
                        finished_at = now(), updated_at = now()
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
                    cancel_requested_at = NULL, cancel_acknowledged_at = NULL, reason = NULL,
                    available_at = now(), finished_at = NULL, updated_at = now(),
                    rank = now() - make_interval(secs => priority * %(head_start)s)
    FROM chosen WHERE jobs.id = chosen.id AND jobs.status IN ('failed', 'cancelled')
    RETURNING jobs.id, jobs.fence, jobs.queue
"""

_SET_STATUS = """
    UPDATE jobs SET status = %(wanted)s, worker_id = NULL, admitted = false, updated_at = now(),
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
