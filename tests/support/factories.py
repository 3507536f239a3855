"""Makes rows in any state, the way a test wants them."""

from __future__ import annotations

import time
from typing import Any

import orjson

from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import worker_rows as worker_store
from goqueue.jobs import FINAL_STATUSES, ClaimedJob, Job, JobStatus


def claimed_job(**values: Any) -> ClaimedJob:
    """A job as a claim gives it to a worker; nothing has to be in a database."""
    defaults: dict[str, Any] = {
        "id": 1,
        "fence": 1,
        "queue": "default",
        "type": "noop",
        "payload": "{}",
        "attempts": 1,
        "max_retries": 3,
        "quarantined": False,
        "time_limit_seconds": None,
        "options": None,
        "claimed_at": time.time(),
    }
    return ClaimedJob(**defaults | values)


class JobFactory:
    """`make_job(status="running", attempts=2)` inserts a row that the constraints accept and returns it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._worker_id: int | None = None

    @property
    def worker_id(self) -> int:
        """A live worker that holds the running jobs made here."""
        if self._worker_id is None:
            self._worker_id = self.worker()
        return self._worker_id

    def worker(self, *, silent_seconds: float = 0.0, **columns: Any) -> int:
        """Register a worker whose last heartbeat was so long ago."""
        values: dict[str, Any] = {"hostname": "test", "pid": 1, "queues": ["default"], "threads": 8} | columns
        with self.database.autocommit() as connection:
            worker_id = worker_store.register(connection, **values)
            connection.exec_driver_sql(
                "UPDATE workers SET heartbeat_at = now() - make_interval(secs => %(s)s) WHERE id = %(id)s",
                {"s": silent_seconds, "id": worker_id},
            )
        return worker_id

    def __call__(self, status: JobStatus | str = JobStatus.QUEUED, **columns: Any) -> Job:
        """Insert one job; any column may be given."""
        status = JobStatus(status)
        values: dict[str, Any] = {"queue": "default", "type": "noop", "payload": {}} | columns
        values["payload"] = orjson.dumps(values["payload"]).decode()
        values["status"] = status.value
        if status is JobStatus.RUNNING:
            values = {"worker_id": self.worker_id, "attempts": 1, "fence": 1} | values
        sql_values = {name: f"%({name})s" for name in values}
        if status in FINAL_STATUSES:
            sql_values.setdefault("finished_at", "now()")
        if status is JobStatus.RUNNING:
            sql_values.setdefault("started_at", "now()")
            sql_values.setdefault("begun_at", "now()")
        if status is JobStatus.QUEUED and "rank" not in values and "available_at" not in values:
            sql_values["rank"] = "now()"
        with self.database.autocommit() as connection:
            queue_store.ensure(connection, [values["queue"]])
            names, expressions = ", ".join(sql_values), ", ".join(sql_values.values())
            row = connection.exec_driver_sql(
                f"INSERT INTO jobs ({names}) VALUES ({expressions}) RETURNING id", values
            ).fetchone()
            assert row is not None
            return job_store.get(connection, row[0])
