"""Worker processes: registration, leases, goodbyes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.engine.options.known_types import KnownTypes
from goqueue.errors import WorkerConflictError, WorkerNotFoundError
from goqueue.jobs import QUARANTINE_QUEUE

__all__ = [
    "ALIVE",
    "COLUMNS",
    "SERVING",
    "Ends",
    "Renewal",
    "Worker",
    "WorkerCommand",
    "WorkerState",
    "end_gone",
    "end_lost",
    "ends",
    "held",
    "is_quarantine_served",
    "list_all",
    "living",
    "lost_together",
    "register",
    "renew",
    "still_held",
    "stop",
    "tell",
    "threads_by_queue",
]

#: A worker whose lease has not ended and has not run out.
ALIVE = "stopped_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s)"

#: One that takes jobs. Who was told to be quiet, or to stop, is there and starts nothing any more: whatever
#: asks whether somebody listens, or how many threads do, asks for this.
SERVING = f"{ALIVE} AND command IS NULL"


class WorkerCommand(StrEnum):
    """What an operator wants of a worker process. None: what every worker does."""

    #: Fetch no more jobs, finish those that it has, and stay.
    QUIET = "quiet"
    #: The same, and then end. It is not taken back.
    STOP = "stop"


class WorkerState(StrEnum):
    """What a worker process does, by the record."""

    LIVE = "live"
    QUIET = "quiet"
    STOPPING = "stopping"
    GONE = "gone"


class Renewal(NamedTuple):
    """The lease was renewed.

    Attributes:
        command: what an operator wants of the worker.
    """

    command: WorkerCommand | None


class Ends(NamedTuple):
    """The ends of leases that are remembered."""

    leases: int
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of `workers`.

    Attributes:
        alive: its lease has not ended and has not run out.
        memory_bytes: what was its own at its last heartbeat; None where that is unknown.
        command, commanded_at: what an operator wants of it, and since when.
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
    memory_bytes: int | None
    command: str | None
    commanded_at: datetime | None

    @property
    def state(self) -> WorkerState:
        """What it does."""
        if not self.alive:
            return WorkerState.GONE
        if self.command is None:
            return WorkerState.LIVE
        return WorkerState.STOPPING if self.command == WorkerCommand.STOP else WorkerState.QUIET


#: The columns of a `Worker`.
COLUMNS = (
    f"id, hostname, pid, queues, threads, busy, {ALIVE}, started_at, heartbeat_at, stopped_at, memory_bytes, "
    "command, commanded_at"
)


def register(
    connection: Connection,
    *,
    hostname: str,
    pid: int,
    queues: Sequence[str],
    threads: int,
    host_key: str | None = None,
    memory_bytes: int | None = None,
    command: str | None = None,
    known: KnownTypes | None = None,
) -> int:
    """A new worker with a fresh lease; its id. `known` is what it can run; None: it does not tell.

    Who lost a lease and takes another brings along the command that it follows: it was given to the process.
    """
    row = fetch_one(
        connection,
        "INSERT INTO workers (hostname, pid, host_key, queues, threads, memory_bytes, command, commanded_at, "
        "signature, types, schemas) "
        "VALUES (%(hostname)s, %(pid)s, %(host_key)s, %(queues)s, %(threads)s, %(memory_bytes)s, "
        "%(command)s, CASE WHEN %(command)s::text IS NOT NULL THEN now() END, "
        "%(signature)s, %(types)s, %(schemas)s) RETURNING id",
        {
            "hostname": hostname,
            "pid": pid,
            "host_key": host_key,
            "queues": list(queues),
            "threads": threads,
            "memory_bytes": memory_bytes,
            "command": command,
            "signature": known and known.signature,
            "types": known and list(known.types),
            "schemas": known and list(known.schemas),
        },
    )
    assert row is not None
    return int(row[0])


def renew(
    connection: Connection, worker_id: int, *, busy: int, memory_bytes: int | None = None
) -> Renewal | None:
    """Renew the lease. None: it was ended, its jobs are somebody else's, and it can never be renewed again.

    A late renewal is good as long as nobody ended the lease: after an outage of PostgreSQL all are late.
    """
    row = fetch_one(
        connection,
        "UPDATE workers SET heartbeat_at = now(), busy = %(busy)s, memory_bytes = %(memory_bytes)s "
        "WHERE id = %(id)s AND stopped_at IS NULL RETURNING command",
        {"id": worker_id, "busy": busy, "memory_bytes": memory_bytes},
    )
    return None if row is None else Renewal(row[0] and WorkerCommand(row[0]))


def tell(
    connection: Connection, worker_id: int, command: WorkerCommand | None, *, lease_seconds: float
) -> Worker:
    """Note what an operator wants of a worker, None what every worker does; its next heartbeat tells it.

    Telling it again changes nothing.

    Raises:
        WorkerNotFoundError: there is no such worker.
        WorkerConflictError: it is gone, or it was told to stop.
    """
    # One statement: a stop that commits first is seen by whoever waited for the row.
    row = fetch_one(
        connection,
        "UPDATE workers SET command = %(command)s, commanded_at = CASE "
        "WHEN %(command)s::text IS NULL THEN NULL WHEN command = %(command)s THEN commanded_at "
        "ELSE now() END "
        f"WHERE id = %(id)s AND {ALIVE} AND (command IS DISTINCT FROM 'stop' OR %(command)s = 'stop') "
        f"RETURNING {COLUMNS}",
        {"id": worker_id, "command": command, "lease_seconds": lease_seconds},
    )
    if row is None:
        raise _refusal(connection, worker_id, lease_seconds)
    return Worker(*row)


def _refusal(connection: Connection, worker_id: int, lease_seconds: float) -> Exception:
    row = fetch_one(
        connection,
        f"SELECT {COLUMNS} FROM workers WHERE id = %(id)s",
        {"id": worker_id, "lease_seconds": lease_seconds},
    )
    if row is None:
        return WorkerNotFoundError(worker_id)
    if Worker(*row).alive:
        return WorkerConflictError(worker_id, "was told to stop, which is not taken back")
    return WorkerConflictError(worker_id, "is gone")


def living(connection: Connection, host_key: str) -> list[tuple[int, int]]:
    """The (id, pid) of workers of this host whose lease has not ended."""
    rows = fetch_all(
        connection,
        "SELECT id, pid FROM workers WHERE host_key = %(host_key)s AND stopped_at IS NULL",
        {"host_key": host_key},
    )
    return [(row[0], row[1]) for row in rows]


def is_quarantine_served(connection: Connection, *, except_worker_id: int, lease_seconds: float) -> bool:
    """Whether some other live worker takes jobs of the quarantine, and of nothing else."""
    row = fetch_one(
        connection,
        f"SELECT EXISTS (SELECT FROM workers WHERE queues = %(queues)s AND id <> %(id)s AND {SERVING})",
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


def still_held(
    connection: Connection, worker_id: int, keys: Collection[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those of these (id, fence) that this worker holds by the record."""
    if not keys:
        return set()
    # By the primary key, one by one: the planner may know better of the index of running rows, and be wrong.
    rows = fetch_all(
        connection,
        "SELECT job.id, job.fence FROM unnest(%(ids)s::bigint[]) AS wanted (id) CROSS JOIN LATERAL ("
        "SELECT id, fence, status, worker_id FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job "
        "WHERE job.status = 'running' AND job.worker_id = %(worker_id)s",
        {"ids": array(job_id for job_id, _ in keys), "worker_id": worker_id},
    )
    return {(row[0], row[1]) for row in rows} & set(keys)


