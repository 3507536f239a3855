"""Telling worker processes what to do: fetch no more, fetch again, end after their jobs."""

from __future__ import annotations

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import worker_rows as worker_store
from goqueue.engine.options.arguments import expect_whole_number
from goqueue.engine.submit import current_broker
from goqueue.engine.worker_rows import Worker, WorkerCommand
from goqueue.errors import WorkerNotFoundError
from goqueue.jobs import MAX_JOB_ID

__all__ = ["quiet_worker", "resume_worker", "stop_worker", "tell_worker"]

log = structlog.get_logger(__name__)


def tell_worker(
    database: Database, settings: Settings, worker_id: int, command: WorkerCommand | None
) -> Worker:
    """Tell a worker process of the database of these settings; see `quiet_worker` and its like.

    Raises:
        WorkerNotFoundError: there is no such worker.
        WorkerConflictError: it is gone, or was told to stop before.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_whole_number("worker_id", worker_id)
    if not 0 < worker_id <= MAX_JOB_ID:
        raise WorkerNotFoundError(worker_id)
    with database.autocommit() as connection:
        worker = worker_store.tell(connection, worker_id, command, lease_seconds=settings.lease_seconds)
    log.info("worker_told", worker_id=worker_id, command=command or "resume")
    return worker


def quiet_worker(worker_id: int) -> Worker:
    """Let a worker process fetch no more jobs: it finishes those that it has, and stays until it is resumed.

    It learns that with its next heartbeat. Until then it may start jobs.

    Raises:
        WorkerNotFoundError: there is no such worker.
        WorkerConflictError: it is gone, or was told to stop before.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    return _tell(worker_id, WorkerCommand.QUIET)


def resume_worker(worker_id: int) -> Worker:
    """Let a quiet worker process fetch jobs again. Raises as `quiet_worker`."""
    return _tell(worker_id, None)


def stop_worker(worker_id: int) -> Worker:
    """Let a worker process end as after SIGTERM: what it runs may finish within the grace period.

    `goqueue worker` starts no other in its place. Raises as `quiet_worker`.
    """
    return _tell(worker_id, WorkerCommand.STOP)


def _tell(worker_id: int, command: WorkerCommand | None) -> Worker:
    broker = current_broker()
    return tell_worker(broker.database, broker.settings, worker_id, command)
