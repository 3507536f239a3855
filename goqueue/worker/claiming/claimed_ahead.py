"""Jobs that this process claimed ahead of its threads: none waits long, and none begins that should not.

Claiming ahead makes short jobs quick, and holds up what was claimed behind long ones. So a thread watches
what waits here. As soon as the threads are busy with something longer, or a worker elsewhere has nothing to
do, all that has not begun goes back in one statement, with no attempt spent.

The clock is looked at when a thread takes a job; what people want of it (a pause, a cancel) is read once for
all jobs that wait, and again before a job begins when that was too long ago.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from goqueue.engine.runway.runway import Message
from goqueue.errors import GoQueueError
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_batch import JobBatch, messages_of
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.claiming.begin_notes import NOTE_SECONDS, BeginNotes
from goqueue.worker.claiming.returner import Returner
from goqueue.worker.claiming.wait_clock import WaitClock
from goqueue.worker.claiming.waiting_workers import WaitingWorkers
from goqueue.worker.claiming.wanted_changes import LOOK_SECONDS, WantedChanges
from goqueue.worker.claiming.work_queue import WorkQueue

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: How often what waits is looked at.
TICK_SECONDS = 0.0075

#: What waits for this long goes back when every thread is busy for longer, or when another worker waits for
#: it. With the look before, the statement, the push and the other's claim that makes less than 50 ms.
RETURN_SECONDS = 0.015

#: What waits for this long goes back in any case: with the statement that makes less than 250 ms.
LONGEST_WAIT_SECONDS = 0.2

#: The reason of what may not begin because PostgreSQL does not say whether it may.
UNKNOWN = "unknown"

#: Looks in a row without a job taken, after which the threads count as busy for longer.
STANDSTILL_TICKS = 2


# More methods than others have: one thread and one queue decide what begins, what goes back, and when.
class ClaimedAhead(BackgroundThread):
    """The work queue of one process and the thread that watches it."""

    def __init__(self, broker: JobBroker) -> None:
        super().__init__("claimed-ahead")
        self._broker = broker
        self._interrupts = broker.interrupts
        self._slots = broker.slots
        self.returner = Returner(broker.database, broker.runway, broker.claimed_jobs, broker.slots)
        #: What was claimed and no thread has taken.
        self.queue = WorkQueue(self.may_begin, lambda: broker.slots.runs_are_short)
        self._clock = WaitClock(TICK_SECONDS)
        self._changes = WantedChanges(broker.database, broker.claimed_jobs)
        self.waiting_workers = WaitingWorkers(broker.runway, broker.claimed_jobs)
        self._begin_notes = BeginNotes(broker.database, broker.claimed_jobs, broker.interrupts)
        self._asked_at = 0.0
        self._noted_at = 0.0
        self._ticks = False
        self._is_stopping = False
        self._something = threading.Event()
        self._stopping = threading.Event()

    def stop(self, timeout_seconds: float) -> None:
        """Give back what has not begun, and end."""
        self._stopping.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        self.returner.put(messages_of(self.queue.take_all()), "stopping")
        self.returner.flush()

    def drain(self) -> None:
        """Stop with the process: nothing begins any more, and what has not goes back at once."""
        self._is_stopping = True
        self.wake()

    def watch(self) -> None:
        """Look every tick from now on: more was claimed than a thread has taken."""
        if not self._ticks:
            self.wake()

    def wake(self) -> None:
        """Look now: something is to be given back, or the process stops."""
        if not self._something.is_set():
            self._something.set()

    def give_back(self, messages: list[JobMessage], reason: str) -> None:
        """Give these back soon; never blocks."""
        self.returner.put(messages, reason)
        self.wake()

    def doubt(self, runway: str, messages: Sequence[Message]) -> None:
        """Note that the answer to a claim was lost: whatever it claimed goes back soon."""
        self.returner.doubt(runway, messages)
        self.wake()

    def doubt_ranges(self, runway: str) -> None:
        """Note that the answer to a claim of ranges was lost: whatever it claimed goes back soon."""
        self.returner.doubt_ranges(runway)
        self.wake()

    def may_begin(self, message: JobMessage | JobBatch) -> bool:
        """Tell whether a job that a thread has taken may begin; one that may not goes back.

        Of a batch, each job by itself; the batch may begin where any may.
        """
        if isinstance(message, JobBatch):
            message.messages = [one for one in message.messages if self.may_begin(one)]
            if not message.messages:
                self._slots.leave_place(is_async=message.has_async_slot)
            return bool(message.messages)
        current = message.current
        is_fresh = time.monotonic() < current.fresh_until
        if is_fresh and current.interruption is None and not self._is_stopping:
            return True
        reason = self.reason_against(current)
        if reason is None:
            return True
        self.give_back([message], reason)
        return False

    def reason_against(self, current: JobAttempt) -> str | None:
        """Tell why a job may not begin now; None: it may. Asks PostgreSQL where it was asked too long ago."""
        now = time.monotonic()
        if self._broker.draining.is_set():
            return "stopping"
        if now >= current.begins_before:
            return "expired"
        if current.interruption is not None:
            return "stopped"
        try:
            return self._changes.against(current, now)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the thread)
            log.warning("changes_not_read", error=str(error))
            return UNKNOWN

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("claims_not_watched")
                self._stopping.wait(TICK_SECONDS)

    def _turn(self) -> None:
        self._something.wait(self._pause())
        self._something.clear()
        now = time.monotonic()
        self._clock.note(now, self.queue.sample())
        if self._clock.standstill:
            self.queue.wake_for_waiting()
        reason = self._reason_to_return(now)
        if reason is not None:
            self._return_all(reason)
        if self.returner.has_work:
            self.returner.flush()
        self._look_at_waiting(now)
        if now - self._noted_at >= NOTE_SECONDS:
            self._noted_at = now
            self._slots.note_stuck(self._count_stuck())
            self._begin_notes.write()

    def _pause(self) -> float:
        """Until the next look: a tick while something waits, or will when it was handed over."""
        # First false: whoever claims something after the look below wakes this thread.
        self._ticks = False
        self._ticks = self._slots.held > self._interrupts.armed or self.returner.has_work
        return TICK_SECONDS if self._ticks else NOTE_SECONDS

    def _reason_to_return(self, now: float) -> str | None:
        """Why what waits has to go back; None: it need not."""
        if not self.queue.qsize():
            return None
        if self._broker.draining.is_set():
            return "stopping"
        age = self._clock.age(now)
        if age < RETURN_SECONDS:
            return None
        if age >= LONGEST_WAIT_SECONDS:
            return "late"
        if self._clock.standstill >= STANDSTILL_TICKS and self._all_threads_are_busy():
            return "busy"
        return "wanted" if self._is_wanted_elsewhere(now) else None

    def _is_wanted_elsewhere(self, now: float) -> bool:
        if now - self._asked_at < RETURN_SECONDS:
            return False
        self._asked_at = now
        return self.waiting_workers.is_somebody_there()

    def _all_threads_are_busy(self) -> bool:
        """With jobs that run for longer than two looks: a process that gets no CPU stands still as well."""
        busy = self._interrupts.running_longer_than(STANDSTILL_TICKS * TICK_SECONDS * 0.75)
        return len(busy) >= self._slots.threads

    def _return_all(self, reason: str) -> None:
        wanted = reason == "wanted" or self.waiting_workers.is_somebody_there()
        self._slots.note_stuck(self._count_stuck())
        self._slots.back_off()
        self.returner.put(messages_of(self.queue.take_all()), reason)
        self.returner.flush(wanted=wanted)

    def _count_stuck(self) -> int:
        return len(self._interrupts.running_longer_than(self._broker.settings.prefetch_seconds))

    def _look_at_waiting(self, now: float) -> None:
        """Read what people want of jobs that wait for longer, so that no thread has to; pauses at once."""
        if self._clock.age(now) < LOOK_SECONDS:
            return
        try:
            is_paused = self._changes.look_when_old(now)
        except GoQueueError as error:
            # Whoever takes a job asks again.
            log.debug("changes_not_read", error=str(error))
            return
        if is_paused:
            self._return_all("paused")
