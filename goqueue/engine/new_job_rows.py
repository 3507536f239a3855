"""New rows: how jobs are inserted, one by one and by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.fragments import rank_of
from goqueue.db.statements import TRACEPARENT, Values, fetch_all, fetch_one
from goqueue.jobs import Job, JobStatus, NewJob

__all__ = ["insert", "insert_many"]

# A row whose time has come gets its place in the order at once; the others get it when they are due.
# The times are PostgreSQL's: a delay counts from the insertion, whatever the client's clock says.
_INSERT = f"""
    INSERT INTO jobs (queue, type, status, payload, priority, max_retries, available_at, rank,
                      time_limit_seconds, options, concurrency_key, rate_cost, expires_at, deadline_at,
                      unique_key, tags)
    SELECT n.queue, n.type, CASE WHEN n.blocked THEN 'blocked' ELSE 'queued' END, n.payload, n.priority,
           n.max_retries, n.start,
           CASE WHEN n.start <= now() AND n.blocked IS NOT TRUE
               THEN {rank_of("n.start", priority="n.priority")} END,
           n.time_limit_seconds, n.options, n.concurrency_key, coalesce(n.rate_cost, 1),
           coalesce(n.expires_at, now() + make_interval(secs => n.ttl)),
           coalesce(n.deadline_at, now() + make_interval(secs => n.deadline)), n.unique_key, n.tags
    FROM (
        SELECT *, coalesce(available_at, now() + make_interval(secs => coalesce(delay, 0))) AS start
        FROM json_to_recordset(%(jobs)s::json) AS record (
            queue text, type text, blocked boolean, payload json, priority smallint, max_retries smallint,
            available_at timestamptz, delay float, time_limit_seconds float, options json,
            concurrency_key text, rate_cost smallint, expires_at timestamptz, ttl float,
            deadline_at timestamptz, deadline float, unique_key text, tags text[])
    ) AS n
"""
_INSERT_MANY = f"{_INSERT} RETURNING id"
_INSERT_ONE = f"{_INSERT} RETURNING id, available_at, created_at, expires_at, deadline_at"

# Only who has tags pays for them. The rows come back in the order in which they were inserted.
_INSERT_TAGGED = f"""
    WITH new AS ({_INSERT} RETURNING id, available_at, created_at, expires_at, deadline_at, tags, queue),
    tagged AS (INSERT INTO job_tags (tag, job_id, queue) SELECT unnest(tags), id, queue FROM new)
    SELECT id, available_at, created_at, expires_at, deadline_at FROM new
"""

# Most jobs say no more than this, and every parameter and expression left out is time saved.
_INSERT_MANY_PLAIN = f"""
    INSERT INTO jobs (queue, type, payload, priority, max_retries, rank)
    SELECT n.queue, n.type, n.payload, n.priority, n.max_retries,
           {rank_of("now()", priority="n.priority")}
    FROM json_to_recordset(%(jobs)s::json) AS n (
        queue text, type text, payload json, priority smallint, max_retries smallint)
    RETURNING id
"""
_INSERT_PLAIN = f"""
    INSERT INTO jobs (queue, type, payload, priority, max_retries, rank)
    VALUES (%(queue)s, %(type)s, %(payload)s, %(priority)s, %(max_retries)s,
            {rank_of("now()", priority="%(priority)s")})
    RETURNING id, available_at, created_at, NULL, NULL
