"""Worker processes: registration, heartbeats, commands, goodbyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import fits
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.options.known_types import KnownTypes
from goqueue.errors import WorkerConflictError, WorkerNotFoundError
from goqueue.jobs import QUARANTINE_QUEUE, ShutdownReason

__all__ = [
    "ALIVE",
    "COLUMNS",
    "SERVING",
    "Renewal",
    "Worker",
    "WorkerCommand",
    "WorkerState",
    "is_quarantine_served",
    "known_parameters",
    "list_all",
    "living",
    "queues_without_ranges",
    "register",
    "renew",
    "stop",
    "tell",
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
    """The state of a worker process, by the record."""

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


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of `workers`.

    Attributes:
        alive: its lease has not ended and has not run out.
        memory_bytes: what was its own at its last heartbeat; None where that is unknown.
        command, commanded_at: what an operator wants of it, and since when.
        shutdown_reason: why it ended, or drains; a `ShutdownReason`, as its release knows it.
        labels: what it is, as `name=value`: jobs may require it.
        async_slots, async_busy: how many async jobs it runs at once beside its threads, and how many it has.
        async_types: which of the types that it knows are async.
        client, language, address: of a worker that leases its jobs over HTTP: whose key it has, what it is
            written in, and from where it last called. None: a worker process of GoQueue.
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
    shutdown_reason: str | None
    labels: list[str]
    async_slots: int
    async_busy: int
    async_types: list[str]
    client: str | None = None
    language: str | None = None
    address: str | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it leases its jobs over HTTP; its host is the name that it calls itself."""
        return self.client is not None

    @property
    def title(self) -> str:
        """The words by which people know it."""
        if self.is_remote:
            return f"remote worker {self.hostname}"
        return f"process {self.pid} on {self.hostname}"

    @property
    def state(self) -> WorkerState:
        """The state of the worker."""
        if not self.alive:
            return WorkerState.GONE
        if self.command is None:
            return WorkerState.LIVE if self.shutdown_reason is None else WorkerState.STOPPING
        return WorkerState.STOPPING if self.command == WorkerCommand.STOP else WorkerState.QUIET


#: The columns of a `Worker`.
COLUMNS = (
    f"id, hostname, pid, queues, threads, busy, {ALIVE}, started_at, heartbeat_at, stopped_at, memory_bytes, "
    "command, commanded_at, shutdown_reason, coalesce(labels, ARRAY[]::text[]), async_slots, async_busy, "
    "coalesce(async_types, ARRAY[]::text[]), client, language, address"
)


_REGISTER = """
    INSERT INTO workers (hostname, pid, host_key, queues, threads, memory_bytes, command, commanded_at,
                         signature, types, schemas, labels, async_types, async_slots, queue_slots,
                         claims_ranges, places_jobs, locks_by_id)
    VALUES (%(hostname)s, %(pid)s, %(host_key)s, %(queues)s, %(threads)s, %(memory_bytes)s, %(command)s,
            CASE WHEN %(command)s::text IS NOT NULL THEN now() END, %(signature)s, %(types)s, %(schemas)s,
            %(labels)s, %(async_types)s, %(async_slots)s, %(queue_slots)s, true, true, true)
    RETURNING id
"""


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
    queue_slots: Sequence[int] | None = None,
) -> int:
    """Insert a new worker with a fresh lease; its id. `known` is what it can run; None: it does not tell.

    `queue_slots` are the jobs of each queue that it runs at once; None: as many as it has threads. Who lost a
    lease and takes another brings along the command that it follows: it was given to the process.
    """
    parameters = {
        "hostname": hostname,
        "pid": pid,
        "host_key": host_key,
        "queues": list(queues),
        "threads": threads,
        "memory_bytes": memory_bytes,
        "command": command,
        "queue_slots": None if queue_slots is None else list(queue_slots),
        **known_parameters(known),
    }
    row = fetch_one(connection, _REGISTER, parameters)
    assert row is not None
    return int(row[0])


