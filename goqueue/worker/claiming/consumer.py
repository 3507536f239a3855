"""The consumer of one queue: fetch from the runway, claim in PostgreSQL, hand over to Dramatiq's threads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import structlog
from dramatiq.broker import Consumer, MessageProxy

from goqueue import failpoints
from goqueue.engine.runway.runway import Fetched
from goqueue.errors import UnavailableError
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.middleware.job_batch import JobBatch, holds_place, messages_of
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import conclude_failure
from goqueue.observability import metrics
from goqueue.worker.claiming.claimer import Claimer, takes_no_more

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
        self._claimer = Claimer(broker, queue_name)
        self._claimed = self._claimer.claimed
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
        """Free the place of an ended attempt, and hand its outcome to the recorder. Never blocks."""
        assert isinstance(message, JobMessage)
        end_attempt(self._broker, message)

    #: A rejected message is one whose outcome says so.
    nack = ack

    def take_claimed(self) -> list[JobMessage]:
        """Take what was claimed and not yielded yet, in order."""
        claimed = list(self._claimed)
        self._claimed.clear()
        return claimed

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Claimed, but never started here: they go back with no attempt spent."""
        unbegun = messages_of(one for one in messages if isinstance(one, JobMessage | JobBatch))
        if unbegun:
            self._broker.claimed_ahead.give_back(unbegun, "stopping")

    def close(self) -> None:
        """Give back what was claimed and not handed over."""
        self.requeue(self.take_claimed())

    def _fetch_and_claim(self) -> None:
        """One turn: wait for room, fetch, take places, claim."""
        self._stop_waiting()
        if not self._wait_for_room():
            return
        self._claimer.claim_gathered()
        if self._claimed:
            return
        fetched = self._fetch()
        failpoints.hit("after_fetch")
        self._claimer.claim(fetched)

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
        if takes_no_more(self._broker) or not may_fetch:
            time.sleep(NOT_FETCHING_SECONDS)
            return False
        if self._alone and broker.claimed_jobs.quarantine_is_served:
            time.sleep(OUTAGE_PAUSE_SECONDS)
            return False
        if self._alone:
            return broker.slots.wait_for_idle(block) and self._all_is_recorded()
        return self._claimer.places.wait_for_room(block) > 0

    def _all_is_recorded(self) -> bool:
        """Whether what ran here before is recorded, which takes a moment.

        Who runs alone may take this process along, and with it the outcomes that are not written yet: the
        jobs would count as taken along, though they had ended.
        """
        if not len(self._broker.claimed_jobs):
            return True
        time.sleep(RECORDING_SECONDS)
        return False

    def _fetch(self) -> Fetched:
        """Entries; suspects come first, one at a time in a process."""
        broker, block = self._broker, self._broker.settings.fetch_block_seconds
        room = 1 if self._alone else self._claimer.places.wait_for_room(0)
        if room <= 0:
            return NOTHING
        count = max(1, room // self._claimer.jobs_per_entry)
        self._is_seen_waiting |= self._found_less and self._claimer.places.has_free_thread
        fetched = self._fetch_up_to(count, block)
        if not fetched.suspects:
            self._found_less = len(fetched.entries) < count
            if not self._found_less:
                broker.claimed_ahead.waiting_workers.note_full_fetch(self._queue)
        return fetched

    def _fetch_up_to(self, count: int, block_seconds: float) -> Fetched:
        slots = self._broker.slots
        take = partial(
            self._broker.runway.take, self._queue, count, signature=self._broker.known_types.signature
        )
        # Others hold no more than what threads are to begin: a worker that has none free wants nothing of it.
        waits = self._found_less and self._claimer.places.has_free_thread
        waits_as = self._broker.claimed_jobs.worker_id if waits else None
        if self._alone or not slots.has_suspect:
            return take(block_seconds=block_seconds, suspects=not self._alone, waits_as=waits_as)
        if slots.suspect_seconds > SHORT_SUSPECT_SECONDS:
            return take(block_seconds=min(block_seconds, BESIDE_SUSPECT_SECONDS), waits_as=waits_as)
        fetched = take(block_seconds=None)
        if not fetched.entries:
            slots.wait_for_suspect(SUSPECT_LOOK_SECONDS)
        return fetched

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


def end_attempt(broker: JobBroker, message: JobMessage) -> None:
    """Free the place of an ended attempt, and hand its outcome to the recorder. Never blocks."""
    if message.outcome is None:
        broker.decide_by_count(message)
        conclude_failure(message, message._exception)  # noqa: SLF001  (Dramatiq stuffs it there)
    current = message.current
    if not holds_place(current):
        # Its batch has the place, and gives it back when all of its jobs have ended.
        broker.recorder.put(message)
        return
    if current.has_async_slot:
        broker.slots.give_back_async(suspect=current.suspect, run_seconds=current.run_seconds)
    else:
        broker.slots.end_run(current.run_seconds, suspect=current.suspect, places=current.claimed.slots)
    broker.recorder.put(message)
