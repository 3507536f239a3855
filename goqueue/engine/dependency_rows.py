"""Questions about dependencies: what a job waits for, what waits for it, and what its parents returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.db.statements import contents_of, fetch_all
from goqueue.jobs import JobStatus, OnParentFailure

__all__ = ["LINKS_MAX", "Link", "children_of", "parents_of", "pending_parents", "results_of_parents"]

#: The most children of one answer.
LINKS_MAX = 1000

# Parents whose row is gone are still told: what they came to stands on the edge.
_PARENTS = """
    SELECT parent_id, parent.status, parent.queue, parent.type, on_parent_failure, parent_status,
           parent.finished_at
    FROM dependencies LEFT JOIN jobs AS parent ON parent.id = parent_id
    WHERE job_id = %(id)s AND (parent_status IS NULL OR NOT %(pending)s)
    ORDER BY parent_id LIMIT %(limit)s
"""

_CHILDREN = """
    SELECT job_id, child.status, child.queue, child.type, on_parent_failure, parent_status,
           child.finished_at
    FROM dependencies JOIN jobs AS child ON child.id = job_id
    WHERE parent_id = %(id)s ORDER BY job_id LIMIT %(limit)s
"""

_RESULTS = """
    SELECT parent.id, parent.result FROM dependencies JOIN jobs AS parent ON parent.id = parent_id
    WHERE job_id = %(id)s AND parent.status = 'completed' ORDER BY parent.id
"""


@dataclass(frozen=True, slots=True)
class Link:
    """One end of an edge, seen from the other.

    Attributes:
        status, queue, type: of the job at that end, as it is now; None where it was deleted.
        outcome: what the parent came to, as far as this child is concerned, even if it was run again since;
            None: the child waits for it.
        finished_at: when the job at that end ended.
    """

    id: int
    status: JobStatus | None
    queue: str | None
    type: str | None
    on_parent_failure: OnParentFailure
    outcome: JobStatus | None
    finished_at: datetime | None = None


def parents_of(connection: Connection, job_id: int) -> list[Link]:
    """Read everything that a job was created to wait for, by id."""
    return _links(connection, _PARENTS, job_id, pending=False)


def pending_parents(connection: Connection, job_id: int, *, limit: int = LINKS_MAX) -> list[Link]:
    """Read what a blocked job still waits for, by id."""
    return _links(connection, _PARENTS, job_id, pending=True, limit=limit)


def children_of(connection: Connection, job_id: int, *, limit: int = LINKS_MAX) -> list[Link]:
    """Read the first jobs, by id, that were created to wait for a job."""
    return _links(connection, _CHILDREN, job_id, limit=limit)


def results_of_parents(connection: Connection, job_id: int) -> dict[int, Any]:
    """Read what the completed parents of a job returned, by their ids.

    Raises:
        UndecryptableError: this process cannot decrypt what one returned.
    """
    rows = fetch_all(connection, _RESULTS, {"id": job_id})
    contents = contents_of(connection)
    return {row[0]: contents.opened_value(row[1], of_job("result", row[0])) for row in rows}


def _links(
    connection: Connection, sql: str, job_id: int, *, pending: bool = False, limit: int = LINKS_MAX
) -> list[Link]:
    rows: Sequence[Any] = fetch_all(connection, sql, {"id": job_id, "pending": pending, "limit": limit})
    return [
        Link(
            row[0],
            row[1] and JobStatus(row[1]),
            row[2],
            row[3],
            OnParentFailure(row[4]),
            row[5] and JobStatus(row[5]),
            row[6],
        )
        for row in rows
    ]
