"""The claim of fetched entries: places in this process, one statement, the return of what is left over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from goqueue import failpoints
from goqueue.engine.runway.runway import Entries, Fetched, Message, ReadyRange, parse
from goqueue.engine.transitions.claim import waiting_message
from goqueue.errors import UnavailableError
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob
from goqueue.middleware.attempt import ClaimTimes, JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics
from goqueue.worker.claiming.fetched_claims import FetchedClaims
from goqueue.worker.claiming.places import FETCH_MAX, Places
from goqueue.worker.claiming.range_claimer import RangeClaimer
from goqueue.worker.claiming.returner import NO_ROOM
from goqueue.worker.claiming.wanted_changes import FRESH_SECONDS

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: Where ranges are fetched from: they are in no lane, and no suspects.
RUNWAY = Fetched([])


class _Wide(NamedTuple):
    """A job that takes several slots and had no room, and how it was fetched."""

    job_id: int
    slots: int
    is_async: bool
    fetched: Fetched


class Claimer:
    """Claims what a consumer fetched from one queue.

    Attributes:
        places: what there is room for.
        claimed: jobs that were claimed and not handed over yet.
    """

    def __init__(self, broker: JobBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue = queue_name
        self._alone = queue_name == QUARANTINE_QUEUE
        self.places = Places(broker, queue_name)
        self._fetched_claims = FetchedClaims(broker.settings, broker.database, broker.runway)
        self.claimed: deque[JobMessage] = deque()
        self._ranges = RangeClaimer(broker, queue_name, self.places)
        #: The job for which free threads are kept.
        self._gathers_for: _Wide | None = None

    def claim(self, fetched: Fetched) -> None:
        """Take places for what was fetched, and claim it; what there is no place for goes back."""
        entries = parse(fetched.entries)
        self._fetched_claims.drop_garbage(self._queue, entries.garbage)
        if self.places.are_mixed:
            self._claim_mixed(entries, fetched)
            return
        # One kind at a time; what comes next is fetched next.
        self._broker.runway.put_back(self._queue, entries.rest, suspects=fetched.suspects, lane=fetched.lane)
        if entries.messages:
            self._ranges.jobs_per_entry = 1
            messages = self._take_places(entries.messages, fetched)
            if messages:
                self._claim(messages, fetched)
        elif entries.ranges:
            self._claim_ranges(entries.ranges)

    @property
    def jobs_per_entry(self) -> int:
        """The number of jobs that an entry of the runway stands for at present."""
        return self._ranges.jobs_per_entry

    def _claim_ranges(self, ranges: list[ReadyRange]) -> None:
        """Claim of these as many jobs as there are places for; the rest goes back."""
        wanted = sum(one.jobs for one in ranges)
        places = 0 if takes_no_more(self._broker) else self.places.take_count(wanted)
        asked_at = time.monotonic()
        claim = self._ranges.claim(ranges, places=places)
        self._keep_claimed(claim.jobs, asked_at, RUNWAY, has_message=False)
        metrics.CLAIM_DURATION.observe(time.monotonic() - asked_at)
        if claim.ended or claim.rest:
            self._broker.runway.end_ranges(self._queue, claim.ended, claim.rest)
        if claim.refused:
            self._claim(claim.refused, RUNWAY)

    def _claim_mixed(self, entries: Entries, fetched: Fetched) -> None:
        """Claim by their messages jobs of both kinds, of which there may be places for one alone.

        All that was fetched is looked through: what has no place must not stand in the way of the other kind.
        """
        messages = [*entries.messages, *(one for one in entries.rest if isinstance(one, Message))]
        ranges = [*entries.ranges, *(one for one in entries.rest if isinstance(one, ReadyRange))]
        self._ranges.jobs_per_entry = 1
        if ranges:
            listed = self._ranges.listed(ranges, FETCH_MAX)
            # Before what has no place goes back: that stands in front of the rest.
            self._broker.runway.end_ranges(self._queue, listed.ended, listed.rest)
            messages += listed.refused
        granted = self._take_places(messages, fetched)
        if granted:
            self._claim(granted, fetched)

    def _take_places(self, messages: list[Message], fetched: Fetched) -> list[Message]:
        """Places were free when the fetch began; another queue's consumer may have taken them since."""
        if not messages:
            return []
        granted: list[Message] = []
        try:
            if not takes_no_more(self._broker):
                granted = self.places.take(messages, suspects=fetched.suspects)
        finally:
            # Also where PostgreSQL does not say which kinds they are.
            kept = set(granted)
            left = [message for message in messages if message not in kept]
            try:
                self._broker.runway.put_back(self._queue, left, suspects=fetched.suspects, lane=fetched.lane)
            except UnavailableError:
                self.places.give_back_rest()
                raise
        return granted

    def _claim(self, messages: list[Message], fetched: Fetched) -> None:
        asked_at = time.monotonic()
        try:
            claimed = self._claim_rows(messages)
            failpoints.hit("after_claim")
        except BaseException:
            self._broker.claimed_jobs.doubt()
            self._broker.claimed_ahead.doubt(self._queue, messages)
            self.places.give_back_rest()
            raise
        # Before anything that may fail: what is claimed here must not be forgotten.
        self._keep_claimed(self._in_order(messages, claimed), asked_at, fetched)
        metrics.CLAIM_DURATION.observe(time.monotonic() - asked_at)
        if len(claimed) < len(messages):
            self.places.give_back_rest()
            self._fetched_claims.drop_stale(self._queue, messages, claimed)

    def _claim_rows(self, messages: list[Message]) -> list[ClaimedJob]:
        broker = self._broker
        return self._fetched_claims.claim(
            messages,
            worker_id=broker.claimed_jobs.worker_id,
            # Who runs alone has the whole process, however many slots it takes.
            known=broker.known_types.alone if self._alone else broker.known_types,
        )

    @staticmethod
    def _in_order(messages: list[Message], claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        place = {message.job_id: number for number, message in enumerate(messages)}
        return sorted(claimed, key=lambda job: place[job.id])

    def _keep_claimed(
        self, jobs: Sequence[ClaimedJob], asked_at: float, fetched: Fetched, *, has_message: bool = True
    ) -> None:
        """Hold what was claimed, until its outcome is recorded."""
        if not jobs:
            return
        # PostgreSQL gives all of them the time of its one statement.
        times = ClaimTimes.of_claim(jobs[0].claimed_at, asked_at, fresh_seconds=FRESH_SECONDS)
        reporter, ask_parents = self._broker.reporter, self._broker.results_of_parents
        attempts = [JobAttempt(job, self._queue, reporter, ask_parents, times) for job in jobs]
        # A batch takes one place, however many its jobs would take by themselves; `occupy` takes it.
        if self._broker.types.has_batches:
            for current in attempts:
                if self._broker.types.batch_of(current.type):
                    current.claimed.slots = 1
        for current in attempts:
            current.has_message = has_message
            current.suspect, current.lane = fetched.suspects, fetched.lane
        misplaced = self.places.occupy(attempts)
        left = self._without_room(attempts, misplaced, fetched)
        late = self._broker.claimed_jobs.add(attempts)
        if late:
            self._refuse(late)
            attempts = [current for current in attempts if current not in late]
        throws = self._broker.types.throws
        messages = [JobMessage(current, throws=throws(current.claimed.type)) for current in attempts]
        for message in messages if left else ():
            if (reason := left.get(message.current.id)) is not None:
                self._broker.claimed_ahead.give_back([message], reason)
        self.claimed.extend([message for message in messages if message.current.id not in left])

    def _without_room(
        self, attempts: Sequence[JobAttempt], misplaced: Sequence[JobAttempt], fetched: Fetched
    ) -> dict[int, str]:
        """Take the further places of jobs that take several; the ids of those that go back, and why."""
        if self._alone:
            # It has the whole process, as one place.
            attempts[0].claimed.slots = 1
        for current in misplaced:
            current.claimed.slots = min(1, current.claimed.slots)
        reasons = {current.id: "busy" for current in misplaced}
        if all(current.claimed.slots <= 1 for current in attempts):
            return reasons
        for is_async in (False, True):
            jobs = [
                current.claimed
                for current in attempts
                if current.has_async_slot is is_async and current.claimed.slots and current.id not in reasons
            ]
            reasons |= self._without_room_of_kind(jobs, fetched, is_async=is_async)
        return reasons

    def _without_room_of_kind(
        self, jobs: Sequence[ClaimedJob], fetched: Fetched, *, is_async: bool
    ) -> dict[int, str]:
        """Do the same for jobs that take threads, or those that take slots of the event loop."""
        wanted = [job.slots for job in jobs]
        left = [jobs[position] for position in self._broker.slots.fit(wanted, is_async=is_async)]
        wide = [job for job in left if job.slots > 1]
        reasons = {job.id: NO_ROOM if job.slots > 1 else "behind_wide" for job in left}
        if wide and not fetched.suspects:
            self._gathers_for = _Wide(wide[0].id, wide[0].slots, is_async, fetched)
        for job in left:
            # What goes back holds the one place that was taken for each.
            job.slots = 1
        return reasons

    def claim_gathered(self) -> None:
        """Claim the job for which free threads were kept, if there are enough, and it still waits."""
        if self._gathers_for is None:
            return
        wide, self._gathers_for = self._gathers_for, None
        slots = self._broker.slots
        if slots.free(is_async=wide.is_async) < wide.slots or not self.places.take_count(1):
            return
        try:
            with self._broker.database.autocommit() as connection:
                waiting = waiting_message(connection, wide.job_id)
        except BaseException:
            self.places.give_back(1)
            raise
        if waiting is None:
            self.places.give_back(1)
        else:
            self._claim([Message(*waiting)], wide.fetched)

    def _refuse(self, late: Sequence[JobAttempt]) -> None:
        """Give back what was claimed after its claim had been given up."""
        self._broker.slots.leave(late)
        self._broker.claimed_ahead.doubt(
            self._queue, [Message(current.id, current.fence - 1) for current in late]
        )
        for current in late:
            log.warning("claim_came_too_late", job_id=current.id, fence=current.fence)


def takes_no_more(broker: JobBroker) -> bool:
    """Tell whether this process takes no more jobs: they stay on the runway, for others."""
    return broker.draining.is_set() or broker.received_commands.is_quiet
