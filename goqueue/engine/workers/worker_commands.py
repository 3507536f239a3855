"""Telling worker processes what to do: fetch no more, fetch again, end after their jobs."""

from __future__ import annotations

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.arguments import expect_id
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_rows import Worker, WorkerCommand
from goqueue.errors import WorkerNotFoundError

__all__ = ["tell_worker"]

log = structlog.get_logger(__name__)


def tell_worker(
    database: Database, settings: Settings, worker_id: int, command: WorkerCommand | None
) -> Worker:
    """Tell a worker process; it learns that with its next heartbeat, and until then it may start jobs.

    Raises:
        WorkerNotFoundError: there is no such worker.
        WorkerConflictError: it is gone, or was told to stop before.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_id("worker_id", worker_id, WorkerNotFoundError)
    with database.transaction() as connection:
        worker = worker_store.tell(connection, worker_id, command, lease_seconds=settings.lease_seconds)
        audit.record(connection, f"worker.{command or 'resume'}", f"worker {worker_id}")
    log.info("worker_told", worker_id=worker_id, command=command or "resume")
    return worker
