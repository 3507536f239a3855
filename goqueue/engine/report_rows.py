"""Rows of what attempts say about themselves: their progress and the lines of their logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.db.statements import Values, contents_of, fetch_all, fetch_one

__all__ = [
    "Line",
    "LoggedLine",
    "Progress",
    "ProgressOfJob",
    "Report",
    "last_lines_of",
    "lines_of",
    "lock_log",
    "progress_of",
    "write_lines",
    "write_progress",
]

# Times are PostgreSQL's: a worker says how long ago something was said. A job that the cleaner deleted
# meanwhile (its worker was silent for days) gets no rows that nobody would delete.
_WRITE_PROGRESS = """
    INSERT INTO attempt_progress (job_id, fence, progress, message, updated_at)
    SELECT said.id, said.fence, said.progress, said.message, now() - make_interval(secs => said.age)
    FROM json_to_recordset(%(reports)s::json)
        AS said (id bigint, fence int, progress float, message text, age float)
    CROSS JOIN LATERAL (SELECT FROM jobs WHERE jobs.id = said.id LIMIT 1) AS job
    ORDER BY said.id, said.fence
    ON CONFLICT (job_id, fence) DO UPDATE
    SET progress = EXCLUDED.progress, message = EXCLUDED.message, updated_at = EXCLUDED.updated_at
"""

# A line may be written twice (the answer to the first time was lost), and the notice of what was cut changes.
_WRITE_LINES = """
    INSERT INTO attempt_logs (job_id, fence, line, text, logged_at)
    SELECT said.id, said.fence, line.line, line.text, now() - make_interval(secs => line.age)
    FROM json_to_recordset(%(reports)s::json) AS said (id bigint, fence int, lines json)
    CROSS JOIN LATERAL (SELECT FROM jobs WHERE jobs.id = said.id LIMIT 1) AS job
    CROSS JOIN LATERAL json_to_recordset(said.lines) AS line (line int, text text, age float)
    ON CONFLICT (job_id, fence, line) DO UPDATE SET text = EXCLUDED.text
"""

# Calls of one attempt wait for each other, so that no two lines have one number.
_LOCK_LOG = "SELECT pg_advisory_xact_lock(hashtextextended('log of an attempt', %(id)s))"
_LOGGED = """
    SELECT coalesce(max(line), 0), coalesce(sum(octet_length(text) + 1), 0)::bigint
    FROM attempt_logs WHERE job_id = %(id)s AND fence = %(fence)s
"""

_PROGRESS = """
    SELECT jobs.id, jobs.status, jobs.attempts, jobs.fence, said.progress, said.message, said.updated_at
    FROM jobs LEFT JOIN attempt_progress AS said ON said.job_id = jobs.id AND said.fence = jobs.fence
    WHERE jobs.id = %(id)s
"""

_LINES = """
    SELECT fence, line, text, logged_at FROM attempt_logs
    WHERE job_id = %(id)s AND fence = coalesce(%(fence)s, (SELECT fence FROM jobs WHERE id = %(id)s))
      AND line > %(after)s
    ORDER BY line LIMIT %(limit)s
"""

_LAST_LINES = """
    SELECT fence, line, text, logged_at FROM attempt_logs
    WHERE job_id = %(id)s AND fence = %(fence)s ORDER BY line DESC LIMIT %(limit)s
"""


class Progress(NamedTuple):
    """The progress of an attempt, and how long ago it said so."""

    fraction: float
    text: str | None
    age_seconds: float


class Line(NamedTuple):
    """A line of the log of an attempt, numbered from 1, and how long ago it was said."""

    number: int
    text: str
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The words of an attempt since the last time.

    Attributes:
        encrypted: its job is encrypted in its rows, and so are they.
    """

    job_id: int
    fence: int
    progress: Progress | None
    lines: Sequence[Line]
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class ProgressOfJob:
    """The progress of a job's latest attempt; without `progress` it has not said."""

    job_id: int
    status: str
    attempts: int
    fence: int
    progress: float | None
    message: str | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """One row of `attempt_logs`."""

    fence: int
    line: int
    text: str
    logged_at: datetime


def write_progress(connection: Connection, reports: Iterable[Report]) -> None:
    """Write the progress of these attempts, over what they said before."""
    records = [
        {
            "id": report.job_id,
            "fence": report.fence,
            "progress": report.progress.fraction,
            "message": _written(connection, report, "progress", report.progress.text),
            "age": report.progress.age_seconds,
        }
        for report in reports
        if report.progress is not None
    ]
    _write(connection, _WRITE_PROGRESS, records)


def write_lines(connection: Connection, reports: Iterable[Report]) -> None:
    """Write the lines of these attempts."""
    records = [
        {
            "id": report.job_id,
            "fence": report.fence,
            "lines": [
                {
                    "line": line.number,
                    "text": _written(connection, report, "log", line.text),
                    "age": line.age_seconds,
                }
                for line in report.lines
            ],
        }
        for report in reports
    ]
    _write(connection, _WRITE_LINES, records)


def lock_log(connection: Connection, job_id: int, fence: int) -> tuple[int, int]:
    """Let nobody else add to the log of an attempt until the transaction ends.

    Returns the number of its last line, and how many bytes it has.
    """
    fetch_all(connection, _LOCK_LOG, {"id": job_id})
    row = fetch_one(connection, _LOGGED, {"id": job_id, "fence": fence})
    assert row is not None
    return row[0], row[1]


def progress_of(connection: Connection, job_id: int) -> ProgressOfJob | None:
    """Tell how far the latest attempt of a job has come; None where there is no such job."""
    row = fetch_one(connection, _PROGRESS, {"id": job_id})
    if row is None:
        return None
    said = ProgressOfJob(*row)
    shown = contents_of(connection).shown(said.message, of_job("progress", job_id))
    return said if shown == said.message else replace(said, message=shown)


def lines_of(
    connection: Connection, job_id: int, *, fence: int | None, after: int, limit: int
) -> list[LoggedLine]:
    """Read the lines behind a number of the log of an attempt, in order; without a fence, of the latest."""
    parameters = {"id": job_id, "fence": fence, "after": after, "limit": limit}
    return [_line(connection, job_id, row) for row in fetch_all(connection, _LINES, parameters)]


def last_lines_of(connection: Connection, job_id: int, *, fence: int, limit: int) -> list[LoggedLine]:
    """Read the last lines of the log of an attempt, in their order."""
    rows = fetch_all(connection, _LAST_LINES, {"id": job_id, "fence": fence, "limit": limit})
    return [_line(connection, job_id, row) for row in reversed(rows)]


def _line(connection: Connection, job_id: int, row: Values) -> LoggedLine:
    fence, number, text, logged_at = row
    shown = contents_of(connection).shown(text, of_job("log", job_id))
    return LoggedLine(fence, number, shown or "", logged_at)


def _written(connection: Connection, report: Report, column: str, text: str | None) -> str | None:
    """A text as it is written: that of an encrypted job is."""
    if text is None or not report.encrypted:
        return text
    return contents_of(connection).closed(text, of_job(column, report.job_id))


def _write(connection: Connection, sql: str, records: Sequence[object]) -> None:
    if records:
        connection.exec_driver_sql(sql, {"reports": orjson.dumps(records).decode()})
