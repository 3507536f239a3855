"""Makes rows in any state, the way a test wants them, and claims them by hand."""

from __future__ import annotations

import time
from typing import Any

import orjson

from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.jobs import FINAL_STATUSES, ClaimedJob, Job, JobStatus
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.claiming.claims import ClaimedJobs

#: Of a claim by hand: longer than any test.
LEASE_SECONDS = 900


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


def set_status(database: Database, job_id: int, status: JobStatus | str) -> bool:
    """Put an unfinished job into a state, as if its life had led there; tell whether it was unfinished."""
    status = JobStatus(status)
    with database.autocommit() as connection:
        changed = connection.exec_driver_sql(
            "UPDATE jobs SET status = %(status)s, rank = NULL, worker_id = NULL, "
            "finished_at = CASE WHEN %(final)s THEN now() END WHERE id = %(id)s AND finished_at IS NULL",
            {"status": status.value, "final": status in FINAL_STATUSES, "id": job_id},
        )
        return changed.rowcount == 1


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

    @worker_id.setter
    def worker_id(self, worker_id: int) -> None:
        self._worker_id = worker_id

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
        if values.get("requires") is not None:
            # As new jobs are written: see `goqueue.db.fragments.MAX_RETRIES`.
            values["max_retries"] = -1 - values.get("max_retries", 3)
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

    def attempt(self, job: Job, outcome: str = "failed", **columns: Any) -> None:
        """Insert an attempt of the job that has ended; any column may be given."""
        values = {
            "job_id": job.id,
            "fence": 1,
            "attempt": 1,
            "outcome": outcome,
            "run_seconds": 0.5,
        } | columns
        names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO attempts (started_at, {names}) VALUES (now(), {places})", values
            )

    def claim(self, *jobs: Job | int, fence: int = 0) -> list[ClaimedJob]:
        """Claim jobs as a worker does whose messages name this fence; return those that it gets."""
        messages = [(job if isinstance(job, int) else job.id, fence) for job in jobs]
        with self.database.autocommit() as connection:
            return claim_store.claim(
                connection, messages, worker_id=self.worker_id, lease_seconds=LEASE_SECONDS
            )

    def messages(self, *jobs: Job, claimed_jobs: ClaimedJobs | None = None) -> list[JobMessage]:
        """Claim jobs and return their messages by id; `claimed_jobs`, where given, holds them from now on."""
        claimed = sorted(self.claim(*jobs), key=lambda job: job.id)
        messages = [JobMessage(JobAttempt(job, job.queue), throws=()) for job in claimed]
        if claimed_jobs is not None:
            claimed_jobs.add([message.current for message in messages])
        return messages
