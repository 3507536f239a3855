"""Worker processes: registration, leases, goodbyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.store.rows import fetch_all, fetch_one


class Ends(NamedTuple):
    """The ends of leases that are remembered."""

    leases: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of `workers`.

    Attributes:
        alive: its lease has not ended and has not run out.
    """

    id: int
    hostname: str
    pid: int
    queues: list[str]
    threads: int
    busy: int
    alive: bool
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None


def register(
    connection: Connection,
    *,
    hostname: str,
    pid: int,
    queues: Sequence[str],
    threads: int,
    host_key: str | None = None,
) -> int:
    """A new worker with a fresh lease; its id."""
    row = fetch_one(
        connection,
        "INSERT INTO workers (hostname, pid, host_key, queues, threads) "
        "VALUES (%(hostname)s, %(pid)s, %(host_key)s, %(queues)s, %(threads)s) RETURNING id",
        {"hostname": hostname, "pid": pid, "host_key": host_key, "queues": list(queues), "threads": threads},
    )
    assert row is not None
    return int(row[0])


def renew(connection: Connection, worker_id: int, *, busy: int) -> bool:
    """Renew the lease. False: it was ended, its jobs are somebody else's, and it can never be renewed again.

    A late renewal is good as long as nobody ended the lease: after an outage of PostgreSQL all are late.
    """
    row = fetch_one(
        connection,
        "UPDATE workers SET heartbeat_at = now(), busy = %(busy)s WHERE id = %(id)s AND stopped_at IS NULL "
        "RETURNING id",
        {"id": worker_id, "busy": busy},
    )
    return row is not None


def living(connection: Connection, host_key: str) -> list[tuple[int, int]]:
    """The (id, pid) of workers of this host whose lease has not ended."""
    rows = fetch_all(
        connection,
        "SELECT id, pid FROM workers WHERE host_key = %(host_key)s AND stopped_at IS NULL",
        {"host_key": host_key},
    )
    return [(row[0], row[1]) for row in rows]


def is_quarantine_served(connection: Connection, *, except_worker_id: int, lease_seconds: float) -> bool:
    """Whether some other live worker serves nothing but the quarantine."""
    row = fetch_one(
        connection,
        "SELECT EXISTS (SELECT FROM workers WHERE queues = %(queues)s AND id <> %(id)s "
        "AND stopped_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))",
        {"queues": [QUARANTINE_QUEUE], "id": except_worker_id, "lease_seconds": lease_seconds},
    )
    return bool(row and row[0])


def held(connection: Connection, worker_id: int) -> set[tuple[int, int]]:
    """The (id, fence) of every job that this worker holds by the record."""
    rows = fetch_all(
        connection,
        "SELECT id, fence FROM jobs WHERE status = 'running' AND worker_id = %(worker_id)s",
        {"worker_id": worker_id},
    )
    return {(row[0], row[1]) for row in rows}


def stop(connection: Connection, worker_id: int) -> None:
    """Say goodbye: the worker holds nothing any more and never renews again."""
    connection.exec_driver_sql(
        "UPDATE workers SET stopped_at = now(), busy = 0 WHERE id = %(id)s AND stopped_at IS NULL",
        {"id": worker_id},
    )


def end_lost(connection: Connection, *, lease_seconds: float) -> list[int]:
    """End the leases of silent workers; their ids."""
    rows = fetch_all(
        connection,
        "UPDATE workers SET stopped_at = now() WHERE stopped_at IS NULL "
        "AND heartbeat_at <= now() - make_interval(secs => %(lease_seconds)s) RETURNING id",
        {"lease_seconds": lease_seconds},
    )
    return [row[0] for row in rows]


def ends(connection: Connection) -> Ends:
    """How many leases have ended, and when the last one did: any further end changes one of both."""
    row = fetch_one(
        connection, "SELECT count(*), max(stopped_at) FROM workers WHERE stopped_at IS NOT NULL", {}
    )
    assert row is not None
    return Ends(*row)


def threads_by_queue(connection: Connection, *, lease_seconds: float) -> dict[str, int]:
    """How many live worker threads listen to each queue."""
    rows = fetch_all(
        connection,
        "SELECT queue, sum(threads) FROM workers CROSS JOIN unnest(queues) AS queue "
        "WHERE stopped_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s) "
        "GROUP BY queue",
        {"lease_seconds": lease_seconds},
    )
    return {row[0]: int(row[1]) for row in rows}


def list_all(connection: Connection, *, lease_seconds: float) -> list[Worker]:
    """Every worker that is remembered, the newest first."""
    rows = fetch_all(
        connection,
        "SELECT id, hostname, pid, queues, threads, busy, stopped_at IS NULL "
        "AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s), "
        "started_at, heartbeat_at, stopped_at FROM workers ORDER BY id DESC",
        {"lease_seconds": lease_seconds},
    )
    return [Worker(*row) for row in rows]
