"""The types of jobs, looked up by their ids."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all

__all__ = ["types_of"]

# One index lookup an id, whatever the planner expects of the table.
_TYPES = """
    SELECT wanted.id, job.type FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    CROSS JOIN LATERAL (SELECT jobs.type FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job
"""


def types_of(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Read the types of these jobs, by their ids; those that are gone are left out."""
    return {row[0]: row[1] for row in fetch_all(connection, _TYPES, {"ids": list(ids)})}
