"""How rows become objects and objects become parameters, for every module of the store.

Many-row statements take their rows as one JSON text (`json_to_recordset`): psycopg adapts arrays element by
element in Python, which cost more than the statement itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import Connection

from goqueue.jobs import Job, JobStatus

JOB_COLUMNS = (
    "id, queue, type, status, payload, priority, attempts, max_retries, fence, deaths, quarantined, "
    "available_at, time_limit_seconds, worker_id, result, error, reason, created_at, updated_at, "
    "started_at, finished_at"
)


Values = tuple[Any, ...]


def job_from_row(row: Values) -> Job:
    """The Job of a row of `JOB_COLUMNS`."""
    values = list(row)
    values[3] = JobStatus(values[3])
    return Job(*values)


def array(values: Iterable[int]) -> str:
    """The text of a PostgreSQL array of integers."""
    return "{" + ",".join(map(str, values)) + "}"


def fetch_all(connection: Connection, sql: str, parameters: dict[str, Any]) -> Sequence[Values]:
    """Run a statement and return its rows."""
    return cast("Sequence[Values]", connection.exec_driver_sql(sql, parameters).fetchall())


def fetch_one(connection: Connection, sql: str, parameters: dict[str, Any]) -> Values | None:
    """Run a statement and return its first row, or None."""
    return cast("Values | None", connection.exec_driver_sql(sql, parameters).fetchone())
