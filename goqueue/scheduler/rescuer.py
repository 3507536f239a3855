"""The rescuer: ends the leases of silent workers, takes their jobs back, and cancels what none would stop."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.db.statements import current_time
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.released_dependants import push_to_front
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.force import force
from goqueue.engine.transitions.rescue import Rescued, rescue
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import JobStatus
from goqueue.observability import metrics
from goqueue.scheduler.clock_watch import ClockReading, ClockWatch
from goqueue.scheduler.service import Counts, Pause, Service, passing_over_locked

log = structlog.get_logger(__name__)

#: All that runs is looked at so often, whatever has ended. Under a held vacuum horizon a look walks over the
#: index entries of everything that has run since.
LOOK_SECONDS = 10.0

#: Which jobs remote workers hold, and have not said so for long, is looked at so often.
UNHEARD_SECONDS = 1.0

#: After the end of a lease, and after a job that was taken back, every round looks, for so long: a row that
#: somebody had locked was passed over, and a look takes no more than so many.
LOOKS_AFTER_END_SECONDS = 5.0


class Rescuer(Service):
    """Takes back the jobs of lost workers.

    It looks for them when a lease has ended, and now and then.

    While PostgreSQL was away nobody could renew a lease, so after an outage (and at its start, when it cannot
    know) it waits for two heartbeats before it judges anyone by silence. After PostgreSQL's clock was set, or
    the machine or this process stood still, for so long that a lease may seem to have run out, it waits for a
    lease.
    """

    name = "rescuer"

    def __init__(
        self, settings: Settings, database: Database, pause: Pause, runway: Runway | None = None
    ) -> None:
        super().__init__(settings, database, pause)
        self._runway = runway
        self._clocks = ClockWatch(settings.rescue_interval_seconds)
        self._judges_from = time.monotonic() + 2 * settings.heartbeat_seconds
        self._trusts_clocks_from = 0.0
        self._ends: lease_store.Ends | None = None
        self._looks_until = 0.0
        self._looks_at = 0.0
        self._unheard_at = 0.0

    def run_once(self) -> Counts:
        """End expired leases, and take back the jobs of every worker whose lease has ended."""
        try:
            self._look_at_clocks()
            now = time.monotonic()
            trusts_clocks = now >= self._trusts_clocks_from
            judges = trusts_clocks and now >= self._judges_from
            expired = self.parts.run("leases", self._end_leases, None) if judges else None
            rescued = self.parts.run("rescue", self._look, None) or []
            if judges:
                rescued += self.parts.run("unheard", self._look_for_unheard, list[Rescued]())
            forced = self.parts.run("cancels", self._force_cancels, 0) if trusts_clocks else 0
        except DatabaseUnavailableError:
            self._judges_from = time.monotonic() + 2 * self._settings.heartbeat_seconds
            raise
        failed = sum(job.status is JobStatus.FAILED for job in rescued)
        return {
            "expired": len(expired or ()),
            "rescued": len(rescued) - failed,
            "failed": failed,
            "cancelled": forced,
        }

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (each round is as long)
        """Wait for the next round."""
        self._pause(self._settings.rescue_interval_seconds)

    def _look_at_clocks(self) -> None:
        """Trust no silence for a lease, when the clocks jumped by what a living worker cannot make up for."""
        with self._database.autocommit() as connection:
            jump_seconds = self._clocks.jump(ClockReading.now(current_time(connection)))
        settings = self._settings
        if jump_seconds > max(
            settings.lease_seconds - 2 * settings.heartbeat_seconds, settings.lease_seconds / 3
        ):
            log.warning("clock_jumped", seconds=jump_seconds, waits_seconds=settings.lease_seconds)
            self._trusts_clocks_from = time.monotonic() + settings.lease_seconds

    def _end_leases(self) -> list[int]:
        with self._database.autocommit() as connection:
            expired = lease_store.end_lost(connection, lease_seconds=self._settings.lease_seconds)
        for worker_id in expired:
            metrics.LEASES_EXPIRED.inc()
            log.warning("lease_expired", worker_id=worker_id)
        return expired

    def _force_cancels(self) -> int:
        """Cancel what was to be stopped, and was not within the grace period; how many."""
        with self._database.autocommit() as connection:
            forced = force(connection, grace_seconds=self._settings.cancel_grace_seconds)
        for job in forced:
            metrics.CANCELS_FORCED.inc()
            log.warning("cancel_forced", **job._asdict())
        return len(forced)

    def _look(self) -> list[Rescued]:
        """Rescue, where a lease has ended lately, or the last look at all that runs is a while ago."""
        with self._database.autocommit() as connection:
            ends = lease_store.ends(connection)
        now = time.monotonic()
        looks_at_all = now >= self._looks_at
        if ends == self._ends and not looks_at_all and now >= self._looks_until:
            return []
        rescued = passing_over_locked(partial(self._rescue, of_ended=not looks_at_all))
        # Noted when it is done: a look that failed is due again.
        if ends != self._ends or rescued:
            self._looks_until = now + LOOKS_AFTER_END_SECONDS
        if looks_at_all:
            self._looks_at = now + LOOK_SECONDS
        self._ends = ends
        return rescued

    def _look_for_unheard(self) -> list[Rescued]:
        """Take back what remote workers hold and have not said so for a lease, though they live."""
        now = time.monotonic()
        if now < self._unheard_at:
            return []
        rescued = passing_over_locked(self._rescue_unheard)
        self._unheard_at = now + min(UNHEARD_SECONDS, self._settings.lease_seconds / 5)
        return rescued

    def _rescue_unheard(self, leave_locked: bool) -> list[Rescued]:
        settings = self._settings
        with self._database.transaction() as connection:
            rescued = rescue(
                connection,
                max_deaths=settings.max_deaths,
                leave_locked=leave_locked,
                unheard_seconds=settings.lease_seconds,
            )
            dead_letters = self._dead_letters(connection, rescued)
        self._announce(rescued, dead_letters)
        return rescued

    def _rescue(self, leave_locked: bool, *, of_ended: bool) -> list[Rescued]:
        settings = self._settings
        with self._database.transaction() as connection:
            together = lease_store.lost_together(
                connection,
                heartbeat_seconds=settings.heartbeat_seconds,
                lease_seconds=settings.lease_seconds,
            )
            rescued = rescue(
                connection,
                max_deaths=settings.max_deaths,
                lost_together=together,
                leave_locked=leave_locked,
                of_ended=of_ended,
            )
            dead_letters = self._dead_letters(connection, rescued)
        self._announce(rescued, dead_letters)
        return rescued

    @staticmethod
    def _dead_letters(connection: Connection, rescued: list[Rescued]) -> Collection[tuple[str, str]]:
        """Queue and type of each that failed."""
        failed = [job.id for job in rescued if job.status is JobStatus.FAILED]
        return job_store.queues_and_types(connection, failed).values()

    def _announce(self, rescued: list[Rescued], dead_letters: Collection[tuple[str, str]]) -> None:
        """Count and log what was taken back, and push what may start at once."""
        for queue, type_name in dead_letters:
            metrics.JOBS_FAILED.labels(queue, type_name, "worker_died").inc()
        for job in rescued:
            metrics.JOBS_RESCUED.labels(job.status.value).inc()
            log.warning("job_rescued", job_id=job.id, status=job.status.value, reason="worker_died")
        self._push(rescued)

    def _push(self, rescued: list[Rescued]) -> None:
        """Best effort: suspects, and what cannot be pushed, are left to the dispatcher."""
        unsuspected = [job for job in rescued if job.status is JobStatus.QUEUED and not job.quarantined]
        if self._runway is not None and unsuspected:
            push_to_front(self._runway, ((job.queue, job.id, job.fence) for job in unsuspected))
