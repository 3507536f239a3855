"""The lease: one row that this process renews from its own thread, and what follows when it cannot."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.transitions.cancel import acknowledge
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers import worker_type_rows as worker_types
from goqueue.errors import DatabaseUnavailableError, GoQueueError
from goqueue.jobs import QUARANTINE_QUEUE, AttemptOutcome
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.claim_comparison import ClaimComparison
from goqueue.worker.claiming.claims import ClaimedJobs, WorkerSlots
from goqueue.worker.health import own_memory_bytes
from goqueue.worker.interrupts import Interrupts
from goqueue.worker.neighbours import end_gone_neighbours, host_key
from goqueue.worker.received_commands import ReceivedCommands

log = structlog.get_logger(__name__)


#: How often a process that holds jobs asks which of them are to be stopped.
CANCEL_CHECK_SECONDS = 0.25


class Lease(BackgroundThread):
    """Keeps the lease of this process, and keeps what it holds in step with the record.

    Between renewals it acknowledges requests to stop what this process runs, and tells the handlers.

    Each renewal also compares both sides. A job that the record no longer gives to this worker was cancelled
    without it or taken back: its handler is interrupted. A job that the record gives to this worker, but that
    it does not know of, was claimed by a statement whose answer was lost: it is released.

    And each tells what an operator wants of this process.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        claimed_jobs: ClaimedJobs,
        interrupts: Interrupts,
        slots: WorkerSlots,
        received_commands: ReceivedCommands,
        queues: Callable[[], list[str]],
        *,
        known_types: Callable[[], KnownTypes],
        slots_in: Callable[[str], int],
    ) -> None:
        super().__init__("lease")
        self._settings = settings
        self._database = database
        self._claimed_jobs = claimed_jobs
        self._interrupts = interrupts
        self._slots = slots
        self._received_commands = received_commands
        self._served = queues
        self._queues = queues()
        self._known_types = known_types
        self._slots_in = slots_in
        self._told: KnownTypes | None = None
        self._host_key = host_key()
        self._comparison = ClaimComparison(settings, database, claimed_jobs, interrupts)
        self._stood_still_at = 0.0
        self._stopping = threading.Event()

    def start(self) -> None:
        """Register and keep renewing. Without PostgreSQL there is no lease yet, and nothing is fetched."""
        try:
            self._register()
        except GoQueueError as error:
            log.warning("registration_postponed", error=str(error))
        super().start()

    def stop(self) -> None:
        """End the lease: what this process still holds is free to be taken back at once."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(self._settings.database_connect_timeout_seconds)
        try:
            with self._database.autocommit() as connection:
                worker_store.stop(
                    connection, self._claimed_jobs.worker_id, reason=self._received_commands.shutdown_reason
                )
        except DatabaseUnavailableError as error:
            log.warning("lease_not_returned", error=str(error))

    def _run(self) -> None:
        heartbeat = self._settings.heartbeat_seconds
        heartbeat_at = time.monotonic() + heartbeat
        while not self._wait(min(CANCEL_CHECK_SECONDS, max(0.0, heartbeat_at - time.monotonic()))):
            if time.monotonic() >= heartbeat_at:
                self._heartbeat()
                heartbeat_at = time.monotonic() + heartbeat
            self._look_for_cancels()

    def _wait(self, seconds: float) -> bool:
        """Wait, and note when it took so long that this process, or its machine, stood still meanwhile."""
        started = time.monotonic()
        stopping = self._stopping.wait(seconds)
        if time.monotonic() - started > seconds + self._settings.heartbeat_seconds:
            self._stood_still_at = time.monotonic()
        return stopping

    def _heartbeat(self) -> None:
        try:
            failpoints.hit("in_heartbeat")
            if self._claimed_jobs.worker_id:
                self._renew()
            else:
                self._register()
        except (DatabaseUnavailableError, failpoints.FailpointError) as error:
            log.warning("heartbeat_failed", error=str(error))
            self._stop_orphans_when_expired()
        except Exception:
            log.exception("heartbeat_failed_unexpectedly")

    def _look_for_cancels(self) -> None:
        try:
            if self._claimed_jobs.worker_id and self._claimed_jobs:
                self._cancel_requested(self._claimed_jobs.worker_id)
        except DatabaseUnavailableError as error:
            # The next heartbeat warns if it lasts.
            log.debug("cancel_check_failed", error=str(error))
        except Exception:
            log.exception("cancel_check_failed_unexpectedly")

    def _cancel_requested(self, worker_id: int) -> None:
        """Acknowledge requests to stop what this process runs, and tell the handlers."""
        with self._database.autocommit() as connection:
            requested = acknowledge(connection, worker_id)
        held = self._claimed_jobs.snapshot() if requested else {}
        for key in requested & held.keys():
            if self._interrupts.cancel(held[key], self._settings.cancel_cooperation_seconds):
                log.info("cancel_acknowledged", job_id=key[0], fence=key[1])

    def _register(self) -> None:
        started, known = time.monotonic(), self._known_types()
        with self._database.autocommit() as connection:
            worker_id = worker_store.register(
                connection,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                host_key=self._host_key,
                queues=self._queues,
                threads=self._slots.threads,
                memory_bytes=own_memory_bytes(),
                command=self._received_commands.command,
                known=known,
                queue_slots=self._queue_slots(),
            )
            self._look_at_others(connection, worker_id)
        self._told = known
        # From here on the consumers fetch.
        self._claimed_jobs.worker_id = worker_id
        self._claimed_jobs.renewed_at = started
        log.info("worker_registered", worker_id=self._claimed_jobs.worker_id, queues=self._queues)

    def _renew(self) -> None:
        started = time.monotonic()
        known = self._claimed_jobs.snapshot()
        worker_id = self._claimed_jobs.worker_id
        with self._database.autocommit() as connection:
            renewal = worker_store.renew(
                connection,
                worker_id,
                busy=self._slots.busy,
                async_busy=self._slots.asynchronous.busy,
                memory_bytes=own_memory_bytes(),
                shutdown_reason=self._received_commands.shutdown_reason,
            )
            held = self._comparison.held(connection, known) if renewal else set()
            self._tell_types(connection, worker_id)
            self._look_at_others(connection, worker_id)
        if renewal:
            self._claimed_jobs.renewed_at = started
            self._received_commands.follow(renewal.command)
            self._comparison.reconcile(set(known), held)
        else:
            log.warning("lease_refused", worker_id=worker_id, orphans=len(known))
            self._stop_orphans(AttemptOutcome.INTERRUPTED)
            self._register()

    def _tell_types(self, connection: Connection, worker_id: int) -> None:
        """Tell what was declared since this process registered."""
        known, queues = self._known_types(), self._served()
        if known is not self._told or queues != self._queues:
            self._queues = queues
            worker_types.tell(connection, worker_id, known, queues=queues, queue_slots=self._queue_slots())
            self._told = known

    def _queue_slots(self) -> list[int]:
        """How many jobs of each of its queues run here at once."""
        return [self._slots_in(queue) for queue in self._queues]

    def _look_at_others(self, connection: Connection, worker_id: int) -> None:
        end_gone_neighbours(connection, worker_id, self._host_key)
        # Who serves nothing else never leaves it to another: two of them would leave it to each other.
        serves_only_quarantine = self._queues == [QUARANTINE_QUEUE]
        self._claimed_jobs.quarantine_is_served = (
            not serves_only_quarantine
            and worker_store.is_quarantine_served(
                connection,
                except_worker_id=worker_id,
                lease_seconds=self._settings.lease_seconds,
                labels=self._known_types().labels,
            )
        )

    def _stop_orphans_when_expired(self) -> None:
        """Who stood still could not renew, and whoever ends leases may have stood still as well."""
        since = max(self._claimed_jobs.renewed_at, self._stood_still_at)
        if time.monotonic() - since > self._settings.lease_seconds:
            log.warning("lease_expired", worker_id=self._claimed_jobs.worker_id)
            self._stop_orphans(AttemptOutcome.INTERRUPTED)

    def _stop_orphans(self, why: AttemptOutcome) -> None:
        """Stop the handlers that run, and those of claimed jobs that still wait for a thread."""
        for current in self._claimed_jobs.snapshot().values():
            self._interrupts.interrupt(current, why)
