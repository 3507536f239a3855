"""Single rows of `jobs`: read, and changed in what is not their state (that is `engine/transitions`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import MAX_RETRIES, rank_of
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import (
    FIRST,
    JOB_COLUMNS,
    LAST,
    TRACEPARENT,
    array,
    contents_of,
    fetch_all,
    fetch_one,
    job_from_row,
)
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import Job

__all__ = [
    "get",
    "get_many",
    "increment_attempts",
    "queues_and_types",
    "save",
    "set_priority",
    "traceparents",
]

# The head start of a row that has its place in the order is the difference of the priorities.
_SET_PRIORITY = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('queued', 'blocked')
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET priority = %(priority)s, updated_at = now(),
                    rank = CASE WHEN rank IS NOT NULL THEN GREATEST({FIRST},
                        {rank_of(f"LEAST(rank, {LAST})", priority="(%(priority)s - priority)")}) END
    WHERE {rows_of("chosen")} AND jobs.status IN ('queued', 'blocked')
    RETURNING jobs.id
"""


_INCREMENT = f"""
    UPDATE jobs SET attempts = attempts + 1, updated_at = now()
    WHERE id = %(id)s AND ((status = 'queued' AND attempts < {MAX_RETRIES})
                        OR (status = 'running' AND attempts <= {MAX_RETRIES}))
    RETURNING id
"""


_SAVE = """
    UPDATE jobs SET result = %(result)s::json, error = nullif(%(error)s, ''), updated_at = now()
    WHERE id = %(id)s RETURNING id
"""


def get(connection: Connection, job_id: int) -> Job:
    """Read the job with an id.

    Raises:
        JobNotFoundError: there is none with this id.
    """
    row = fetch_one(connection, f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = %(id)s", {"id": job_id})
    if row is None:
        raise JobNotFoundError(job_id)
    return job_from_row(connection, row)


def get_many(connection: Connection, job_ids: Iterable[int]) -> list[Job]:
    """Read those of the jobs that exist, in the order of their ids."""
    sql = f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id"
    return [job_from_row(connection, row) for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


def queues_and_types(connection: Connection, job_ids: Collection[int]) -> dict[int, tuple[str, str]]:
    """Read the queue and the type of each of these jobs, by their ids; what does not exist is left out."""
    if not job_ids:
        return {}
    sql = "SELECT id, queue, type FROM jobs WHERE id = ANY (%(ids)s::bigint[])"
    return {row[0]: (row[1], row[2]) for row in fetch_all(connection, sql, {"ids": array(job_ids)})}


def traceparents(connection: Connection, job_ids: Iterable[int]) -> list[str]:
    """Read the different traces that these jobs belong to, at most 100."""
    sql = f"""
        SELECT DISTINCT options ->> '{TRACEPARENT}' FROM jobs
        WHERE id = ANY(%(ids)s::bigint[]) AND options ->> '{TRACEPARENT}' IS NOT NULL LIMIT 100
    """
    return [row[0] for row in fetch_all(connection, sql, {"ids": array(job_ids)})]


@retry_on_conflict
def set_priority(connection: Connection, job_ids: Iterable[int], priority: int) -> list[int]:
    """Give queued and blocked jobs another priority, and so another place in the order; their ids."""
    parameters = {"ids": array(job_ids), "priority": priority}
    return [row[0] for row in fetch_all(connection, _SET_PRIORITY, parameters)]


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
    texts: dict[str, str | None] = {"result": result, "error": error}
    contents = contents_of(connection)
    if contents.keys is not None and _is_encrypted(connection, job_id):
        texts = {name: text and contents.closed(text, of_job(name, job_id)) for name, text in texts.items()}
    if fetch_one(connection, _SAVE, {"id": job_id, **texts}) is None:
        raise JobNotFoundError(job_id)


def _is_encrypted(connection: Connection, job_id: int) -> bool:
    sql = "SELECT payload_key IS NOT NULL FROM jobs WHERE id = %(id)s"
    row = fetch_one(connection, sql, {"id": job_id})
    return row is not None and bool(row[0])
