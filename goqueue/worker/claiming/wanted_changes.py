"""Changes that people want of jobs claimed here and not begun: pauses of their queues, and cancels."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from goqueue.db.database import Database
from goqueue.engine.transitions.begin import Changes, changes
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.claiming.claims import ClaimedJobs

#: What people want of jobs that wait for longer is read so often. A job that was claimed longer ago than
#: `FRESH_SECONDS` does not begin when it was read longer ago than that.
LOOK_SECONDS = 0.04
FRESH_SECONDS = 0.07


class _View(NamedTuple):
    """What people wanted at a moment, by the monotonic clock."""

    at: float
    changes: Changes


class WantedChanges:
    """Reads the changes for all jobs that wait; one thread at a time asks for all of them. Thread-safe."""

    def __init__(self, database: Database, claimed_jobs: ClaimedJobs) -> None:
        self._database = database
        self._claimed_jobs = claimed_jobs
        self._view = _View(0.0, Changes())
        self._looking = threading.Lock()

    def against(self, current: JobAttempt, now: float) -> str | None:
        """Tell what people want against the begin of a job; read again where it was read too long ago.

        Raises:
            GoQueueError: PostgreSQL does not say.
        """
        view = self._view
        if now >= current.times.fresh_until and now - view.at > FRESH_SECONDS:
            view = self._look_again()
        return _wish_against(current, view)

    def look_when_old(self, now: float) -> bool:
        """Read them where that is due, so that no thread has to; whether a queue is paused now.

        Raises:
            GoQueueError: PostgreSQL does not say.
        """
        if now - self._view.at < LOOK_SECONDS:
            return False
        with self._looking:
            self._look()
        return bool(self._view.changes.closed)

    def _look_again(self) -> _View:
        """What people want now; one thread asks for all that wait for the answer.

        Raises:
            GoQueueError: PostgreSQL does not say.
        """
        asked_at = time.monotonic()
        with self._looking:
            if self._view.at < asked_at:
                self._look()
            return self._view

    def _look(self) -> None:
        queues = {current.claimed.queue for current in self._claimed_jobs.unbegun()}
        at = time.monotonic()
        with self._database.autocommit() as connection:
            self._view = _View(at, changes(connection, self._claimed_jobs.worker_id, queues))


def _wish_against(current: JobAttempt, view: _View) -> str | None:
    """What people want against the begin of a job; what they wanted before its claim, the claim knew."""
    if view.at > current.times.asked_at:
        if current.id in view.changes.cancelled:
            return "cancelled"
        if current.claimed.queue in view.changes.closed:
            return "paused"
    return None
