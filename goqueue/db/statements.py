"""Tools of every module that runs statements: rows become objects, and objects become parameters.

Many-row statements take their rows as one JSON text (`json_to_recordset`): psycopg adapts arrays element by
element in Python, which cost more than the statement itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection

from goqueue.config.bounds import FIRST_MOMENT, LAST_MOMENT
from goqueue.contents.contents import JobContents
from goqueue.db.fragments import MAX_RETRIES
from goqueue.jobs import Job, JobStatus

#: Which group of dead letters a failed job belongs to, as jobs_failure_idx has it: by its error, or by
#: the reason of its failure where no exception was seen (a lost worker, a failed parent, a deadline).
FINGERPRINT = "coalesce(fingerprint, left(md5(type || ':' || coalesce(reason, '')), 16))"

#: The reserved name among a job's options under which the trace is kept that it belongs to.
TRACEPARENT = "traceparent"

#: The reserved name of the options of an encrypted job: what it says there may hold the payload of another.
ENCRYPTED_OPTIONS = "encrypted"

#: The first and the last moment that is stored (`goqueue/config/bounds.py`). A statement over many rows
#: computes with nothing beyond them: one row out of range would end it for all.
FIRST = f"timestamptz '{FIRST_MOMENT.isoformat(' ')}'"
LAST = f"timestamptz '{LAST_MOMENT.isoformat(' ')}'"

JOB_COLUMNS = (
    f"id, queue, type, status, payload, priority, attempts, {MAX_RETRIES}, fence, deaths, quarantined, "
    "available_at, time_limit_seconds, worker_id, result, error, reason, created_at, updated_at, "
    "started_at, finished_at, concurrency_key, rate_cost, admitted, expires_at, deadline_at, unique_key, "
    "has_dependants, cancel_requested_at, cancel_acknowledged_at, begun_at, "
    f"CASE WHEN status = 'failed' THEN {FINGERPRINT} ELSE fingerprint END, options ->> '{TRACEPARENT}', "
    "tags, suspicion, limit_cost, requires, slots"
)

#: The name under which a connection's `info` has the head start of one step of priority, in seconds. A
#: statement that names the parameter `head_start` is given it.
HEAD_START = "goqueue_head_start_seconds"

#: The name under which a connection's `info` has what encrypts and decrypts what jobs hold.
CONTENTS = "goqueue_contents"

Values = tuple[Any, ...]

#: Of a process that has no keys, and declares no types.
_NO_CONTENTS = JobContents()

#: Where `JOB_COLUMNS` has the id, the type, the payload, the result and the error.
_HOLDS = (0, 2, 4, 14, 15)


def job_from_row(connection: Connection, row: Values) -> Job:
    """Return the Job of a row of `JOB_COLUMNS`, with what it holds as it is shown."""
    values = list(row)
    values[3] = JobStatus(values[3])
    values[-5] = tuple(values[-5] or ())
    values[-2] = tuple(values[-2] or ())
    values += contents_of(connection).open_job(values, _HOLDS)
    return Job(*values)


def contents_of(connection: Connection) -> JobContents:
    """Return what encrypts and decrypts what jobs hold, for statements on this connection."""
    contents: JobContents = connection.info.get(CONTENTS, _NO_CONTENTS)
    return contents


def array(values: Iterable[int]) -> str:
    """Return the text of a PostgreSQL array of integers."""
    return "{" + ",".join(map(str, values)) + "}"


#: The jobs that `key_arrays` names, as rows of (id, fence). Each array stands in a SELECT of its own, so that
#: the planner does not see how long it is: a plan for just this array looked cheaper than one for any, so
#: PostgreSQL planned every claim anew, which took 0.7 ms, three times as long as claiming one job.
KEYS = "unnest((SELECT %(ids)s::bigint[]), (SELECT %(fences)s::int[]))"


def key_arrays(keys: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Make the parameters `ids` and `fences` of jobs of these (id, fence), in the order of the ids.

    Statements that lock rows in the order in which they are named queue up instead of deadlocking.
    """
    ordered = sorted(set(keys))
    return {
        "ids": array(job_id for job_id, _ in ordered),
        "fences": array(fence for _, fence in ordered),
    }


@lru_cache(maxsize=64)
def text_array(values: tuple[str, ...]) -> str:
    """Return the text of a PostgreSQL array of texts; made once for those that every statement has."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def atomic(connection: Connection) -> AbstractContextManager[object]:
    """Open a transaction on an autocommit connection; a savepoint in a transaction."""
    driver = _driver(connection)
    if not driver.autocommit and driver.pgconn.transaction_status == TransactionStatus.IDLE:
        # psycopg begins with the first statement. Without one it would take this block for all of the
        # transaction, and commit at its end.
        driver.execute("SELECT")
    return driver.transaction()


def fetch_all(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> Sequence[Values]:
    """Run a statement, in the connection's transaction if there is one, and return its rows.

    It runs on psycopg's own connection: what SQLAlchemy does around a cursor's result cost more than half of
    a single INSERT (it describes every column anew for each statement it did not compile).
    """
    return _execute(connection, sql, parameters).fetchall()


def fetch_one(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> Values | None:
    """Run a statement as `fetch_all` does, and return its first row, or None."""
    return _execute(connection, sql, parameters).fetchone()


def current_time(connection: Connection) -> datetime:
    """Read PostgreSQL's time: that of the transaction, where there is one."""
    row = fetch_one(connection, "SELECT now()", {})
    assert row is not None
    return cast("datetime", row[0])


def _execute(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[Values]:
    # The statements are constants of this package; only their parameters come from outside.
    if _names_head_start(sql):
        parameters = {**parameters, "head_start": connection.info[HEAD_START]}
    return _driver(connection).execute(sql, parameters)


@lru_cache(maxsize=512)
def _names_head_start(sql: str) -> bool:
    """Say it of each statement once: looking through the text of one takes microseconds."""
    return "%(head_start)s" in sql


def _driver(connection: Connection) -> psycopg.Connection[Values]:
    return cast("psycopg.Connection[Values]", connection.connection.driver_connection)
