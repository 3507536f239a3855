"""New rows: how jobs are inserted, one by one and by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.jobs import Job, JobStatus, NewJob
from goqueue.store.rows import fetch_all, fetch_one

__all__ = ["insert", "insert_many"]

# A row whose time has come gets its place in the order at once; the others get it when they are due.
# The times are PostgreSQL's: a delay counts from the insertion, whatever the client's clock says.
_INSERT = """
    INSERT INTO jobs (queue, type, payload, priority, max_retries, available_at, rank, time_limit_seconds,
                      options)
    SELECT n.queue, n.type, n.payload, n.priority, n.max_retries, n.start,
           CASE WHEN n.start <= now() THEN n.start - make_interval(secs => n.priority * %(head_start)s) END,
           n.time_limit_seconds, n.options
    FROM (
        SELECT *, coalesce(available_at, now() + make_interval(secs => coalesce(delay, 0))) AS start
        FROM json_to_recordset(%(jobs)s::json) AS record (
            queue text, type text, payload json, priority smallint, max_retries smallint,
            available_at timestamptz, delay float, time_limit_seconds float, options json)
    ) AS n
"""
_INSERT_MANY = f"{_INSERT} RETURNING id"
_INSERT_ONE = f"{_INSERT} RETURNING id, available_at, created_at"

# Most jobs say no more than this, and every parameter and expression left out is time saved.
_INSERT_PLAIN = """
    INSERT INTO jobs (queue, type, payload, priority, max_retries, rank)
    VALUES (%(queue)s, %(type)s, %(payload)s, %(priority)s, %(max_retries)s,
            now() - make_interval(secs => %(head_start)s))
    RETURNING id, available_at, created_at
"""


def insert(connection: Connection, job: NewJob, *, head_start_seconds: float) -> Job:
    """Insert one job, queued, and return its row."""
    if _is_plain(job):
        parameters = {
            "queue": job.queue,
            "type": job.type,
            "payload": job.payload,
            "priority": job.priority,
            "max_retries": job.max_retries,
            "head_start": job.priority * head_start_seconds,
        }
        row = fetch_one(connection, _INSERT_PLAIN, parameters)
    else:
        row = fetch_one(connection, _INSERT_ONE, _parameters([job], head_start_seconds))
    assert row is not None
    return _new_row(job, *row)


def insert_many(connection: Connection, jobs: Sequence[NewJob], *, head_start_seconds: float) -> list[int]:
    """Insert many jobs, queued, in one statement; their ids, in the order of the jobs."""
    rows = fetch_all(connection, _INSERT_MANY, _parameters(jobs, head_start_seconds))
    return [row[0] for row in rows]


def _is_plain(job: NewJob) -> bool:
    """Whether it may run at once and overrides nothing."""
    return (
        job.available_at is None
        and not job.delay_seconds
        and job.time_limit_seconds is None
        and job.options is None
    )


def _parameters(jobs: Sequence[NewJob], head_start_seconds: float) -> dict[str, Any]:
    text = orjson.dumps([_new_job_record(job) for job in jobs]).decode()
    return {"jobs": text, "head_start": head_start_seconds}


def _new_row(job: NewJob, job_id: int, available_at: datetime, created_at: datetime) -> Job:
    """The row that was just inserted; only what PostgreSQL decided has to come back."""
    return Job(
        id=job_id,
        queue=job.queue,
        type=job.type,
        status=JobStatus.QUEUED,
        payload=orjson.loads(job.payload),
        priority=job.priority,
        attempts=0,
        max_retries=job.max_retries,
        fence=0,
        deaths=0,
        quarantined=False,
        available_at=available_at,
        time_limit_seconds=job.time_limit_seconds,
        worker_id=None,
        result=None,
        error=None,
        reason=None,
        created_at=created_at,
        updated_at=created_at,
        started_at=None,
        finished_at=None,
    )


def _new_job_record(job: NewJob) -> dict[str, Any]:
    return {
        "queue": job.queue,
        "type": job.type,
        "payload": orjson.Fragment(job.payload),
        "priority": job.priority,
        "max_retries": job.max_retries,
        "available_at": job.available_at,
        "delay": job.delay_seconds,
        "time_limit_seconds": job.time_limit_seconds,
        "options": None if job.options is None else orjson.Fragment(job.options),
    }