"""


# What a job may say beyond what is written of every job, or elsewhere; and what it is where it says nothing.
_BEYOND = [
    setting
    for setting in fields(NewJob)
    if setting.name
    not in {"queue", "type", "payload", "priority", "max_retries", "depends_on", "on_parent_failure"}
]
_said_beyond = attrgetter(*(setting.name for setting in _BEYOND))
_NOTHING = tuple(setting.default for setting in _BEYOND)

#: What a row has that nothing has happened to yet.
_UNTOUCHED: dict[str, Any] = {
    "attempts": 0,
    "fence": 0,
    "deaths": 0,
    "quarantined": False,
    "worker_id": None,
    "result": None,
    "error": None,
    "reason": None,
    "started_at": None,
    "finished_at": None,
}


def insert(connection: Connection, job: NewJob, *, blocked: bool = False) -> Job:
    """Insert one job, queued or blocked, and return its row."""
    if _is_plain(job) and not blocked:
        parameters = {
            "queue": job.queue,
            "type": job.type,
            "payload": job.payload,
            "priority": job.priority,
            "max_retries": job.max_retries,
        }
        row = fetch_one(connection, _INSERT_PLAIN, parameters)
    else:
        record = _new_job_record(job) | ({"blocked": True} if blocked else {})
        sql = _INSERT_TAGGED if job.tags else _INSERT_ONE
        row = fetch_one(connection, sql, _parameters([record]))
    assert row is not None
    return _new_row(job, JobStatus.BLOCKED if blocked else JobStatus.QUEUED, row)


def insert_many(
    connection: Connection,
    jobs: Sequence[NewJob],
    *,
    blocked: Sequence[bool] | None = None,
) -> list[int]:
    """Insert many jobs, queued or blocked, in one statement; their ids, in the order of the jobs."""
    if not blocked and all(map(_is_plain, jobs)):
        records = [_plain_record(job) for job in jobs]
        rows = fetch_all(connection, _INSERT_MANY_PLAIN, _parameters(records))
        return [row[0] for row in rows]
    records = [_new_job_record(job) for job in jobs]
    for record, waits in zip(records, blocked or (), strict=False):
        if waits:
            record["blocked"] = True
    sql = _INSERT_TAGGED if any(job.tags for job in jobs) else _INSERT_MANY
    rows = fetch_all(connection, sql, _parameters(records))
    return [row[0] for row in rows]


def _is_plain(job: NewJob) -> bool:
    """Whether it may run at once and says nothing but what every job says."""
    return _said_beyond(job) == _NOTHING


def _extras_of(job: NewJob) -> dict[str, Any]:
    """What a job says beyond what every job says: only that is written, so that it costs only who uses it."""
    extras = {
        "available_at": job.available_at,
        "time_limit_seconds": job.time_limit_seconds,
        "options": _options_of(job),
        "concurrency_key": job.concurrency_key,
        "rate_cost": None if job.rate_cost == 1 else job.rate_cost,
        "expires_at": job.expires_at,
        "ttl": job.ttl_seconds,
        "deadline_at": job.deadline_at,
        "deadline": job.deadline_seconds,
        "unique_key": None if job.unique is None else job.unique.key,
        "tags": job.tags or None,
    }
    return {name: value for name, value in extras.items() if value is not None}


def _options_of(job: NewJob) -> Any:
    if job.traceparent is not None:
        said = {} if job.options is None else orjson.loads(job.options)
        return said | {TRACEPARENT: job.traceparent}
    return None if job.options is None else orjson.Fragment(job.options)


def _parameters(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"jobs": orjson.dumps(records).decode()}


def _new_row(job: NewJob, status: JobStatus, row: Values) -> Job:
    """Make the row that was just inserted: only what PostgreSQL decided has to come back."""
    job_id, available_at, created_at, expires_at, deadline_at = row
    return Job(
        id=job_id,
        queue=job.queue,
        type=job.type,
        status=status,
        payload=orjson.loads(job.payload),
        priority=job.priority,
        max_retries=job.max_retries,
        available_at=available_at,
        time_limit_seconds=job.time_limit_seconds,
        created_at=created_at,
        updated_at=created_at,
        concurrency_key=job.concurrency_key,
        rate_cost=job.rate_cost,
        expires_at=expires_at,
        deadline_at=deadline_at,
        unique_key=None if job.unique is None else job.unique.key,
        traceparent=job.traceparent,
        tags=job.tags,
        **_UNTOUCHED,
    )


def _new_job_record(job: NewJob) -> dict[str, Any]:
    return {**_plain_record(job), "delay": job.delay_seconds, **_extras_of(job)}


def _plain_record(job: NewJob) -> dict[str, Any]:
    return {
        "queue": job.queue,
        "type": job.type,
        "payload": orjson.Fragment(job.payload),
        "priority": job.priority,
        "max_retries": job.max_retries,
    }
