"""The async jobs of a worker process: those that wait for its loop to turn, and those that run on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import structlog
from dramatiq.worker import ConsumerThread

from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.event_loop import EventLoopLostError, KeptEventLoop, kept_event_loop
from goqueue.middleware.job_batch import JobBatch, messages_of
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.async_jobs.attempt import AsyncAttempt
from goqueue.worker.async_jobs.event_loop_watch import EventLoopWatch
from goqueue.worker.batches.async_attempt import AsyncBatchAttempt

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: So many jobs begin in one turn of the loop, before those that run have their turn.
BEGINS_MAX = 50


class _Waiting(NamedTuple):
    """A claimed job, or a batch, that the loop has not taken; `may_begin`: PostgreSQL was asked just now."""

    consumer: ConsumerThread
    message: JobMessage | JobBatch
    put_at: float
    may_begin: bool = False


class AsyncJobs:
    """Begins async jobs on the event loop of their process. `put_some` and `take_waiting` are thread-safe."""

    def __init__(self, broker: JobBroker) -> None:
        self._broker = broker
        self._loop_thread: KeptEventLoop | None = None
        self._watch: EventLoopWatch | None = None
        self._waiting: deque[_Waiting] = deque()
        self._is_woken = False
        #: How many jobs the loop has taken so far.
        self.taken = 0
        self._running: dict[JobAttempt, AsyncAttempt] = {}
        self._none_runs = threading.Event()
        self._none_runs.set()
        #: What has waited for too long to begin without asking PostgreSQL what people want of it.
        self._unasked: deque[_Waiting] = deque()
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="async-begin")

    def start(self) -> None:
        """Use the event loop of this process from now on; on one of somebody else, threads wait for jobs."""
        self._loop_thread = kept_event_loop()
        if self._loop_thread is not None:
            self._loop_thread.on_replaced = self._end_lost
            self._watch = EventLoopWatch(self._broker, self, self._loop_thread)
            self._watch.start()

    def stop(self) -> None:
        """Give back what has not begun, and end the threads around the loop."""
        self._broker.claimed_ahead.give_back(self.take_waiting(), "stopping")
        self._asking.shutdown(wait=False, cancel_futures=True)
        if self._watch is not None:
            self._watch.stop()

    @property
    def is_watched(self) -> bool:
        """Tell whether the watch of the loop lives, where there is a loop."""
        return self._watch is None or self._watch.is_alive

    def runs(self, type_name: str) -> bool:
        """Tell whether jobs of this type run here as tasks."""
        return self._loop_thread is not None and self._broker.types.is_async(type_name)

    def put_some(self, consumer: ConsumerThread, messages: list[JobMessage]) -> list[JobMessage]:
        """Begin those claimed jobs that are async as soon as the loop turns; the others. Never blocks."""
        now = time.monotonic()
        own = [message for message in messages if self.runs(message.actor_name)]
        if own:
            self._put([_Waiting(consumer, message, now) for message in own])
        return [message for message in messages if not self.runs(message.actor_name)]

    def put_batch(self, batch: JobBatch) -> None:
        """Begin a batch as soon as the loop turns. Never blocks."""
        self._put([_Waiting(batch.consumer, batch, time.monotonic())])

    def _put(self, waiting: list[_Waiting]) -> None:
        self._waiting.extend(waiting)
        if self._watch is not None:
            self._watch.wake()
        self._wake()

    def take_waiting(self) -> list[JobMessage]:
        """Take what the loop has not taken: whoever has it gives it back."""
        taken: list[JobMessage | JobBatch] = []
        # No more than there are now: whoever puts must not keep the caller here.
        for _ in range(len(self._waiting)):
            with suppress(IndexError):
                taken.append(self._waiting.popleft().message)
        return messages_of(taken)

    @property
    def longest_wait_seconds(self) -> float:
        """The time that the first job has waited for the loop to turn; 0: none waits."""
        try:
            return time.monotonic() - self._waiting[0].put_at
        except IndexError:
            return 0.0

    @property
    def running(self) -> list[AsyncAttempt]:
        """The attempts that run now, in any thread's view of them."""
        return list(self._running.copy().values())

    @property
    def has_work(self) -> bool:
        """Tell whether some job runs on the loop, or waits for it."""
        return bool(self._running or self._waiting)

    def wait_until_none_runs(self, timeout_seconds: float) -> bool:
        """Wait for the end of all that runs; False when the time is over."""
        return self._none_runs.wait(timeout_seconds)

    def _wake(self) -> None:
        """Have the loop look, once however much is put meanwhile."""
        if self._is_woken or self._loop_thread is None:
            return
        self._is_woken = True
        try:
            self._loop_thread.loop.call_soon_threadsafe(self._begin_waiting)
        except RuntimeError:
            # It was closed: whoever replaces it looks.
            self._is_woken = False

    def _begin_waiting(self) -> None:
        self._is_woken = False
        size = self._broker.slots.asynchronous.size
        for _ in range(BEGINS_MAX):
            if len(self._running) >= size:
                # Whoever ends first looks again.
                return
            try:
                waiting = self._waiting.popleft()
            except IndexError:
                return
            self.taken += 1
            self._begin(waiting)
        self._wake()

    def _begin(self, waiting: _Waiting) -> None:
        """Begin a job; one that waited for too long is asked about first, and not by the loop."""
        message, claimed_ahead = waiting.message, self._broker.claimed_ahead
        if not waiting.may_begin:
            if time.monotonic() >= message.current.fresh_until:
                self._unasked.append(waiting)
                if len(self._unasked) == 1:
                    self._asking.submit(self._ask)
                return
            if not claimed_ahead.may_begin(message):
                return
        attempt = self._attempt_at(waiting, asyncio.get_running_loop())
        self._running[message.current] = attempt
        self._none_runs.clear()
        attempt.start()

    def _attempt_at(self, waiting: _Waiting, loop: asyncio.AbstractEventLoop) -> AsyncAttempt:
        message = waiting.message
        if isinstance(message, JobBatch):
            return AsyncBatchAttempt(self._broker, message, loop, self._forget)
        return AsyncAttempt(self._broker, waiting.consumer, message, loop, self._forget)

    def _ask(self) -> None:
        """Ask for all that the loop has put aside, and hand it back; not in its thread: it may wait."""
        asked = []
        while self._unasked:
            waiting = self._unasked[0]
            if self._broker.claimed_ahead.may_begin(waiting.message):
                asked.append(waiting._replace(put_at=time.monotonic(), may_begin=True))
            # Last: what is put aside beside it is asked about in this round.
            self._unasked.popleft()
        self._waiting.extendleft(reversed(asked))
        self._wake()

    def _forget(self, attempt: AsyncAttempt) -> None:
        self._running.pop(attempt.current, None)
        if not self._running:
            self._none_runs.set()
        if self._waiting:
            self._wake()

    def _end_lost(self) -> None:
        """Conclude what ran on a loop that was closed or broken, and go on with the new one."""
        error = "a handler closed or broke the event loop of its process"
        for attempt in self.running:
            attempt.end_lost(EventLoopLostError(error))
        self._is_woken = False
        self._wake()
