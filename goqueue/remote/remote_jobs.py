"""`RemoteJobs`: all that workers outside of GoQueue may ask for. Any process of the API answers each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.remote.attempt_ends import AttemptEnds
from goqueue.remote.attempt_reports import AttemptReports
from goqueue.remote.database_clock import DatabaseClock
from goqueue.remote.declared_types import TypeDirectory
from goqueue.remote.job_leasing import JobLeasing, LeaseOrder, Leases
from goqueue.remote.lease_renewals import LeaseRenewals
from goqueue.remote.lease_tokens import HeldJob, LeaseSigner
from goqueue.remote.lease_waiters import LeaseWaiters
from goqueue.remote.remote_workers import RemoteWorkers
from goqueue.remote.reported_failure import UNDECRYPTABLE, Ending, ReportedFailure
from goqueue.worker.broker import JobBroker

__all__ = ["RemoteJobs"]


class RemoteJobs:
    """Leases jobs to remote workers, and takes what they say of them. Thread-safe.

    Attributes:
        tokens: writes and reads the tokens of leases.
        ends: records how attempts ended.
        reports: writes what they say while they run.
        renewals: takes heartbeats.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        broker: JobBroker,
        types: TypeDirectory,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._types = types
        self._clock = DatabaseClock(database)
        self.tokens = LeaseSigner(database)
        self.reports = AttemptReports(settings, database)
        self.renewals = LeaseRenewals(database)
        self.ends = AttemptEnds(settings, database, runway, broker, types, self._clock)

    @cached_property
    def workers(self) -> RemoteWorkers:
        """The workers that call this process."""
        return RemoteWorkers(self._settings, self._database, self._clock)

    @cached_property
    def _leasing(self) -> JobLeasing:
        return JobLeasing(
            self._settings, self._database, self._runway, self._types, self.workers, self._clock
        )

    @cached_property
    def waiters(self) -> LeaseWaiters:
        """The requests of this process that wait for jobs."""
        return LeaseWaiters(self._settings, self._runway, lambda ids: self.workers.renew(set(ids)))

    def lease(self, order: LeaseOrder, *, was_woken: bool = False) -> Leases:
        """Claim jobs for a worker, at most as many as it asks for; none, where none may start now.

        `was_woken`: the request has waited, and looks again.

        Raises:
            UnavailableError: a server does not answer. What was claimed, if anything was, is taken back.
        """
        try:
            return self._readable(self._leasing.lease(order))
        finally:
            if was_woken:
                self.waiters.note_look(order.queue)

    def _readable(self, leases: Leases) -> Leases:
        """The leases without jobs whose payloads cannot be decrypted here: these fail for good."""
        left = [job for job in leases.jobs if job.undecryptable is None]
        if len(left) == len(leases.jobs):
            return leases
        for job in leases.jobs:
            if job.undecryptable is not None:
                text = f"the payload cannot be decrypted: {job.undecryptable}"
                failure = ReportedFailure(text, UNDECRYPTABLE, ending=Ending.DISCARDED)
                self.ends.fail(HeldJob.of(job, leases.standing.worker_id), failure)
        return leases._replace(jobs=left)

    def watch(self, order: LeaseOrder, leases: Leases, wake: Callable[[], None]) -> Callable[[], None]:
        """Wake a request when there may be a job for it; what ends that is returned."""
        return self.waiters.watch(order.queue, order.known.signature, leases.standing, wake)

    def goodbye(self, order: LeaseOrder) -> None:
        """End the lease of a worker that ends; what it still holds is taken back at once.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        standing = self.workers.standing(order.identity, order.queue, order.known, anew=True)
        self.workers.end(order.identity, standing)
