"""Releasing: what follows for the jobs that wait, when a job that they wait for ends.

One row of `dependencies` is an edge: a child waits for a parent. What the parent came to is marked on the
edge, once, by whoever ends the parent, in the same transaction (`settle`); a child is released when no edge
of it is unmarked. There is no counter that could drift.

Two parents that end at the same moment release their child exactly once. Each marks its own edge first, then
locks the child, then asks, in a new statement, for unmarked edges: whoever is second waited for the lock,
and its new statement sees what the first one committed.

Locks are taken in this order: parents by id, their edges, children by id. A child is inserted after its
parents, so ids ascend on the way down.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import rank_of
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import array, fetch_all
from goqueue.jobs import FINAL_STATUSES, JobStatus

__all__ = ["Released", "Sweep", "release", "release_and_settle", "settle", "sweep"]

#: The most rows of one statement; a parent may have any number of children.
CHUNK = 1000

# One index descent a parent, and then its edges by their place, whatever the planner believes of the tables.
# Only whoever holds the parent's row marks its edges.
_MARK = """
    WITH chosen AS MATERIALIZED (
        SELECT edge.place, parent.status
        FROM unnest(%(ids)s::bigint[]) AS ended (id)
        CROSS JOIN LATERAL (
            SELECT status FROM jobs WHERE jobs.id = ended.id AND finished_at IS NOT NULL LIMIT 1
        ) AS parent
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM dependencies
            WHERE parent_id = ended.id AND parent_status IS NULL
            ORDER BY job_id LIMIT %(limit)s FOR UPDATE
        ) AS edge
        LIMIT %(limit)s
    )
    UPDATE dependencies SET parent_status = chosen.status
    FROM chosen
    WHERE dependencies.ctid = chosen.place AND dependencies.ctid = ANY (ARRAY (SELECT place FROM chosen))
    RETURNING job_id
"""

_LOCK_CHILDREN = """
    SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status = 'blocked' ORDER BY id FOR UPDATE
"""

# What somebody has locked is left to the next sweep. Only where it must not hold up others: of two parents
# that end at the same moment, each would pass over the child that the other one has locked.
_MARK_FREE = _MARK.replace("FOR UPDATE", "FOR UPDATE SKIP LOCKED")
_LOCK_FREE_CHILDREN = f"{_LOCK_CHILDREN} SKIP LOCKED"

# Its snapshot must be younger than the locks: see above.
_RELEASE = f"""
    WITH decided AS MATERIALIZED (
        SELECT locked.id, verdict.parent_id, CASE
            WHEN verdict.fails THEN 'failed' WHEN verdict.cancels THEN 'cancelled' ELSE 'queued'
            END AS becomes
        FROM unnest(%(ids)s::bigint[]) AS locked (id)
        CROSS JOIN LATERAL (
            SELECT FROM jobs WHERE jobs.id = locked.id AND status = 'blocked' LIMIT 1
        ) AS child
        CROSS JOIN LATERAL (
            SELECT bool_or(parent_status IS NULL) AS waits,
                   bool_or(parent_status <> 'completed' AND on_parent_failure = 'fail') AS fails,
                   bool_or(parent_status <> 'completed' AND on_parent_failure = 'cancel') AS cancels,
                   min(parent_id) FILTER (WHERE parent_status <> 'completed') AS parent_id
            FROM dependencies WHERE job_id = locked.id
        ) AS verdict
        WHERE verdict.waits IS NOT TRUE
    )
    UPDATE jobs
    SET status = becomes, updated_at = now(),
        reason = CASE WHEN becomes <> 'queued' THEN 'parent_failed' END,
        error = CASE WHEN becomes <> 'queued'
            THEN 'job ' || decided.parent_id || ', which it waited for, did not complete' END,
        available_at = CASE WHEN becomes = 'queued'
            THEN GREATEST(available_at, now()) ELSE available_at END,
        rank = CASE WHEN becomes = 'queued' AND available_at <= now()
            THEN {rank_of("now()")} END,
        finished_at = CASE WHEN becomes <> 'queued' THEN now() END
    FROM decided
    WHERE jobs.id = decided.id AND {rows_of("decided")}
      AND jobs.status = 'blocked'
    RETURNING jobs.id, jobs.fence, jobs.queue, jobs.status, jobs.rank IS NOT NULL
"""

# A walk over the blocked jobs by id, a page a round. The inner EXISTS stops at the first parent that is still
# to come, so a job that waits rightly costs two index descents.
_STUCK = """
    WITH page AS MATERIALIZED (
        SELECT id FROM jobs WHERE rare_state = 'blocked' AND id > %(after)s ORDER BY id LIMIT %(limit)s
    )
    SELECT id, NOT EXISTS (
        SELECT FROM dependencies
        CROSS JOIN LATERAL (SELECT finished_at FROM jobs WHERE jobs.id = parent_id LIMIT 1) AS parent
        WHERE job_id = page.id AND parent_status IS NULL AND parent.finished_at IS NULL)
    FROM page ORDER BY id
