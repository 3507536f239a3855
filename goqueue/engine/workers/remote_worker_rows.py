"""Rows of workers that lease their jobs over HTTP: they register and renew by the name that they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import KEYS, array, fetch_all, fetch_one, key_arrays
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.workers.worker_rows import WorkerCommand, known_parameters

__all__ = [
    "RemoteIdentity",
    "RemoteStanding",
    "hear",
    "holds_any",
    "holds_suspect",
    "register_remote",
    "renew_remote",
]

# One row for each name of a client, while it lives: whoever comes second renews what the first one made. A
# worker that was lost and comes back is told what it was told before.
_REGISTER = """
    INSERT INTO workers AS worker (
        hostname, pid, queues, threads, signature, types, schemas, labels, async_types, async_slots,
        claims_ranges, places_jobs, locks_by_id, client, remote_name, language, address, command,
        commanded_at)
    SELECT %(name)s, 0, %(queues)s::text[], %(threads)s, %(signature)s, %(types)s, %(schemas)s, %(labels)s,
           %(async_types)s, %(async_slots)s, true, true, true, %(client)s, %(name)s, %(language)s,
           %(address)s, before.command, before.commanded_at
    FROM (VALUES (1)) AS one LEFT JOIN LATERAL (
        SELECT command, commanded_at FROM workers
        WHERE client = %(client)s AND remote_name = %(name)s AND lost ORDER BY id DESC LIMIT 1
    ) AS before ON true
    ON CONFLICT (client, remote_name) WHERE remote_name IS NOT NULL AND stopped_at IS NULL DO UPDATE
    SET heartbeat_at = now(), threads = EXCLUDED.threads, signature = EXCLUDED.signature,
        types = EXCLUDED.types, schemas = EXCLUDED.schemas, labels = EXCLUDED.labels,
        language = EXCLUDED.language, address = EXCLUDED.address,
        queues = CASE WHEN EXCLUDED.queues <@ worker.queues THEN worker.queues ELSE ARRAY (
            SELECT DISTINCT queue FROM unnest(worker.queues || EXCLUDED.queues) AS queue ORDER BY queue) END
    RETURNING id, command, date_part('epoch', now())
"""

# A job that runs alone is the only one that its worker holds: two entries tell.
_RENEW = """
    UPDATE workers SET heartbeat_at = now(), busy = least(32767, (
        SELECT count(*) FROM running_jobs WHERE holder = workers.id))
    WHERE id = ANY (%(ids)s::bigint[]) AND stopped_at IS NULL
    RETURNING id, command, (
        SELECT count(*) = 1 AND coalesce(bool_and(job.alone), false)
        FROM (SELECT job_id FROM running_jobs WHERE holder = workers.id LIMIT 2) AS held
        CROSS JOIN LATERAL (
            SELECT quarantined AND suspicion = 2 AS alone FROM jobs WHERE jobs.id = held.job_id LIMIT 1
        ) AS job)
"""

# `updated_at` of a job that such a worker holds says when it was heard of last: the rescuer goes by it. No
# index names either column. A row that somebody else has locked is passed over, and heard of next time.
_HEAR = f"""
    WITH heard AS MATERIALIZED (
        SELECT job.id FROM {KEYS} AS said (id, fence)
        CROSS JOIN LATERAL (
            SELECT jobs.id FROM jobs
            WHERE jobs.id = said.id AND jobs.fence = said.fence AND jobs.status || '' = 'running'
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    )
    UPDATE jobs SET updated_at = now(), begun_at = coalesce(begun_at, started_at) WHERE {rows_of("heard")}
    RETURNING id, fence
"""


@dataclass(frozen=True, slots=True)
class RemoteIdentity:
    """The name of a worker that leases its jobs over HTTP.

    Attributes:
        client: whose key it has; workers of one client that have one name are one worker.
        name: what it calls itself.
        language: what it is written in, by its own account.
        address: from where it calls.
    """

    client: str
    name: str
    language: str | None = None
    address: str | None = None


class RemoteStanding(NamedTuple):
    """The standing of such a worker by the record.

    Attributes:
        command: what an operator wants of it.
        runs_alone: it holds a job that has to run alone.
    """

    worker_id: int
    command: WorkerCommand | None
    runs_alone: bool = False


def register_remote(
    connection: Connection, identity: RemoteIdentity, queues: Sequence[str], known: KnownTypes
) -> tuple[RemoteStanding, float]:
    """Insert or renew the row of a worker, which takes jobs of these queues as well from now on.

    Returns its standing, and PostgreSQL's clock in seconds since 1970.
    """
    parameters = {
        "client": identity.client,
        "name": identity.name,
        "language": identity.language,
        "address": identity.address,
        "queues": list(queues),
        "threads": known.slots,
        **known_parameters(known),
    }
    row = fetch_one(connection, _REGISTER, parameters)
    assert row is not None
    return RemoteStanding(row[0], row[1] and WorkerCommand(row[1])), row[2]


def renew_remote(connection: Connection, worker_ids: Collection[int]) -> dict[int, RemoteStanding]:
    """Renew the leases of workers; those whose lease has ended are left out, and never renewed again."""
    rows = fetch_all(connection, _RENEW, {"ids": array(sorted(worker_ids))})
    return {row[0]: RemoteStanding(row[0], row[1] and WorkerCommand(row[1]), row[2]) for row in rows}


def hear(connection: Connection, keys: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Note that the holders of these (id, fence) have said that they run them; those that were noted."""
    return set(fetch_all(connection, _HEAR, key_arrays(keys)))


def holds_any(connection: Connection, worker_id: int) -> bool:
    """Tell whether a worker holds a job."""
    row = fetch_one(
        connection, "SELECT EXISTS (SELECT FROM running_jobs WHERE holder = %(id)s)", {"id": worker_id}
    )
    return bool(row and row[0])


def holds_suspect(connection: Connection, worker_id: int) -> bool:
    """Tell whether a worker holds a suspect: a job whose worker died, and of which it takes one at a time."""
    row = fetch_one(
        connection,
        "SELECT EXISTS (SELECT FROM running_jobs CROSS JOIN LATERAL ("
        "SELECT quarantined FROM jobs WHERE jobs.id = running_jobs.job_id LIMIT 1) AS job "
        "WHERE holder = %(id)s AND quarantined)",
        {"id": worker_id},
    )
    return bool(row and row[0])
