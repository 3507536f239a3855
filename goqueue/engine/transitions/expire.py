"""Expiry: jobs whose time passed before they were started."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import atomic, fetch_all
from goqueue.engine.transitions.release import settle

__all__ = ["Expired", "expire"]

# A walk along jobs_expiring_at_idx that stops at the first job whose time has not passed. A row that somebody
# has locked (a claim that will be refused, a cancel) is left for the next round. The array keeps the planner
# from reading the table, as a join would let it.
_EXPIRE = """
    WITH late AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE expiring_at <= now()
        ORDER BY expiring_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs
    SET status = 'expired', admitted = false, finished_at = now(), updated_at = now(),
        reason = CASE WHEN expires_at <= now() THEN 'expired' ELSE 'deadline' END
    WHERE id = ANY (ARRAY (SELECT id FROM late)) AND status IN ('queued','blocked')
    RETURNING id, queue, reason
"""


class Expired(NamedTuple):
    """A job that will not be started any more.

    Attributes:
        reason: `expired`, or `deadline` where only that has passed.
    """

    job_id: int
    queue: str
    reason: str


@retry_on_conflict
def expire(connection: Connection, *, limit: int, leave_locked: bool = False) -> list[Expired]:
    """End queued and blocked jobs whose time has passed: → expired; and what follows for those that wait.

    At most `limit`, the longest overdue first, in one transaction. With `leave_locked`, jobs that wait and
    are locked by somebody are left to the releaser.
    """
    with atomic(connection):
        expired = [Expired(*row) for row in fetch_all(connection, _EXPIRE, {"limit": limit})]
        ended = [job.job_id for job in expired]
        settle(connection, ended, leave_locked=leave_locked)
    return expired