"""

_LOCK_UNMARKED_PARENTS = """
    SELECT id FROM jobs WHERE id = ANY (ARRAY (
        SELECT parent_id FROM dependencies WHERE job_id = ANY(%(ids)s::bigint[]) AND parent_status IS NULL))
    ORDER BY id FOR UPDATE SKIP LOCKED
"""

# A parent whose row is gone has not completed, as far as anyone can tell.
_MARK_OF_CHILDREN = """
    UPDATE dependencies SET parent_status = coalesce(parent.status, 'cancelled')
    FROM unnest(%(ids)s::bigint[]) AS child (id), dependencies AS edge
    LEFT JOIN jobs AS parent ON parent.id = edge.parent_id
    WHERE edge.job_id = child.id AND edge.parent_status IS NULL
      AND (parent.id IS NULL OR parent.finished_at IS NOT NULL)
      AND dependencies.job_id = edge.job_id AND dependencies.parent_id = edge.parent_id
    RETURNING dependencies.job_id
"""


class Released(NamedTuple):
    """A job that waits for nothing any more.

    Attributes:
        status: queued; or failed or cancelled, by its policy about parents that did not complete.
        starts: it may start now: its time has come.
    """

    id: int
    fence: int
    queue: str
    status: JobStatus
    starts: bool


class Sweep(NamedTuple):
    """A page of the walk: the jobs that were released, and behind which id to go on; None at the end."""

    released: list[Released]
    after_id: int | None


def settle(connection: Connection, ended: Iterable[int], *, leave_locked: bool = False) -> list[Released]:
    """Tell the jobs that wait for any of these, as far as they have ended, and release those that are last.

    Every function of this package that ends jobs calls it, in the transaction that ends them. A child that
    fails or is cancelled by it has ended as well, and is settled in turn. With `leave_locked`, what somebody
    has locked is left to the next sweep.
    """
    released: list[Released] = []
    pending = sorted(set(ended))
    while pending:
        batch, pending = pending[:CHUNK], pending[CHUNK:]
        while children := _mark(connection, batch, leave_locked=leave_locked):
            freed = release(connection, children, leave_locked=leave_locked)
            pending += sorted(child.id for child in freed if child.status in FINAL_STATUSES)
            released += freed
            if len(children) < CHUNK:
                break
    return released


def release(connection: Connection, children: Iterable[int], *, leave_locked: bool = False) -> list[Released]:
    """Release those of the blocked jobs that wait for nothing any more; what was decided about them.

    What waits for those that end by it is not settled here.
    """
    lock = _LOCK_FREE_CHILDREN if leave_locked else _LOCK_CHILDREN
    locked = fetch_all(connection, lock, {"ids": array(sorted(set(children)))})
    parameters = {"ids": array(row[0] for row in locked)}
    rows = fetch_all(connection, _RELEASE, parameters) if locked else []
    return [Released(row[0], row[1], row[2], JobStatus(row[3]), row[4]) for row in rows]


def release_and_settle(
    connection: Connection, children: Iterable[int], *, leave_locked: bool = False
) -> list[Released]:
    """Release blocked jobs as `release` does, and settle what waits for those that end by it."""
    freed = release(connection, children, leave_locked=leave_locked)
    ended = [child.id for child in freed if child.status in FINAL_STATUSES]
    return freed + settle(connection, ended, leave_locked=leave_locked)


def sweep(connection: Connection, *, after_id: int, limit: int) -> Sweep:
    """Release blocked jobs whose parents have all ended, but which nobody released; in a transaction.

    Whoever ends a job settles it; what this finds was left by something that did not. A walk from
    `after_id` 0 to the end that releases nothing proves that nothing is left.
    """
    page = fetch_all(connection, _STUCK, {"after": after_id, "limit": limit})
    stuck = [row[0] for row in page if row[1]]
    released: list[Released] = []
    for start in range(0, len(stuck), CHUNK):
        children = stuck[start : start + CHUNK]
        fetch_all(connection, _LOCK_UNMARKED_PARENTS, {"ids": array(children)})
        fetch_all(connection, _MARK_OF_CHILDREN, {"ids": array(children)})
        released += release_and_settle(connection, children, leave_locked=True)
    return Sweep(released, page[-1][0] if len(page) == limit else None)


def _mark(connection: Connection, ended: list[int], *, leave_locked: bool) -> list[int]:
    """Mark up to `CHUNK` edges of parents that have ended; their children."""
    parameters = {"ids": array(ended), "limit": CHUNK}
    return [row[0] for row in fetch_all(connection, _MARK_FREE if leave_locked else _MARK, parameters)]
