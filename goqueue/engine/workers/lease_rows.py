"""Leases: what a worker holds under one, and how those end whose workers were lost."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import RUNNING_JOBS
from goqueue.db.statements import array, fetch_all, fetch_one

__all__ = ["Ends", "end_gone", "end_lost", "ends", "held", "lost_together", "still_held"]

# Two processes of a host that die at the same moment were last heard of within a heartbeat of each other. Of
# a host on which none is left, they may have died one after the other within a lease. The other one need not
# have been judged yet: whoever missed two heartbeats is not well.
_LOST_TOGETHER = """
    SELECT gone.id FROM workers AS gone CROSS JOIN LATERAL (
        SELECT coalesce(bool_or(stopped_at IS NULL AND heartbeat_at >= now() - silent), false) AS lives,
               min(abs(extract(epoch FROM heartbeat_at - gone.heartbeat_at)))
                   FILTER (WHERE lost OR (stopped_at IS NULL AND heartbeat_at < now() - silent)) AS apart
        FROM workers, make_interval(secs => 2 * %(heartbeat_seconds)s) AS silent
        WHERE id <> gone.id AND hostname = gone.hostname AND host_key IS NOT DISTINCT FROM gone.host_key
    ) AS host
    WHERE gone.lost AND gone.stopped_at > now() - interval '10 minutes'
      AND host.apart <= CASE WHEN host.lives THEN 1.5 * %(heartbeat_seconds)s ELSE %(lease_seconds)s END
"""


class Ends(NamedTuple):
    """The ends of leases that are remembered."""

    leases: int
    newest: datetime | None


def held(connection: Connection, worker_id: int) -> set[tuple[int, int]]:
    """Read the (id, fence) of every job that this worker holds by the record."""
    rows = fetch_all(
        connection,
        f"SELECT id, fence FROM {RUNNING_JOBS} WHERE holder = %(worker_id)s",
        {"worker_id": worker_id},
    )
    return {(row[0], row[1]) for row in rows}


def still_held(
    connection: Connection, worker_id: int, keys: Collection[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Read those of these (id, fence) that this worker holds by the record."""
    if not keys:
        return set()
    # By the primary key, one by one.
    rows = fetch_all(
        connection,
        "SELECT job.id, job.fence FROM unnest(%(ids)s::bigint[]) AS wanted (id) CROSS JOIN LATERAL ("
        "SELECT id, fence, status, worker_id FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job "
        "WHERE job.status = 'running' AND job.worker_id = %(worker_id)s",
        {"ids": array(job_id for job_id, _ in keys), "worker_id": worker_id},
    )
    return {(row[0], row[1]) for row in rows} & set(keys)


def end_gone(connection: Connection, worker_ids: Collection[int]) -> None:
    """End the leases of workers whose processes are known to be gone, all at once."""
    connection.exec_driver_sql(
        "UPDATE workers SET stopped_at = now(), busy = 0, lost = true "
        "WHERE id = ANY(%(ids)s::bigint[]) AND stopped_at IS NULL",
        {"ids": array(worker_ids)},
    )


def end_lost(connection: Connection, *, lease_seconds: float) -> list[int]:
    """End the leases of silent workers; their ids.

    A heartbeat that is later than now by more than a lease is of before the clock was set back: whoever lives
    has renewed since.
    """
    rows = fetch_all(
        connection,
        "UPDATE workers SET stopped_at = now(), lost = true WHERE stopped_at IS NULL AND id = ANY (ARRAY ("
        "SELECT id FROM workers WHERE stopped_at IS NULL "
        "AND (heartbeat_at <= now() - make_interval(secs => %(lease_seconds)s) "
        "OR heartbeat_at > now() + make_interval(secs => %(lease_seconds)s)) FOR UPDATE SKIP LOCKED)) "
        "RETURNING id",
        {"lease_seconds": lease_seconds},
    )
    return [row[0] for row in rows]


def lost_together(connection: Connection, *, heartbeat_seconds: float, lease_seconds: float) -> list[int]:
    """Read workers that were lost with others of their host: what ended them was hardly one job of theirs.

    All processes of a host within a lease, or some of them at the same moment.
    """
    parameters = {"heartbeat_seconds": heartbeat_seconds, "lease_seconds": lease_seconds}
    return [row[0] for row in fetch_all(connection, _LOST_TOGETHER, parameters)]


def ends(connection: Connection) -> Ends:
    """Tell how many leases have ended, and when the last one did: any further end changes one of both."""
    row = fetch_one(
        connection, "SELECT count(*), max(stopped_at) FROM workers WHERE stopped_at IS NOT NULL", {}
    )
    assert row is not None
    return Ends(*row)
