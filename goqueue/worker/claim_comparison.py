"""The comparison of what this process holds with what the record gives to it, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Collection

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.jobs import AttemptOutcome
from goqueue.observability import metrics
from goqueue.worker.claiming.claims import ClaimedJobs, Key
from goqueue.worker.interrupts import Interrupts

log = structlog.get_logger(__name__)

#: Every so many renewals read all that the record gives to this process, though no claim has failed.
HEARTBEATS_BETWEEN_LOOKS = 10


class ClaimComparison:
    """Compares both sides at each renewal of the lease."""

    def __init__(
        self, settings: Settings, database: Database, claimed_jobs: ClaimedJobs, interrupts: Interrupts
    ) -> None:
        self._settings = settings
        self._database = database
        self._claimed_jobs = claimed_jobs
        self._interrupts = interrupts
        self._unknown: set[Key] = set()
        self._looks_at = 0.0

    def held(self, connection: Connection, known: Collection[Key]) -> set[Key]:
        """Read what the record gives to this worker: of what it knows of, and now and then all.

        All is read along the entries of everything that it ever ran, as far as vacuum is held back.
        """
        now, worker_id = time.monotonic(), self._claimed_jobs.worker_id
        if self._unknown or now < self._claimed_jobs.doubts_until or now >= self._looks_at:
            self._looks_at = now + HEARTBEATS_BETWEEN_LOOKS * self._settings.heartbeat_seconds
            return lease_store.held(connection, worker_id)
        return lease_store.still_held(connection, worker_id, known)

    def reconcile(self, known: set[Key], held: set[Key]) -> None:
        """Interrupt what the record gives to nobody here, and release what nobody here knows of."""
        for key in known - held:
            current = self._claimed_jobs.snapshot().get(key)
            if current and self._interrupts.interrupt(current, AttemptOutcome.CANCELLED):
                log.info("job_taken_away", job_id=key[0], fence=key[1])
        # Claimed by the record and unknown here twice in a row: not merely an answer on its way.
        unknown = held - known - set(self._claimed_jobs.snapshot())
        self._release(unknown & self._unknown)
        self._unknown = unknown

    def _release(self, unknown: set[Key]) -> None:
        lost = self._claimed_jobs.give_up(unknown)
        if not lost:
            return
        log.warning("lost_claims_released", jobs=len(lost))
        with self._database.autocommit() as connection:
            given_back = give_back(connection, lost, worker_id=self._claimed_jobs.worker_id)
        metrics.JOBS_GIVEN_BACK.labels("claim_lost").inc(len(given_back.jobs))
