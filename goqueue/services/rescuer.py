"""The rescuer: ends the leases of silent workers, takes their jobs back, and cancels what none would stop."""

from __future__ import annotations

import time

import structlog

from goqueue import metrics
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import FINAL_STATUSES, JobStatus
from goqueue.services.service import Counts, Pause, passing_over_locked
from goqueue.store import attempts as attempt_store
from goqueue.store import cancellation
from goqueue.store import dependencies as dependency_store
from goqueue.store import workers as worker_store

log = structlog.get_logger(__name__)

#: All that runs is looked at so often, whatever has ended. Under a held vacuum horizon a look walks over the
#: index entries of everything that has run since.
LOOK_SECONDS = 10.0

#: After the end of a lease, and after a job that was taken back, every round looks, for so long: a row that
#: somebody had locked was passed over, and a look takes no more than so many.
LOOKS_AFTER_END_SECONDS = 5.0


class Rescuer:
    """Takes back the jobs of lost workers.

    It looks for them when a lease has ended, and now and then.

    While PostgreSQL was away nobody could renew a lease, so after an outage (and at its start, when it cannot
    know) it waits for two heartbeats before it judges anyone by silence.
    """

    name = "rescuer"

    def __init__(self, settings: Settings, database: Database, pause: Pause) -> None:
        self._settings = settings
        self._database = database
        self._pause = pause
        self._judges_from = time.monotonic() + 2 * settings.heartbeat_seconds
        self._ends: worker_store.Ends | None = None
        self._looks_until = 0.0
        self._looks_at = 0.0

    def run_once(self) -> Counts:
        """End expired leases, and take back the jobs of every worker whose lease has ended."""
        try:
            expired = self._end_leases() if time.monotonic() >= self._judges_from else []
            rescued = self._look()
        except DatabaseUnavailableError:
            self._judges_from = time.monotonic() + 2 * self._settings.heartbeat_seconds
            raise
        failed = sum(status is JobStatus.FAILED for _, status in rescued)
        return {
            "expired": len(expired),
            "rescued": len(rescued) - failed,
            "failed": failed,
            "cancelled": self._force_cancels(),
        }

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (the skeleton's signature)
        """Wait for the next round."""
        self._pause(self._settings.rescue_interval_seconds)

    def _end_leases(self) -> list[int]:
        with self._database.autocommit() as connection:
            expired = worker_store.end_lost(connection, lease_seconds=self._settings.lease_seconds)
        for worker_id in expired:
            metrics.LEASES_EXPIRED.inc()
            log.warning("lease_expired", worker_id=worker_id)
        return expired

    def _force_cancels(self) -> int:
        """Cancel what was to be stopped, and was not within the grace period; how many."""
        with self._database.autocommit() as connection:
            forced = cancellation.force(
                connection,
                grace_seconds=self._settings.cancel_grace_seconds,
                head_start_seconds=self._settings.priority_head_start_seconds,
            )
        for job in forced:
            metrics.CANCELS_FORCED.inc()
            log.warning("cancel_forced", **job._asdict())
        return len(forced)

    def _look(self) -> list[tuple[int, JobStatus]]:
        """Rescue, where a lease has ended lately, or the last look at all that runs is a while ago."""
        with self._database.autocommit() as connection:
            ends = worker_store.ends(connection)
        now = time.monotonic()
        if ends == self._ends and now < self._looks_at and now >= self._looks_until:
            return []
        rescued = passing_over_locked(self._rescue)
        # Noted when it is done: a look that failed is due again.
        if ends != self._ends or rescued:
            self._looks_until = now + LOOKS_AFTER_END_SECONDS
        self._ends, self._looks_at = ends, now + LOOK_SECONDS
        return rescued

    def _rescue(self, leave_locked: bool) -> list[tuple[int, JobStatus]]:
        head_start = self._settings.priority_head_start_seconds
        with self._database.transaction() as connection:
            rescued = attempt_store.rescue(
                connection, max_deaths=self._settings.max_deaths, head_start_seconds=head_start
            )
            ended = [job_id for job_id, status in rescued if status in FINAL_STATUSES]
            dependency_store.settle(
                connection, ended, head_start_seconds=head_start, leave_locked=leave_locked
            )
            failed = [job_id for job_id, status in rescued if status is JobStatus.FAILED]
            dead_letters = attempt_store.queues_and_types(connection, failed)
        for queue, type_name in dead_letters:
            metrics.JOBS_FAILED.labels(queue, type_name, "worker_died").inc()
        for job_id, status in rescued:
            metrics.JOBS_RESCUED.labels(status.value).inc()
            log.warning("job_rescued", job_id=job_id, status=status.value, reason="worker_died")
        return rescued