def known_parameters(known: KnownTypes | None) -> dict[str, Any]:
    """Make the parameters that say what a worker can run; None: it does not tell."""
    if known is None:
        untold = dict.fromkeys(("signature", "types", "schemas", "labels", "async_types"))
        return {**untold, "async_slots": 0}
    return {
        "signature": known.signature,
        "types": list(known.types),
        "schemas": list(known.schemas),
        "labels": list(known.labels),
        "async_types": list(known.async_types),
        "async_slots": known.async_slots,
    }


def renew(
    connection: Connection,
    worker_id: int,
    *,
    busy: int,
    async_busy: int = 0,
    memory_bytes: int | None = None,
    shutdown_reason: ShutdownReason | None = None,
) -> Renewal | None:
    """Renew the lease of a worker. None: it ended, others have its jobs, and it can never be renewed again.

    A late renewal is good as long as nobody ended the lease: after an outage of PostgreSQL all are late.
    `shutdown_reason` is why it drains, once it does.
    """
    row = fetch_one(
        connection,
        "UPDATE workers SET heartbeat_at = now(), busy = %(busy)s, async_busy = %(async_busy)s, "
        "memory_bytes = %(memory_bytes)s, shutdown_reason = %(reason)s "
        "WHERE id = %(id)s AND stopped_at IS NULL RETURNING command",
        {
            "id": worker_id,
            "busy": busy,
            "async_busy": async_busy,
            "memory_bytes": memory_bytes,
            "reason": shutdown_reason,
        },
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
    """Read the (id, pid) of workers of this host whose lease has not ended."""
    rows = fetch_all(
        connection,
        "SELECT id, pid FROM workers WHERE host_key = %(host_key)s AND stopped_at IS NULL",
        {"host_key": host_key},
    )
    return [(row[0], row[1]) for row in rows]


def is_quarantine_served(
    connection: Connection, *, except_worker_id: int, lease_seconds: float, labels: Sequence[str] = ()
) -> bool:
    """Say whether another live worker, which has these labels, takes jobs of the quarantine alone."""
    row = fetch_one(
        connection,
        "SELECT EXISTS (SELECT FROM workers WHERE queues = %(queues)s AND id <> %(id)s "
        f"AND {fits('(%(labels)s::text[])', 'coalesce(labels, ARRAY[]::text[])')} AND {SERVING})",
        {
            "queues": [QUARANTINE_QUEUE],
            "id": except_worker_id,
            "lease_seconds": lease_seconds,
            "labels": list(labels),
        },
    )
    return bool(row and row[0])


def stop(connection: Connection, worker_id: int, *, reason: ShutdownReason | None = None) -> None:
    """Say goodbye: the worker holds nothing any more and never renews again."""
    connection.exec_driver_sql(
        "UPDATE workers SET stopped_at = now(), busy = 0, async_busy = 0, shutdown_reason = %(reason)s "
        "WHERE id = %(id)s AND stopped_at IS NULL",
        {"id": worker_id, "reason": reason},
    )


def queues_without_ranges(connection: Connection, *, lease_seconds: float) -> set[str]:
    """Tell at which queues a live worker listens that does not claim ranges: one of an older release."""
    rows = fetch_all(
        connection,
        "SELECT DISTINCT queue FROM workers CROSS JOIN unnest(queues) AS queue "
        f"WHERE {ALIVE} AND NOT claims_ranges",
        {"lease_seconds": lease_seconds},
    )
    return {row[0] for row in rows}


def list_all(connection: Connection, *, lease_seconds: float) -> list[Worker]:
    """Read every worker that is remembered, the newest first."""
    rows = fetch_all(
        connection,
        f"SELECT {COLUMNS} FROM workers ORDER BY id DESC",
        {"lease_seconds": lease_seconds},
    )
    return [Worker(*row) for row in rows]
