"""Canaries: the first jobs of an operation, on whose success the others depend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one

__all__ = ["CanaryCounts", "add", "count", "list_ids"]

# A canary that somebody deleted is neither.
_CANARIES = """
    SELECT count(*), count(*) FILTER (WHERE jobs.finished_at IS NULL AND jobs.id IS NOT NULL),
           count(*) FILTER (WHERE jobs.status = 'completed'), count(*) FILTER (WHERE jobs.status = 'running')
    FROM bulk_canaries LEFT JOIN jobs ON jobs.id = bulk_canaries.job_id
    WHERE operation_id = %(id)s
"""

# Those that the others wait for come first.
_CANARY_IDS = """
    SELECT jobs.id FROM bulk_canaries JOIN jobs ON jobs.id = bulk_canaries.job_id
    WHERE operation_id = %(id)s
    ORDER BY jobs.status = 'completed', jobs.finished_at IS NOT NULL, jobs.id LIMIT %(limit)s
"""


class CanaryCounts(NamedTuple):
    """The counts of an operation's first jobs, by how they are doing."""

    total: int
    unfinished: int
    completed: int
    running: int

    @property
    def failed(self) -> int:
        """The number of those that ended otherwise."""
        return self.total - self.unfinished - self.completed


def add(connection: Connection, operation_id: int, job_ids: Iterable[int]) -> None:
    """Remember the jobs on whose success the others depend."""
    connection.exec_driver_sql(
        "INSERT INTO bulk_canaries (operation_id, job_id) SELECT %(id)s, unnest(%(ids)s::bigint[])",
        {"id": operation_id, "ids": array(job_ids)},
    )


def count(connection: Connection, operation_id: int) -> CanaryCounts:
    """Count the canaries of an operation, by how they are doing."""
    row = fetch_one(connection, _CANARIES, {"id": operation_id})
    assert row is not None
    return CanaryCounts(*row)


def list_ids(connection: Connection, operation_id: int, *, limit: int) -> list[int]:
    """Read the ids of some canaries, those that have not completed first."""
    rows = fetch_all(connection, _CANARY_IDS, {"id": operation_id, "limit": limit})
    return [row[0] for row in rows]
