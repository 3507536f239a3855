"""Drops: jobs that lack a slot of a concurrency limit, where that is what the limit does with new ones."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import array, atomic, fetch_all
from goqueue.engine.transitions.release import settle

# Only what waits: a holder of a slot is superseded, not dropped.
_DROP = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status = 'queued' AND NOT admitted
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET status = 'cancelled', reason = 'dropped', finished_at = now(), updated_at = now()
    WHERE {rows_of("chosen")} AND jobs.status = 'queued'
    RETURNING jobs.id
"""


def drop(connection: Connection, job_ids: Iterable[int]) -> list[int]:
    """Move queued jobs that were not let in to cancelled, and settle what waits for them; their ids."""
    with atomic(connection):
        dropped = [row[0] for row in fetch_all(connection, _DROP, {"ids": array(job_ids)})]
        settle(connection, dropped)
    return dropped
