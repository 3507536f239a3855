"""New rows: how jobs are inserted, one by one and by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import JobContents
from goqueue.db.fragments import rank_of
from goqueue.db.prepared import PreparedStatement
from goqueue.db.statements import (
    HEAD_START,
    TRACEPARENT,
    Values,
    contents_of,
    fetch_all,
    fetch_one,
)
from goqueue.engine.new_job_contents import encrypted_members, shown_payload
from goqueue.jobs import Job, JobStatus, NewJob

__all__ = ["STATEMENT_MAX", "insert", "insert_many", "insert_plain", "is_plain"]

#: The most rows of one statement, so that none has a text of a hundred megabytes or comes near its time-out.
STATEMENT_MAX = 10_000

# A row whose time has come gets its place in the order at once; the others get it when they are due.
# The times are PostgreSQL's: a delay counts from the insertion, whatever the client's clock says.
_INSERT = f"""
    INSERT INTO jobs (queue, type, status, payload, priority, max_retries, available_at, rank,
                      time_limit_seconds, options, concurrency_key, rate_cost, expires_at, deadline_at,
                      unique_key, tags, requires, slots, limit_cost, payload_key)
    SELECT n.queue, n.type, CASE WHEN n.blocked THEN 'blocked' ELSE 'queued' END, n.payload, n.priority,
           n.max_retries, n.start,
           CASE WHEN n.start <= now() AND n.blocked IS NOT TRUE
               THEN {rank_of("n.start", priority="n.priority")} END,
           n.time_limit_seconds, n.options, n.concurrency_key, coalesce(n.rate_cost, 1),
           coalesce(n.expires_at, now() + make_interval(secs => n.ttl)),
           coalesce(n.deadline_at, now() + make_interval(secs => n.deadline)), n.unique_key, n.tags,
           n.requires, coalesce(n.slots, 1), coalesce(n.limit_cost, 1), n.payload_key
    FROM (
        SELECT *, coalesce(available_at, now() + make_interval(secs => coalesce(delay, 0))) AS start
        FROM json_to_recordset(%(jobs)s::json) AS record (
            queue text, type text, blocked boolean, payload json, priority smallint, max_retries smallint,
            available_at timestamptz, delay float, time_limit_seconds float, options json,
            concurrency_key text, rate_cost smallint, expires_at timestamptz, ttl float,
            deadline_at timestamptz, deadline float, unique_key text, tags text[],
            requires text[], slots smallint, limit_cost smallint, payload_key text)
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

# Most jobs say no more than this, and every parameter and expression left out is time saved. They are ready
# at once, and are listed as such here and not by the trigger, which would do it row by row.
_LISTED = """listed AS (
        INSERT INTO ready_jobs (queue_name, ready_rank, job_id, job_fence, job_type)
        SELECT queue, rank, id, 0, type FROM new
    )"""
_PLAIN = f"""
    WITH new AS (
        INSERT INTO jobs (queue, type, payload, priority, max_retries, rank, place)
        SELECT n.queue, n.type, n.payload, n.priority, n.max_retries,
               {rank_of("now()", priority="n.priority")}, 'ready'
        FROM json_to_recordset(%(jobs)s::json) AS n (
            queue text, type text, payload json, priority smallint, max_retries smallint)
        RETURNING id, queue, rank, type, created_at
    ), {_LISTED}
"""
_INSERT_MANY_PLAIN = f"{_PLAIN} SELECT id FROM new"
_INSERT_ROWS_PLAIN = f"{_PLAIN} SELECT id, created_at FROM new"

# Of one job nothing has to be unpacked; and outside of a transaction not even a cursor is needed.
_PLAIN_ONE = """
    WITH new AS (
        INSERT INTO jobs (queue, type, payload, priority, max_retries, rank, place)
        VALUES ({queue}, {type}, {payload}, {priority}, {max_retries}, {rank}, 'ready')
        RETURNING id, queue, rank, type, created_at
    ), {listed}
    SELECT id, created_at FROM new
"""
_INSERT_PLAIN = _PLAIN_ONE.format(
    queue="%(queue)s",
    type="%(type)s",
    payload="%(payload)s",
    priority="%(priority)s",
    max_retries="%(max_retries)s",
    rank=rank_of("now()", priority="%(priority)s"),
    listed=_LISTED,
)
_INSERT_PLAIN_ALONE = PreparedStatement(
    _PLAIN_ONE.format(
        queue="$1",
        type="$2",
        payload="$3",
        priority="$4::smallint",
        max_retries="$5",
        rank=rank_of("now()", priority="$4::smallint").replace("%(head_start)s", "$6::float8"),
        listed=_LISTED,
    )
)


# What a job may say beyond what is written of every job, or elsewhere; and what it is where it says nothing.
_BEYOND = [
    setting
    for setting in fields(NewJob)
    if setting.name
    not in {"queue", "type", "payload", "priority", "max_retries", "depends_on", "on_parent_failure"}
]
_said_beyond = attrgetter(*(setting.name for setting in _BEYOND))
_NOTHING = tuple(setting.default for setting in _BEYOND)

#: Of a process that encrypts and redacts nothing.
_NO_CONTENTS = JobContents()

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
    if is_plain(job) and not blocked:
        parameters = {
            "queue": job.queue,
            "type": job.type,
            "payload": job.payload,
            "priority": job.priority,
            "max_retries": job.max_retries,
        }
        plain = fetch_one(connection, _INSERT_PLAIN, parameters)
        assert plain is not None
        return _new_plain_row(connection, job, *plain)
    record = _new_job_record(connection, job) | ({"blocked": True} if blocked else {})
    row = fetch_one(connection, _INSERT_TAGGED if job.tags else _INSERT_ONE, _parameters([record]))
    assert row is not None
    status = JobStatus.BLOCKED if blocked else JobStatus.QUEUED
    return _new_row(job, status, row, contents_of(connection))


def insert_many(
    connection: Connection,
    jobs: Sequence[NewJob],
    *,
    blocked: Sequence[bool] | None = None,
) -> list[int]:
    """Insert many jobs, queued or blocked; their ids, in the order of the jobs.

    More than `STATEMENT_MAX` need a transaction: there are several statements.
    """
    ids: list[int] = []
    for start in range(0, len(jobs), STATEMENT_MAX):
        part = slice(start, start + STATEMENT_MAX)
        ids += _insert_part(connection, jobs[part], blocked[part] if blocked else ())
    return ids


def _insert_part(connection: Connection, jobs: Sequence[NewJob], blocked: Sequence[bool]) -> list[int]:
    if not blocked and all(map(is_plain, jobs)):
        rows = fetch_all(connection, _INSERT_MANY_PLAIN, _parameters([_plain_record(job) for job in jobs]))
        return [row[0] for row in rows]
    records = [_new_job_record(connection, job) for job in jobs]
    for record, waits in zip(records, blocked, strict=False):
        if waits:
            record["blocked"] = True
    sql = _INSERT_TAGGED if any(job.tags for job in jobs) else _INSERT_MANY
    rows = fetch_all(connection, sql, _parameters(records))
    return [row[0] for row in rows]


def insert_plain(connection: Connection, jobs: Sequence[NewJob]) -> list[Job]:
    """Insert plain jobs in one statement that commits itself; their rows, in the order of the jobs."""
    if len(jobs) == 1:
        return [_insert_alone(connection, jobs[0])]
    records = _parameters([_plain_record(job) for job in jobs])
    rows = fetch_all(connection, _INSERT_ROWS_PLAIN, records)
    return [_new_plain_row(connection, job, *row) for job, row in zip(jobs, rows, strict=True)]


def _insert_alone(connection: Connection, job: NewJob) -> Job:
    parameters = [
        job.queue.encode(),
        job.type.encode(),
        job.payload.encode(),
        b"%d" % job.priority,
        b"%d" % job.max_retries,
        str(connection.info[HEAD_START]).encode(),
    ]
    job_id, created_at = _INSERT_PLAIN_ALONE.fetch_one(connection, parameters)
    assert job_id is not None
    assert created_at is not None
    return _new_plain_row(connection, job, int(job_id), datetime.fromisoformat(created_at.decode()))


def _new_plain_row(connection: Connection, job: NewJob, job_id: int, created_at: datetime) -> Job:
    row = (job_id, created_at, created_at, None, None)
    return _new_row(job, JobStatus.QUEUED, row, contents_of(connection))


def is_plain(job: NewJob) -> bool:
    """Tell whether a job may run at once and says nothing but what every job says."""
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
        "limit_cost": None if job.limit_cost == 1 else job.limit_cost,
    }
    if job.needs_fitting_worker:
        # Workers that know nothing of it never claim it: see `fragments.MAX_RETRIES`.
        extras |= {"requires": job.requires, "slots": job.slots, "max_retries": -1 - job.max_retries}
    return {name: value for name, value in extras.items() if value is not None}


