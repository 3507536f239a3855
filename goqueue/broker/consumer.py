"""The consumer of one queue: fetch from the runway, claim in PostgreSQL, hand over to Dramatiq's threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import structlog
from dramatiq.broker import Consumer, MessageProxy

from goqueue import failpoints, metrics
from goqueue.broker.counting import count_claim
from goqueue.broker.runway import Message, parse
from goqueue.errors import UnavailableError
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob
from goqueue.middleware.job_message import CurrentJob, JobMessage
from goqueue.middleware.lifecycle import conclude_failure
from goqueue.store import attempts as attempt_store

if TYPE_CHECKING:
    from goqueue.broker.job_broker import JobBroker

log = structlog.get_logger(__name__)

#: How long fetching pauses after a server did not answer.
OUTAGE_PAUSE_SECONDS = 0.5

#: How often a consumer that may not fetch (no lease, no room in the recorder, draining, quiet) looks again.
NOT_FETCHING_SECONDS = 0.05


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

    def __next__(self) -> JobMessage | None:
        """The next claimed job; None after a while without one."""
        self._broker.beats.turn(self._queue)
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
            conclude_failure(message, message._exception)  # noqa: SLF001  (Dramatiq stuffs it there)
        self._broker.slots.observe(message.current.run_seconds)
        self._broker.slots.give_back()
        self._broker.recorder.put(message)

    #: A rejected message is one whose outcome says so.
    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Claimed, but never started here: they go back with no attempt spent."""
        for message in messages:
            if isinstance(message, JobMessage):
                message.release()
                self._broker.slots.give_back()
                self._broker.recorder.put(message)

    def close(self) -> None:
        """Give back what was claimed and not handed over."""
        claimed = list(self._claimed)
        self._claimed.clear()
        self.requeue(claimed)

    def _fetch_and_claim(self) -> None:
        """One turn: wait for room, fetch, take places, claim."""
        if not self._wait_for_room():
            return
        entries = self._fetch()
        failpoints.hit("after_fetch")
        messages = self._take_places(self._drop_garbage(entries))
        if messages:
            self._claim(messages)

    def _wait_for_room(self) -> bool:
        broker = self._broker
        block = broker.settings.fetch_block_seconds
        may_fetch = broker.holdings.worker_id and broker.recorder.has_room()
        if self._is_closed() or not may_fetch:
            time.sleep(NOT_FETCHING_SECONDS)
            return False
        if self._alone and broker.holdings.quarantine_is_served:
            time.sleep(OUTAGE_PAUSE_SECONDS)
            return False
        if self._alone:
            return broker.slots.wait_for_idle(block)
        return broker.slots.wait_for_room(block) > 0

    def _is_closed(self) -> bool:
        """Whether this process takes no more jobs: they stay on the runway, for others."""
        return self._broker.draining.is_set() or self._broker.orders.is_quiet

    def _fetch(self) -> list[bytes]:
        broker = self._broker
        count = 1 if self._alone else broker.slots.wait_for_room(0)
        if count <= 0:
            return []
        return broker.runway.fetch(
            self._queue,
            count,
            block_seconds=broker.settings.fetch_block_seconds,
            signature=broker.known_types.signature,
        )

    def _drop_garbage(self, entries: Sequence[bytes]) -> list[Message]:
        messages, garbage = parse(entries)
        if garbage:
            metrics.GARBAGE_MESSAGES.inc(len(garbage))
            log.warning(
                "garbage_dropped", runway=self._queue, entries=len(garbage), sample=repr(garbage[0][:80])
            )
            self._broker.runway.acknowledge(self._queue, garbage)
        return messages

    def _take_places(self, messages: list[Message]) -> list[Message]:
        """Places were free when the fetch began; another queue's consumer may have taken them since."""
        slots = self._broker.slots
        if not messages:
            return []
        if self._is_closed():
            granted = 0
        else:
            granted = int(slots.take_all()) if self._alone else slots.take(len(messages))
        try:
            self._broker.runway.put_back(self._queue, messages[granted:])
        except UnavailableError:
            slots.give_back(granted)
            raise
        return messages[:granted]

    def _claim(self, messages: list[Message]) -> None:
        slots = self._broker.slots
        started = time.perf_counter()
        try:
            claimed = self._claim_rows(messages)
            failpoints.hit("after_claim")
        except BaseException:
            self._broker.holdings.doubt()
            slots.give_back(len(messages))
            raise
        # Before anything that may fail: what is claimed here must not be forgotten.
        for job in self._in_order(messages, claimed):
            self._keep(job)
        if len(claimed) < len(messages):
            self._drop_stale(messages, claimed)
        count_claim(claimed, time.perf_counter() - started)

    def _claim_rows(self, messages: list[Message]) -> list[ClaimedJob]:
        broker = self._broker
        with broker.database.autocommit() as connection:
            return attempt_store.claim(
                connection,
                messages,
                worker_id=broker.holdings.worker_id,
                lease_seconds=broker.settings.lease_seconds,
                known=broker.known_types,
            )

    def _drop_stale(self, messages: list[Message], claimed: list[ClaimedJob]) -> None:
        """No row came back: somebody else has it, it was cancelled or paused, or the message is a repeat."""
        alive = {(job.id, job.fence - 1) for job in claimed}
        stale = [message for message in messages if message not in alive]
        metrics.STALE_DELIVERIES.inc(len(stale))
        log.debug("stale_deliveries", runway=self._queue, messages=len(stale))
        self._broker.slots.give_back(len(stale))
        self._broker.runway.acknowledge(self._queue, [message.key for message in stale])

    @staticmethod
    def _in_order(messages: list[Message], claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        place = {message.job_id: number for number, message in enumerate(messages)}
        return sorted(claimed, key=lambda job: place[job.id])

    def _keep(self, job: ClaimedJob) -> None:
        current = CurrentJob(job, self._queue, self._broker.reporter, self._broker.results_of_parents)
        if self._broker.holdings.add(current):
            self._claimed.append(JobMessage(current, throws=self._broker.throws_of(job.type)))
        else:
            self._broker.slots.give_back()
            log.warning("claim_came_too_late", job_id=job.id, fence=job.fence)

    def _note_outage(self, error: UnavailableError) -> None:
        if not self._outage:
            metrics.FETCHING_PAUSED.inc()
            log.warning("fetching_paused", runway=self._queue, error=str(error))
        self._outage = True
        self._broker.beats.outages.add(self._queue)
        self._broker.draining.wait(OUTAGE_PAUSE_SECONDS)

    def _note_recovery(self) -> None:
        if self._outage:
            log.info("fetching_again", runway=self._queue)
            self._broker.beats.outages.discard(self._queue)
        self._outage = False
