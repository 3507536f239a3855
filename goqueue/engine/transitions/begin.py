"""Claimed jobs that begin: what keeps them from it, and the note that one did.

Nothing here changes the state of a job.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.queue_rows import CLOSED

__all__ = ["Begin", "Changes", "begin_unrepeatable", "changes", "note_begins"]

# Neither part grows with what the worker holds: the second is one descent of running_jobs_to_stop_idx.
_CHANGES = f"""
    SELECT ARRAY (SELECT name FROM queues WHERE name = ANY (%(queues)s) AND {CLOSED}),
           ARRAY (SELECT job_id FROM running_jobs WHERE holder = %(worker_id)s AND to_stop)
"""


# A row that somebody else has locked is just recorded, or is asked for again. `status || ''`: see
# `record.py`.
_NOTE_BEGINS = f"""
    WITH begun AS MATERIALIZED (
        SELECT b.id, to_timestamp(b.at) AS at
        FROM json_to_recordset(%(begins)s::json) AS b (id bigint, fence int, at float)
        CROSS JOIN LATERAL (
            SELECT FROM jobs
            WHERE jobs.id = b.id AND jobs.fence = b.fence AND jobs.status || '' = 'running'
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    )
    UPDATE jobs SET begun_at = begun.at, started_at = begun.at
    FROM begun WHERE jobs.id = begun.id AND {rows_of("begun")}
    RETURNING jobs.id, jobs.fence
"""


_BEGIN_UNREPEATABLE = """
    UPDATE jobs SET unrepeatable_fence = fence
    WHERE id = %(id)s AND fence = %(fence)s AND status = 'running' AND worker_id = %(worker_id)s
    RETURNING id
"""


class Begin(NamedTuple):
    """The begin of a handler, at so many seconds since 1970 by PostgreSQL's clock."""

    id: int
    fence: int
    at: float


class Changes(NamedTuple):
    """The changes that keep claimed jobs from beginning.

    Attributes:
        closed: queues that are paused, or were told to slow down.
        cancelled: ids of jobs that somebody wants stopped.
    """

    closed: frozenset[str] = frozenset()
    cancelled: frozenset[int] = frozenset()


def changes(connection: Connection, worker_id: int, queues: Collection[str]) -> Changes:
    """Read what somebody wants of the jobs that this worker holds, which are of these queues."""
    row = fetch_one(connection, _CHANGES, {"worker_id": worker_id, "queues": list(queues)})
    assert row is not None
    return Changes(frozenset(row[0]), frozenset(row[1]))


@retry_on_conflict
def note_begins(connection: Connection, begins: Sequence[Begin]) -> set[tuple[int, int]]:
    """Write when the handlers of running jobs began; the (id, fence) of those that it was written for."""
    ordered = [begin._asdict() for begin in sorted(begins)]
    rows = fetch_all(connection, _NOTE_BEGINS, {"begins": orjson.dumps(ordered).decode()})
    return {(row[0], row[1]) for row in rows}


def begin_unrepeatable(connection: Connection, job_id: int, fence: int, worker_id: int) -> bool:
    """Note that an attempt begins that must not be repeated when its worker dies; False: it is not held."""
    parameters = {"id": job_id, "fence": fence, "worker_id": worker_id}
    return bool(fetch_all(connection, _BEGIN_UNREPEATABLE, parameters))
