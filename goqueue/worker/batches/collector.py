"""The collector: puts claimed jobs of batch types together, and hands a batch over when it is full or due.

A batch has its place from its first job on, so the jobs in it wait for no thread: those that join it give the
place back which was taken for them. What needs a batch of its own, and finds no place for one, goes back.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import structlog
from dramatiq.worker import ConsumerThread

from goqueue.engine.options.batch import Batch
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.middleware.job_batch import JobBatch, holds_place, leave_place
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.batches.open_batches import BatchKey, OpenBatch, OpenBatches
from goqueue.worker.claiming.claimed_ahead import UNKNOWN

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["BatchCollector"]

log = structlog.get_logger(__name__)

#: A job that expires, or has a deadline, is not kept waiting for others until it has no more than this left.
SPARE_SECONDS = 0.02


#: So many claimed jobs for each that is kept, no more.
WASTED_MAX = 10

#: A batch that waits for longer is looked at so often: whether people still want its jobs to begin.
LOOK_SECONDS = 0.08


class _Collected:
    """A claimed job, and who claimed it."""

    __slots__ = ("consumer", "message")

    def __init__(self, message: JobMessage, consumer: ConsumerThread) -> None:
        self.message = message
        self.consumer = consumer


class BatchCollector(BackgroundThread):
    """One thread that closes batches in time, from the first job on; its other methods are thread-safe."""

    def __init__(self, broker: JobBroker) -> None:
        super().__init__("batches")
        self._broker = broker
        self._open: OpenBatches[_Collected] = OpenBatches(self._close, self._take_place)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._is_started = False
        self._is_stopping = False
        #: How much of full batches is claimed, by queue: less where most of it is of keys without a place.
        self.claim_scales: dict[str, float] = {}
        #: When the thread looks again, by the monotonic clock.
        self._sleeps_until = math.inf
        #: Places of jobs that joined a batch, of threads and of the event loop: for the next, or to return.
        self._spare = {False: 0, True: 0}

    @property
    def is_watched(self) -> bool:
        """Tell whether its thread lives, once there is one."""
        return not self._is_started or self._is_stopping or self.is_alive

    def put_some(self, consumer: ConsumerThread, messages: list[JobMessage]) -> list[JobMessage]:
        """Collect those claimed jobs whose types are batched, in their order; the others. Never blocks."""
        batch_of = self._broker.types.batch_of
        others: list[JobMessage] = []
        without_place: list[JobMessage] = []
        now = time.monotonic()
        with self._lock:
            for message in messages:
                options = batch_of(message.actor_name)
                if options is None:
                    others.append(message)
                elif not self._collect(_Collected(message, consumer), options, now):
                    without_place.append(message)
            for queue, type_name in {(one.current.queue, one.actor_name) for one in without_place}:
                # What comes next is of other keys, and finds no place either: nobody joins them any more.
                self._open.close_of(queue, type_name)
            self._learn(messages, without_place)
            # Last: a batch that waits for nobody takes all that came with its first job.
            self._open.close_due(now)
            self._give_back_spare()
            is_due_sooner = self._open.next_due_at < self._sleeps_until
        if without_place:
            self._broker.claimed_ahead.give_back(without_place, "busy")
        if is_due_sooner:
            self._wake()
        return others

    def room_in(self, queue: str) -> int:
        """Tell how many more jobs of a queue the open batches take."""
        with self._lock:
            return self._open.room_in(queue)

    def drain(self) -> None:
        """Give back what is collected and not handed over: it would begin after the stop."""
        with self._lock:
            taken = self._open.take_all()
        for batch in taken:
            self._broker.claimed_ahead.give_back(self._batch_of(batch).dissolved(), "stopping")

    def stop(self) -> None:
        """Give back what is collected, and end the thread."""
        self._is_stopping = True
        self._changed.set()
        self.drain()

    def _collect(self, item: _Collected, options: Batch, now: float) -> bool:
        """Add a job to its batch; False: there is no place for another batch."""
        current = item.message.current
        claimed = current.claimed
        if self._broker.draining.is_set():
            self._broker.claimed_ahead.give_back([item.message], "stopping")
            return True
        if current.suspect or current.runway == QUARANTINE_QUEUE:
            # Who may take its process along runs without neighbours.
            alone = OpenBatch[_Collected](BatchKey(claimed.queue, claimed.type), options, now)
            alone.items.append(item)
            self._close(alone)
            return True
        if holds_place(current):
            self._spare[current.has_async_slot] += 1
            leave_place(current)
        text = claimed.payload
        has_time = claimed.expires_seconds is None and claimed.deadline_seconds is None
        return self._open.add(
            BatchKey(claimed.queue, claimed.type, options.key_of(text)),
            item,
            payload_bytes=len(text) if text.isascii() else len(text.encode()),
            options=options,
            now=now,
            due_by=math.inf if has_time else current.begins_before - SPARE_SECONDS,
        )

    def _learn(self, messages: list[JobMessage], without_place: list[JobMessage]) -> None:
        """Claim less at a time of a queue with so many keys that hardly anything of it can be kept.

        A claim that goes back costs as much as one that is kept: for each of these, a few are worth it.
        """
        if not messages:
            return
        queue, kept = messages[0].queue_name, len(messages) - len(without_place)
        scale = self.claim_scales.get(queue, 1.0)
        if kept * WASTED_MAX < len(messages):
            self.claim_scales[queue] = scale / 2
        elif not without_place and scale < 1:
            self.claim_scales[queue] = scale * 2

    def _take_place(self, item: _Collected) -> bool:
        """Take the place of a new batch: one that a job brought along, or else a free one."""
        is_async = self._broker.types.is_async(item.message.actor_name)
        if self._spare[is_async]:
            self._spare[is_async] -= 1
            return True
        slots = self._broker.slots
        return bool(slots.take_async(1) if is_async else slots.take(1))

    def _give_back_spare(self) -> None:
        spare, self._spare = self._spare, {False: 0, True: 0}
        if spare[False]:
            self._broker.slots.give_back(spare[False])
        if spare[True]:
            self._broker.slots.give_back_async(spare[True])

    def _close(self, batch: OpenBatch[_Collected]) -> None:
        """Hand a batch over, within the lock, so that they begin in the order in which they are closed."""
        whole = self._batch_of(batch)
        if self._broker.async_jobs.runs(whole.actor_name):
            self._broker.async_jobs.put_batch(whole)
        else:
            self._broker.claimed_ahead.queue.put(whole)

    def _batch_of(self, batch: OpenBatch[_Collected]) -> JobBatch:
        messages = [item.message for item in batch.items]
        first = messages[0].current
        is_async = self._broker.types.is_async(batch.key.type)
        if holds_place(first):  # who runs alone has kept the place that it was claimed with
            is_async = first.has_async_slot
            leave_place(first)
        return JobBatch(messages, batch.items[0].consumer, has_async_slot=is_async)

    def _wake(self) -> None:
        if not self._is_started:
            self._is_started = True
            self.start()
        self._changed.set()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._turn()
            except Exception:
                log.exception("batches_not_closed")
                self._changed.wait(SPARE_SECONDS)

    def _turn(self) -> None:
        with self._lock:
            self._open.close_due(time.monotonic())
            self._sleeps_until = due_at = self._open.next_due_at
        left = due_at - time.monotonic()
        if left > LOOK_SECONDS and due_at < math.inf:
            self._changed.wait(LOOK_SECONDS)
            self._look_at_waiting()
        elif left > 0:
            self._changed.wait(None if left == math.inf else left)
        self._changed.clear()

    def _look_at_waiting(self) -> None:
        """Give back what nobody wants to begin any more of what has waited for longer: paused, cancelled."""
        with self._lock:
            waiting = self._open.opened_before(time.monotonic() - LOOK_SECONDS)
        # Not under the lock: PostgreSQL is asked, once for all of them. What is handed over meanwhile is
        # looked at again before it begins.
        reasons = {item: self._broker.claimed_ahead.reason_against(item.message.current) for item in waiting}
        # What PostgreSQL does not say now, it says before the batch begins.
        unwanted = {item: reason for item, reason in reasons.items() if reason not in {None, UNKNOWN}}
        if not unwanted:
            return
        with self._lock:
            removed, empty = self._open.remove(unwanted)
        for item in removed:
            self._broker.claimed_ahead.give_back([item.message], unwanted[item])
        for batch in empty:
            self._broker.slots.leave_place(is_async=self._broker.types.is_async(batch.key.type))
