"""Leasing jobs to workers over HTTP: the same runway and the same claim as of the workers of GoQueue.

A message that was fetched and whose process died is on the runway again after a while, as a consumer's. A job
that was claimed, and whose answer did not reach its worker, is taken back when nothing has been heard of it
for a lease.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import job_rows
from goqueue.engine.combined_creates import CombinedCalls
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Fetched, Message, ReadyRange, Runway, parse
from goqueue.engine.transitions.begin import begin_unrepeatable
from goqueue.engine.transitions.claim_ranges import claim_ranges, messages_in
from goqueue.engine.transitions.claim_together import claim_together
from goqueue.engine.transitions.set_aside import is_of_a_row
from goqueue.engine.workers.remote_worker_rows import (
    RemoteIdentity,
    RemoteStanding,
    holds_any,
    holds_suspect,
)
from goqueue.errors import DatabaseRefusedError
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob
from goqueue.observability import metrics
from goqueue.remote.database_clock import DatabaseClock
from goqueue.remote.declared_types import TypeDirectory
from goqueue.remote.remote_workers import RemoteWorkers
from goqueue.worker.claiming.fetched_claims import FetchedClaims
from goqueue.worker.claiming.range_claimer import first_of, joined, rest_of

__all__ = ["JobLeasing", "LeaseOrder", "Leases"]

log = structlog.get_logger(__name__)

#: So many fetches may find nothing but messages that nobody can claim any more, before a lease is empty.
FETCHES_MAX = 5

#: The quarantine is looked into no more often: what is there and not for this worker goes back each time.
QUARANTINE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class LeaseOrder:
    """The wish of a worker for jobs.

    Attributes:
        known: what it can run.
        limit: how many jobs at most.
    """

    identity: RemoteIdentity
    queue: str
    known: KnownTypes
    limit: int


class Leases(NamedTuple):
    """The jobs that a worker was given, in the order of their rank, and its standing."""

    standing: RemoteStanding
    jobs: list[ClaimedJob]


class _Wish(NamedTuple):
    """The messages that a worker wants to claim."""

    worker_id: int
    messages: list[Message]
    known: KnownTypes


class JobLeasing:
    """Fetches and claims for remote workers. Thread-safe.

    Args:
        settings: the settings of this GoQueue.
        database: where the jobs are.
        runway: where their messages are.
        types: knows every type.
        workers: registers whoever asks.
        clock: is told what PostgreSQL's clock says.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        types: TypeDirectory,
        workers: RemoteWorkers,
        clock: DatabaseClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._types = types
        self._workers = workers
        self._clock = clock
        self._claims = FetchedClaims(settings, database, runway)
        self._combined = CombinedCalls[_Wish, list[ClaimedJob]](self._claim_wishes, bool, _size_of)
        self._quarantine_at = 0.0
        self._lock = threading.Lock()
        #: Messages of jobs that were claimed, which Redis still has.
        self._done = defaultdict[str, list[str]](list)

    def lease(self, order: LeaseOrder) -> Leases:
        """Claim jobs for a worker, at most as many as it asks for; none, where none may start now.

        Who is quiet, was told to stop, or has a job that runs alone gets none.

        Raises:
            UnavailableError: a server does not answer. What was claimed, if anything was, is taken back.
        """
        standing = self._workers.standing(order.identity, order.queue, order.known)
        if standing.command is not None or standing.runs_alone:
            return Leases(standing, [])
        leases = self._from_runway(order, standing)
        if not leases.jobs:
            leases = self._from_quarantine(order, leases.standing)
        if leases.jobs:
            self._clock.hear(leases.jobs[0].claimed_at)
            self._begin_unrepeatable(leases)
        return leases

    def _from_runway(self, order: LeaseOrder, standing: RemoteStanding) -> Leases:
        leases = Leases(standing, [])
        for _ in range(FETCHES_MAX):
            fetched = self._fetch(order, leases.standing)
            if not fetched.entries:
                break
            failpoints.hit("after_fetch")
            leases = self._claim_fetched(order, leases.standing, fetched)
            if leases.jobs:
                break
        return leases

    def _fetch(self, order: LeaseOrder, standing: RemoteStanding) -> Fetched:
        """Entries of the queue: suspects first, one at a time, and none beside another one."""
        queue, signature = order.queue, order.known.signature
        fetched = self._runway.take(
            queue,
            order.limit,
            block_seconds=None,
            suspects=True,
            signature=signature,
            acknowledging=self._take_done(queue),
        )
        if not fetched.suspects:
            return fetched
        with self._database.autocommit() as connection:
            keeps = 0 if holds_suspect(connection, standing.worker_id) else 1
        left = parse(fetched.entries[keeps:]).messages
        self._runway.put_back(queue, left, suspects=True, lane=fetched.lane)
        if keeps:
            return fetched._replace(entries=fetched.entries[:1])
        return self._runway.take(queue, order.limit, block_seconds=None, signature=signature)

    def _claim_fetched(self, order: LeaseOrder, standing: RemoteStanding, fetched: Fetched) -> Leases:
        entries = parse(fetched.entries)
        self._claims.drop_garbage(order.queue, entries.garbage)
        # One kind at a time; what comes next is fetched next.
        self._runway.put_back(order.queue, entries.rest, suspects=fetched.suspects, lane=fetched.lane)
        asked_at = time.monotonic()
        if entries.messages:
            leases = self._claim(order, standing, entries.messages)
        elif entries.ranges:
            leases = self._claim_ranges(order, standing, entries.ranges)
        else:
            leases = Leases(standing, [])
        metrics.CLAIM_DURATION.observe(time.monotonic() - asked_at)
        return leases

    def _claim(self, order: LeaseOrder, standing: RemoteStanding, messages: list[Message]) -> Leases:
        leases = self._claim_messages(order, standing, messages, order.queue, order.known)
        failpoints.hit("after_claim")
        return leases

    def _claim_messages(
        self,
        order: LeaseOrder,
        standing: RemoteStanding,
        messages: list[Message],
        runway: str,
        known: KnownTypes,
    ) -> Leases:
        """Claim messages of a runway, and forget them all: a claim moves the fence that they name."""
        claimed = self._combined.call(_Wish(standing.worker_id, messages, known))
        if len(claimed) < len(messages):
            # Perhaps because the lease of the worker has ended, of which only PostgreSQL knows.
            now = self._workers.standing(order.identity, order.queue, order.known, anew=True)
            if now.worker_id != standing.worker_id and now.command is None:
                left = _left(messages, claimed)
                claimed += self._claims.claim(left, worker_id=now.worker_id, known=known)
            standing = now
        if len(claimed) < len(messages):
            self._claims.drop_stale(runway, messages, claimed)
        self._acknowledge(runway, claimed)
        place = {message.job_id: number for number, message in enumerate(messages)}
        return Leases(standing, sorted(claimed, key=lambda job: place[job.id]))

    def _claim_wishes(self, wishes: Sequence[_Wish]) -> list[list[ClaimedJob]]:
        """Claim what threads of this process wish for at this moment, each for its own worker."""
        first = wishes[0]
        if len(wishes) == 1:
            return [self._claims.claim(first.messages, worker_id=first.worker_id, known=first.known)]
        found = dict[int, ClaimedJob]()
        for signature in {wish.known.signature for wish in wishes}:
            alike = [wish for wish in wishes if wish.known.signature == signature]
            messages = defaultdict[int, list[Message]](list)
            for wish in alike:
                messages[wish.worker_id] += wish.messages
            with self._database.autocommit() as connection:
                claimed = claim_together(
                    connection,
                    messages,
                    lease_seconds=self._settings.lease_seconds,
                    known=alike[0].known,
                )
            found |= {job.id: job for those in claimed.values() for job in those}
        return [
            [found.pop(message.job_id) for message in wish.messages if message.job_id in found]
            for wish in wishes
        ]

    def _claim_ranges(self, order: LeaseOrder, standing: RemoteStanding, ranges: list[ReadyRange]) -> Leases:
        """Claim the first jobs of ranges; what is left of them goes back to the head."""
        chosen = first_of(ranges, order.limit)
        self._runway.put_back(order.queue, ranges[len(chosen) :])
        try:
            with self._database.autocommit() as connection:
                jobs = claim_ranges(
                    connection,
                    order.queue,
                    joined(chosen),
                    limit=order.limit,
                    worker_id=standing.worker_id,
                    lease_seconds=self._settings.lease_seconds,
                    known=order.known,
                )
        except DatabaseRefusedError as error:
            if not is_of_a_row(error):
                raise
            return self._claim_listed(order, standing, chosen)
        failpoints.hit("after_claim")
        self._runway.end_ranges(order.queue, list(chosen), rest_of(chosen, len(jobs), order.limit))
        return Leases(standing, jobs)

    def _claim_listed(
        self, order: LeaseOrder, standing: RemoteStanding, ranges: Sequence[ReadyRange]
    ) -> Leases:
        """Claim the jobs of ranges one by one, where PostgreSQL refuses one of them."""
        with self._database.autocommit() as connection:
            found = messages_in(connection, order.queue, joined(ranges), limit=order.limit)
        messages = [Message(job_id, fence) for job_id, fence in found]
        self._runway.end_ranges(order.queue, list(ranges), rest_of(ranges, len(messages), order.limit))
        return self._claim(order, standing, messages) if messages else Leases(standing, [])

    def _from_quarantine(self, order: LeaseOrder, standing: RemoteStanding) -> Leases:
        """Claim a job that has to run alone, for a worker that holds nothing."""
        now = time.monotonic()
        if now < self._quarantine_at or standing.runs_alone:
            return Leases(standing, [])
        self._quarantine_at = now + QUARANTINE_SECONDS
        fetched = self._runway.take(QUARANTINE_QUEUE, 1, block_seconds=None, signature=order.known.signature)
        messages = parse(fetched.entries).messages
        if not messages:
            return Leases(standing, [])
        with self._database.autocommit() as connection:
            found = job_rows.queues_and_types(connection, [messages[0].job_id])
            is_its = all(queue == order.queue and kind in order.known for queue, kind in found.values())
            takes_it = is_its and not holds_any(connection, standing.worker_id)
        if not takes_it:
            self._runway.put_back(QUARANTINE_QUEUE, messages, lane=fetched.lane)
            return Leases(standing, [])
        leases = self._claim_messages(order, standing, messages, QUARANTINE_QUEUE, order.known.alone)
        if leases.jobs:
            self._workers.note_alone(order.identity)
        return leases

    def _acknowledge(self, runway: str, jobs: Sequence[ClaimedJob]) -> None:
        """Forget messages with the next fetch: a claim has moved their fences, so nothing depends on it.

        Entries that nobody forgets stay until the dispatcher sweeps them; the claim refuses what they name.
        """
        with self._lock:
            self._done[runway] += [f"{job.id}.{job.fence - 1}" for job in jobs]

    def _take_done(self, runway: str) -> list[str]:
        with self._lock:
            return self._done.pop(runway, [])

    def _begin_unrepeatable(self, leases: Leases) -> None:
        """Note of jobs that must not be repeated that they begin: nobody hears when the worker does."""
        for job in leases.jobs:
            declared = self._types.found(job.type)
            if declared is not None and not declared.rerun_after_death:
                with self._database.autocommit() as connection:
                    begin_unrepeatable(connection, job.id, job.fence, leases.standing.worker_id)


def _size_of(wish: _Wish) -> int:
    """A claim is small; many messages are as good as a long payload."""
    return 1024 * len(wish.messages)


def _left(messages: Sequence[Message], claimed: Sequence[ClaimedJob]) -> list[Message]:
    alive = {(job.id, job.fence - 1) for job in claimed}
    return [message for message in messages if message not in alive]
