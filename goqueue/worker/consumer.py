"""The consumer of one queue: fetch from the runway, claim in PostgreSQL, hand over to Dramatiq's threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from dramatiq.broker import Consumer, MessageProxy

from goqueue import failpoints
from goqueue.engine.runway.runway import Fetched, Message, parse
from goqueue.engine.transitions import attempts as attempt_store
from goqueue.engine.transitions.set_aside import is_of_a_row, set_aside
from goqueue.errors import DatabaseRefusedError, UnavailableError
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob
from goqueue.middleware.attempt import ClaimTimes, JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import conclude_failure
from goqueue.observability import metrics
from goqueue.worker.claimed_ahead import FRESH_SECONDS

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: How long fetching pauses after a server did not answer.
OUTAGE_PAUSE_SECONDS = 0.5

#: How often a consumer that may not fetch (no lease, no room in the recorder, draining, quiet) looks again.
NOT_FETCHING_SECONDS = 0.05


#: While a suspect runs here, a fetch must not take the next one. Most are short, so at first a fetch waits
#: for its end, and asks Redis so often; beside a long one it blocks in Redis, and no longer than this.
SUSPECT_LOOK_SECONDS = 0.05
SHORT_SUSPECT_SECONDS = 2.0
BESIDE_SUSPECT_SECONDS = 0.5


#: How often it is looked whether the last outcome was recorded.
RECORDING_SECONDS = 0.005

#: What a fetch took that was not made.
NOTHING = Fetched([])


class JobConsumer(Consumer):
    """Yields claimed jobs of one queue, or None when there is nothing to start.

    An outage is not an error here: Dramatiq would restart the consumer after seconds; this one pauses and
    fetches again.
    """

    def __init__(self, broker: JobBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue = queue_name
        self._alone = queue_name == QUARANTINE_QUEUE
        self._claimed: deque[JobMessage] = deque()
        self._outage = False
        #: The last fetch got less than it asked for: the runway is empty, and this worker waits at it.
        self._found_less = True
        self._is_seen_waiting = False

    def __next__(self) -> JobMessage | None:
        """The next claimed job; None after a while without one."""
        self._broker.heartbeats.turn(self._queue)
        if not self._claimed:
            try:
                self._fetch_and_claim()
                self._note_recovery()
            except UnavailableError as error:
                self._note_outage(error)
        return self._claimed.popleft() if self._claimed else None

    def ack(self, message: MessageProxy) -> None:
        """The attempt is over: its place is free, its outcome goes to the recorder. Never blocks."""
        assert isinstance(message, JobMessage)
        if message.outcome is None:
            self._broker.decide_by_count(message)
            conclude_failure(message, message._exception)  # noqa: SLF001  (Dramatiq stuffs it there)
        self._broker.slots.observe(message.current.run_seconds)
        self._broker.slots.give_back(suspect=message.current.suspect)
        self._broker.recorder.put(message)

    #: A rejected message is one whose outcome says so.
    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Claimed, but never started here: they go back with no attempt spent."""
        unbegun = [message for message in messages if isinstance(message, JobMessage)]
        if unbegun:
            self._broker.claimed_ahead.give_back(unbegun, "stopping")

    def close(self) -> None:
        """Give back what was claimed and not handed over."""
        claimed = list(self._claimed)
        self._claimed.clear()
        self.requeue(claimed)

    def _fetch_and_claim(self) -> None:
        """One turn: wait for room, fetch, take places, claim."""
        self._stop_waiting()
        if not self._wait_for_room():
            return
        fetched = self._fetch()
        failpoints.hit("after_fetch")
        messages = self._take_places(self._drop_garbage(fetched.entries), fetched)
        if messages:
            self._claim(messages, fetched)

    def _stop_waiting(self) -> None:
        """Let others see that this worker does not wait any more; after what it fetched was handed over."""
        broker = self._broker
        if self._is_seen_waiting and not (self._found_less and broker.slots.wait_for_room(0)):
            self._is_seen_waiting = False
            broker.runway.wait_no_more(self._queue, broker.claimed_jobs.worker_id)

    def _wait_for_room(self) -> bool:
        broker = self._broker
        block = broker.settings.fetch_block_seconds
        may_fetch = broker.claimed_jobs.worker_id and broker.recorder.has_room()
        if self._is_closed() or not may_fetch:
            time.sleep(NOT_FETCHING_SECONDS)
            return False
        if self._alone and broker.claimed_jobs.quarantine_is_served:
            time.sleep(OUTAGE_PAUSE_SECONDS)
            return False
        if self._alone:
            return broker.slots.wait_for_idle(block) and self._all_is_recorded()
        return broker.slots.wait_for_room(block) > 0

    def _all_is_recorded(self) -> bool:
        """Whether what ran here before is recorded, which takes a moment.

        Who runs alone may take this process along, and with it the outcomes that are not written yet: the
        jobs would count as taken along, though they had ended.
        """
        if not len(self._broker.claimed_jobs):
            return True
        time.sleep(RECORDING_SECONDS)
        return False

    def _is_closed(self) -> bool:
        """Whether this process takes no more jobs: they stay on the runway, for others."""
        return self._broker.draining.is_set() or self._broker.received_commands.is_quiet

    def _fetch(self) -> Fetched:
        """Entries; suspects come first, one at a time in a process."""
        broker, block = self._broker, self._broker.settings.fetch_block_seconds
        count = 1 if self._alone else broker.slots.wait_for_room(0)
        if count <= 0:
            return NOTHING
        self._is_seen_waiting |= self._found_less
        fetched = self._fetch_up_to(count, block)
        if not fetched.suspects:
            self._found_less = len(fetched.entries) < count
            if not self._found_less:
                broker.claimed_ahead.note_full_fetch(self._queue)
        return fetched

    def _fetch_up_to(self, count: int, block_seconds: float) -> Fetched:
        slots = self._broker.slots
        take = partial(
            self._broker.runway.take, self._queue, count, signature=self._broker.known_types.signature
        )
        waits_as = self._broker.claimed_jobs.worker_id if self._found_less else None
        if self._alone or not slots.has_suspect:
            return take(block_seconds=block_seconds, suspects=not self._alone, waits_as=waits_as)
        if slots.suspect_seconds > SHORT_SUSPECT_SECONDS:
            return take(block_seconds=min(block_seconds, BESIDE_SUSPECT_SECONDS), waits_as=waits_as)
        fetched = take(block_seconds=None)
        if not fetched.entries:
            slots.wait_for_suspect(SUSPECT_LOOK_SECONDS)
        return fetched

    def _drop_garbage(self, entries: Sequence[bytes]) -> list[Message]:
        messages, garbage = parse(entries)
        if garbage:
            metrics.GARBAGE_MESSAGES.inc(len(garbage))
            log.warning(
                "garbage_dropped", runway=self._queue, entries=len(garbage), sample=repr(garbage[0][:80])
            )
            self._broker.runway.acknowledge(self._queue, garbage)
        return messages

    def _take_places(self, messages: list[Message], fetched: Fetched) -> list[Message]:
        """Places were free when the fetch began; another queue's consumer may have taken them since."""
        slots, suspects = self._broker.slots, fetched.suspects
        if not messages:
            return []
        granted = 0 if self._is_closed() else self._taken(len(messages), suspects=suspects)
        try:
            self._broker.runway.put_back(
                self._queue, messages[granted:], suspects=suspects, lane=fetched.lane
            )
        except UnavailableError:
            slots.give_back(granted, suspect=suspects and granted > 0)
            raise
        return messages[:granted]

    def _taken(self, count: int, *, suspects: bool) -> int:
        slots = self._broker.slots
        if self._alone:
            return int(self._take_whole_process())
        return int(slots.take_suspect()) if suspects else slots.take(count)

    def _take_whole_process(self) -> bool:
        slots = self._broker.slots
        if not slots.take_all():
            return False
        if len(self._broker.claimed_jobs):
            # Another queue's job came and went between the look and this.
            slots.give_back()
            return False
        return True

    def _claim(self, messages: list[Message], fetched: Fetched) -> None:
        slots, suspect = self._broker.slots, fetched.suspects
        asked_at = time.monotonic()
        try:
            claimed = self._claim_rows(messages)
            failpoints.hit("after_claim")
        except BaseException:
            self._broker.claimed_jobs.doubt()
            self._broker.claimed_ahead.doubt(self._queue, messages)
            slots.give_back(len(messages), suspect=suspect)
            raise
        # Before anything that may fail: what is claimed here must not be forgotten.
        if claimed:
            # PostgreSQL gives all of them the time of its one statement.
            times = ClaimTimes.of_claim(claimed[0].claimed_at, asked_at, fresh_seconds=FRESH_SECONDS)
            for job in self._in_order(messages, claimed):
                self._keep(job, times, fetched)
        if claimed:
            self._broker.claimed_ahead.watch()
        metrics.CLAIM_DURATION.observe(time.monotonic() - asked_at)
        if len(claimed) < len(messages):
            self._drop_stale(messages, claimed, suspect=suspect)

    def _claim_rows(self, messages: list[Message]) -> list[ClaimedJob]:
        """Claim them; a row that PostgreSQL refuses to change is set aside, and the others are claimed."""
        try:
            return self._claim_together(messages)
        except DatabaseRefusedError as error:
            if not is_of_a_row(error):
                raise
            if len(messages) > 1:
                return [job for message in messages for job in self._claim_rows([message])]
            self._set_aside(messages[0], error)
            return []

    def _set_aside(self, message: Message, error: DatabaseRefusedError) -> None:
        broker = self._broker
        with broker.database.autocommit() as connection:
            found = set_aside(
                connection,
                [message.job_id],
                head_start_seconds=broker.settings.priority_head_start_seconds,
                error=f"PostgreSQL refused its claim: {error}",
            )
        for job in found:
            metrics.JOBS_SET_ASIDE.labels(job.queue).inc()
            log.error("job_set_aside", **job._asdict())

    def _claim_together(self, messages: list[Message]) -> list[ClaimedJob]:
        broker = self._broker
        with broker.database.autocommit() as connection:
            return attempt_store.claim(
                connection,
                messages,
                worker_id=broker.claimed_jobs.worker_id,
                lease_seconds=broker.settings.lease_seconds,
                known=broker.known_types,
            )

    def _drop_stale(self, messages: list[Message], claimed: list[ClaimedJob], *, suspect: bool) -> None:
        """No row came back: somebody else has it, it was cancelled or paused, or the message is a repeat.

        Or its row is locked: its message stays, and the dispatcher puts it on the runway again in a while.
        """
        alive = {(job.id, job.fence - 1) for job in claimed}
        left = [message for message in messages if message not in alive]
        self._broker.slots.give_back(len(left), suspect=suspect)
        with self._broker.database.autocommit() as connection:
            locked = attempt_store.locked(connection, left)
        stale = [message for message in left if message not in locked]
        metrics.STALE_DELIVERIES.inc(len(stale))
        log.debug("stale_deliveries", runway=self._queue, messages=len(stale), locked=len(locked))
        self._broker.runway.acknowledge(self._queue, [message.key for message in stale])

    @staticmethod
    def _in_order(messages: list[Message], claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        place = {message.job_id: number for number, message in enumerate(messages)}
        return sorted(claimed, key=lambda job: place[job.id])

    def _keep(self, job: ClaimedJob, times: ClaimTimes, fetched: Fetched) -> None:
        broker = self._broker
        current = JobAttempt(job, self._queue, broker.reporter, broker.results_of_parents, times)
        current.suspect, current.lane = fetched.suspects, fetched.lane
        if self._broker.claimed_jobs.add(current):
            self._claimed.append(JobMessage(current, throws=self._broker.types.throws(job.type)))
        else:
            self._broker.slots.give_back(suspect=fetched.suspects)
            self._broker.claimed_ahead.doubt(self._queue, [Message(job.id, job.fence - 1)])
            log.warning("claim_came_too_late", job_id=job.id, fence=job.fence)

    def _note_outage(self, error: UnavailableError) -> None:
        if not self._outage:
            metrics.FETCHING_PAUSED.inc()
            log.warning("fetching_paused", runway=self._queue, error=str(error))
        self._outage = True
        self._broker.heartbeats.outages.add(self._queue)
        self._broker.draining.wait(OUTAGE_PAUSE_SECONDS)

    def _note_recovery(self) -> None:
        if self._outage:
            log.info("fetching_again", runway=self._queue)
            self._broker.heartbeats.outages.discard(self._queue)
        self._outage = False
