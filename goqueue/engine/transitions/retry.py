"""Retrying: failed and cancelled jobs run again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import rank_of
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import (
    array,
    atomic,
    fetch_all,
)
from goqueue.engine import unique_rows as unique_keys

__all__ = ["retry"]

# A replay is a new life: attempts and deaths are counted anew; the attempt rows and the fence stay. Limits of
# its time that have passed meanwhile are dropped: with them it would never run again.
_RETRY = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('failed', 'cancelled')
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET status = 'queued', attempts = 0, deaths = 0, quarantined = false, suspicion = 0,
                    result = NULL,
                    cancel_requested_at = NULL, cancel_acknowledged_at = NULL, reason = NULL,
                    expires_at = CASE WHEN expires_at > now() THEN expires_at END,
                    deadline_at = CASE WHEN deadline_at > now() THEN deadline_at END,
                    fingerprint = NULL, unreadable_by = NULL, unreadable_until = NULL,
                    finished_at = NULL, updated_at = now(),
                    available_at = coalesce(%(available_at)s::timestamptz, now()),
                    rank = CASE WHEN (%(available_at)s::timestamptz > now()) IS NOT TRUE
                        THEN {rank_of("coalesce(%(available_at)s::timestamptz, now())")} END
    WHERE {rows_of("chosen")} AND jobs.status IN ('failed', 'cancelled')
    RETURNING jobs.id, jobs.fence, jobs.queue
"""


@retry_on_conflict
def retry(
    connection: Connection,
    job_ids: Iterable[int],
    *,
    available_at: datetime | None = None,
) -> list[tuple[int, int, str]]:
    """Move failed and cancelled jobs to queued, attempts counted anew; the (id, fence, queue) that were.

    A job with a unique key takes it again, and stays as it is where another one has it: two would be alike.
    """
    ids = set(job_ids)
    parameters = {"available_at": available_at}
    keyed = unique_keys.keyed(connection, ids)
    if not keyed:
        rows = fetch_all(connection, _RETRY, parameters | {"ids": array(ids)})
    else:
        with atomic(connection):
            left = keyed.keys() - unique_keys.take_again(connection, keyed)
            rows = fetch_all(connection, _RETRY, parameters | {"ids": array(ids - left)})
    return [(row[0], row[1], row[2]) for row in rows]
