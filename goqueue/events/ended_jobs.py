"""Waiting for the end of jobs: one question of PostgreSQL for all that are waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from goqueue.db.database import Database
from goqueue.engine import job_rows
from goqueue.engine.options.arguments import expect_id
from goqueue.errors import JobNotFoundError
from goqueue.events import event_rows
from goqueue.events.looking import Looking
from goqueue.jobs import FINAL_STATUSES, Job

__all__ = ["EndedJobs"]

PAUSE_SECONDS = 0.02


class EndedJobs(Looking):
    """Wakes those who wait for the end of a job. Thread-safe.

    Nobody has to have subscribed to anything, and nothing is written for it.

    Args:
        database: where the jobs are; not a read replica.
    """

    def __init__(self, database: Database) -> None:
        super().__init__("ended-jobs", PAUSE_SECONDS)
        self._database = database
        self._wakes: dict[object, tuple[int, Callable[[], None]]] = {}

    def watch(self, job_id: int, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` once when the job has ended or is gone, or if it has before; return what ends that."""
        key = object()
        with self._lock:
            self._wakes[key] = (job_id, wake)
            self._begin()

        def stop() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return stop

    def wait(self, job_id: int, timeout_seconds: float | None) -> Job:
        """Return a job when it has ended, or as it is when the time is over; see `GoQueue.wait`."""
        expect_id("job_id", job_id, JobNotFoundError)
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            with self._database.autocommit() as connection:
                job = job_rows.get(connection, job_id)
            left = None if until is None else until - time.monotonic()
            if job.status in FINAL_STATUSES or (left is not None and left <= 0):
                return job
            has_ended = threading.Event()
            stop = self.watch(job_id, has_ended.set)
            try:
                has_ended.wait(left)
            finally:
                stop()

    def _look(self) -> None:
        with self._lock:
            waiting = dict(self._wakes)
        with self._database.autocommit() as connection:
            ended = event_rows.ended_among(connection, {job_id for job_id, _ in waiting.values()})
        for key, (job_id, wake) in waiting.items():
            if job_id in ended:
                with self._lock:
                    self._wakes.pop(key, None)
                wake()

    def _is_awaited(self) -> bool:
        return bool(self._wakes)