def _options_of(job: NewJob) -> Any:
    if job.traceparent is not None:
        said = {} if job.options is None else orjson.loads(job.options)
        return said | {TRACEPARENT: job.traceparent}
    return None if job.options is None else orjson.Fragment(job.options)


def _parameters(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"jobs": orjson.dumps(records).decode()}


def _new_row(job: NewJob, status: JobStatus, row: Values, contents: JobContents = _NO_CONTENTS) -> Job:
    """Make the row that was just inserted: only what PostgreSQL decided has to come back."""
    job_id, available_at, created_at, expires_at, deadline_at = row
    payload, encrypted_with = shown_payload(contents, job)
    return Job(
        id=job_id,
        queue=job.queue,
        type=job.type,
        status=status,
        payload=payload,
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
        requires=job.requires,
        slots=job.slots,
        limit_cost=job.limit_cost,
        encrypted_with=encrypted_with,
        **_UNTOUCHED,
    )


def _new_job_record(connection: Connection, job: NewJob) -> dict[str, Any]:
    record = {**_plain_record(job), "delay": job.delay_seconds, **_extras_of(job)}
    return record | encrypted_members(contents_of(connection), job) if job.encrypted else record


def _plain_record(job: NewJob) -> dict[str, Any]:
    return {
        "queue": job.queue,
        "type": job.type,
        "payload": orjson.Fragment(job.payload),
        "priority": job.priority,
        "max_retries": job.max_retries,
    }
