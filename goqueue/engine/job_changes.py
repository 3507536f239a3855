"""Changes of jobs that people choose from a list: deletion for good, and another priority."""

from __future__ import annotations

from collections.abc import Sequence

from goqueue.audit import audit_rows as audit
from goqueue.db.database import Connection, Database, retry_on_conflict
from goqueue.db.statements import atomic
from goqueue.engine import cleaning_rows, job_rows

__all__ = ["delete_jobs", "set_priority_of_jobs"]


def delete_jobs(database: Database, ids: Sequence[int]) -> list[int]:
    """Delete those of the jobs that have ended, with everything that is kept of them; their ids.

    A job that a child still waits for stays.
    """
    with database.autocommit() as connection:
        return _delete(connection, ids)


def set_priority_of_jobs(database: Database, ids: Sequence[int], priority: int) -> list[int]:
    """Give those of the jobs that wait another priority, and so another place in the order; their ids."""
    with database.autocommit() as connection:
        return _set_priority(connection, ids, priority)


@retry_on_conflict
def _delete(connection: Connection, ids: Sequence[int]) -> list[int]:
    with atomic(connection):
        deleted = cleaning_rows.delete_final(connection, ids)
        audit.record_of_jobs(connection, "job.delete", deleted)
        return deleted


@retry_on_conflict
def _set_priority(connection: Connection, ids: Sequence[int], priority: int) -> list[int]:
    with atomic(connection):
        changed = job_rows.set_priority(connection, ids, priority)
        audit.record_of_jobs(connection, "job.priority", changed, priority=priority)
        return changed
