"""Heartbeats of remote workers: their own lease, that of each job they name, and what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from goqueue.db.database import Database
from goqueue.engine.transitions.cancel import acknowledge
from goqueue.engine.transitions.record import still_running
from goqueue.engine.workers.remote_worker_rows import hear, renew_remote
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.remote.attempt_reports import lost
from goqueue.remote.lease_tokens import HeldJob

__all__ = ["LeaseRenewals", "Renewed"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to a heartbeat.

    Attributes:
        command: what an operator wants of the worker.
        cancelled: the (id, fence) of jobs among those it named that somebody wants stopped.
        lost: those that it does not hold any more.
    """

    command: WorkerCommand | None
    cancelled: frozenset[tuple[int, int]]
    lost: frozenset[tuple[int, int]]


class LeaseRenewals:
    """Renews the leases of remote workers and of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def renew(self, named: Sequence[HeldJob]) -> Renewed:
        """Renew the leases of jobs, of which the first is the one that the heartbeat is for.

        Raises:
            LeaseLostError: the first one is not held any more.
            JobNotFoundError: it was deleted.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self._database.autocommit() as connection:
            standings = renew_remote(connection, {held.worker_id for held in named})
            keys = {held.key for held in named if held.worker_id in standings}
            heard = hear(connection, keys)
            if heard != keys:
                # A row that somebody has locked was passed over.
                heard |= still_running(connection, keys - heard)
            if named[0].key not in heard:
                raise lost(connection, named[0])
            requested = {key for worker_id in standings for key in acknowledge(connection, worker_id)}
        for job_id, fence in requested & heard:
            log.info("cancel_acknowledged", job_id=job_id, fence=fence)
        return Renewed(
            standings[named[0].worker_id].command,
            frozenset(requested & heard),
            frozenset({held.key for held in named} - heard),
        )
