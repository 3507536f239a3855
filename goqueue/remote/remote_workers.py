"""The workers that lease jobs over HTTP, as rows of `workers`: registered, renewed, and told what to do."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes, schema_hash
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.remote_worker_rows import (
    RemoteIdentity,
    RemoteStanding,
    register_remote,
    renew_remote,
)
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.jobs import QUARANTINE_QUEUE, ShutdownReason
from goqueue.remote.database_clock import DatabaseClock

__all__ = ["RemoteWorkers", "known_types_of"]

log = structlog.get_logger(__name__)

#: What PostgreSQL said of a worker is believed for so long, and its lease is not renewed more often.
BELIEVED_SECONDS = 1.0

#: So many workers are remembered, those that called last.
REMEMBERED_MAX = 10_000

_Key = tuple[str, str]


@dataclass(slots=True)
class _Remembered:
    """What PostgreSQL said of a worker, with what it had said of itself."""

    standing: RemoteStanding
    signature: str
    queues: frozenset[str]
    until: float


class RemoteWorkers:
    """Knows the remote workers that call this process. Thread-safe.

    Nothing that is remembered here decides anything: a claim asks for the lease of its worker in the same
    statement.
    """

    def __init__(self, settings: Settings, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock
        self._believed_seconds = min(BELIEVED_SECONDS, settings.heartbeat_seconds / 2)
        self._lock = threading.Lock()
        self._remembered = OrderedDict[_Key, _Remembered]()

    def standing(
        self, identity: RemoteIdentity, queue: str, known: KnownTypes, *, anew: bool = False
    ) -> RemoteStanding:
        """Tell the standing of a worker that asks for jobs of a queue; its lease is renewed by that.

        One whose lease has ended has a new row then, and so a new id. `anew`: whatever is remembered.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        key, now = (identity.client, identity.name), time.monotonic()
        with self._lock:
            found = self._remembered.get(key)
        if not anew and found is not None and found.signature == known.signature and queue in found.queues:
            if now < found.until:
                return found.standing
            if (renewed := self._renewed(found, now)) is not None:
                return renewed
        return self._register(identity, queue, known, found)

    def _renewed(self, found: _Remembered, now: float) -> RemoteStanding | None:
        """Renew a lease by the id of its row; None: it has ended."""
        worker_id = found.standing.worker_id
        with self._database.autocommit() as connection:
            standing = renew_remote(connection, [worker_id]).get(worker_id)
        if standing is not None:
            found.standing, found.until = standing, now + self._believed_seconds
        return standing

    def _register(
        self, identity: RemoteIdentity, queue: str, known: KnownTypes, found: _Remembered | None
    ) -> RemoteStanding:
        now = time.monotonic()
        with self._database.autocommit() as connection:
            standing, clock = register_remote(connection, identity, [queue, QUARANTINE_QUEUE], known)
        self._clock.hear(clock)
        if found is None or found.standing.worker_id != standing.worker_id:
            log.info(
                "remote_worker_registered",
                worker_id=standing.worker_id,
                client=identity.client,
                worker=identity.name,
                queue=queue,
            )
        queues = {queue} if found is None or found.signature != known.signature else {*found.queues, queue}
        remembered = _Remembered(standing, known.signature, frozenset(queues), now + self._believed_seconds)
        with self._lock:
            self._remembered[identity.client, identity.name] = remembered
            self._remembered.move_to_end((identity.client, identity.name))
            while len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return standing

    def renew(self, worker_ids: Collection[int]) -> Mapping[int, RemoteStanding]:
        """Renew the leases of workers that are heard of, or wait; those whose lease has ended are left out.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self._database.autocommit() as connection:
            return renew_remote(connection, worker_ids)

    def note_alone(self, identity: RemoteIdentity) -> None:
        """Note that a worker was given a job that runs alone: it gets no other until that has ended."""
        with self._lock:
            found = self._remembered.get((identity.client, identity.name))
        if found is not None:
            found.standing = found.standing._replace(runs_alone=True)

    def end(self, identity: RemoteIdentity, standing: RemoteStanding) -> None:
        """End the lease of a worker that says goodbye: what it still holds is taken back at once.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        told = standing.command is WorkerCommand.STOP
        reason = ShutdownReason.REQUESTED if told else ShutdownReason.SIGNAL
        with self._database.autocommit() as connection:
            worker_store.stop(connection, standing.worker_id, reason=reason)
        with self._lock:
            self._remembered.pop((identity.client, identity.name), None)
        log.info("remote_worker_ended", worker_id=standing.worker_id, worker=identity.name)


@lru_cache(maxsize=1_024)
def known_types_of(types: tuple[str, ...], labels: tuple[str, ...], slots: int) -> KnownTypes:
    """Return what a remote worker can run: it says which types, and has no schema that anybody else has."""
    return KnownTypes(
        {name: schema_hash(name, "remote worker") for name in types}, labels=labels, slots=slots
    )