def stop(connection: Connection, worker_id: int) -> None:
    """Say goodbye: the worker holds nothing any more and never renews again."""
    connection.exec_driver_sql(
        "UPDATE workers SET stopped_at = now(), busy = 0 WHERE id = %(id)s AND stopped_at IS NULL",
        {"id": worker_id},
    )


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


def lost_together(connection: Connection, *, heartbeat_seconds: float, lease_seconds: float) -> list[int]:
    """Workers that were lost with others of their host: what ended them was hardly one job of theirs.

    All processes of a host within a lease, or some of them at the same moment.
    """
    parameters = {"heartbeat_seconds": heartbeat_seconds, "lease_seconds": lease_seconds}
    return [row[0] for row in fetch_all(connection, _LOST_TOGETHER, parameters)]


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
        f"WHERE {SERVING} GROUP BY queue",
        {"lease_seconds": lease_seconds},
    )
    return {row[0]: int(row[1]) for row in rows}


def list_all(connection: Connection, *, lease_seconds: float) -> list[Worker]:
    """Every worker that is remembered, the newest first."""
    rows = fetch_all(
        connection,
        f"SELECT {COLUMNS} FROM workers ORDER BY id DESC",
        {"lease_seconds": lease_seconds},
    )
    return [Worker(*row) for row in rows]
