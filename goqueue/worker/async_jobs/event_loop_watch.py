"""The watch of the event loop: it names the handler that blocks it, and gives back what cannot begin.

While one handler computes or waits without `await`, no other async job of its process gets on. Whether the
loop turns can only be seen from another thread: it asks the loop for an answer, again and again, and when
none comes it looks where the code stands that runs there.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import structlog

from goqueue.middleware.current_job import CurrentJob
from goqueue.middleware.event_loop import KeptEventLoop
from goqueue.observability import metrics
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.execution import job_in

if TYPE_CHECKING:
    from goqueue.worker.async_jobs.async_jobs import AsyncJobs
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: A loop that has not answered for so long is blocked. It is asked so often that a block of a quarter of a
#: second is always seen.
BLOCKED_SECONDS = 0.2
ASK_SECONDS = 0.04

#: A claimed job that waits for so long goes back when another worker waits; a little later, when the loop has
#: taken none between two looks; after the longest wait in any case.
LATE_SECONDS = 0.025
STANDSTILL_SECONDS = 0.045
LATE_LOOK_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 0.2

#: What is told of where the code stands, and how often in the log of one attempt.
FRAMES = 12
TOLD_MAX = 3

#: What stands below a handler in the thread of the loop.
_BELOW = ("threading", "asyncio.", "uvloop.", "contextvars", "goqueue.worker.", "goqueue.middleware.")


class EventLoopWatch(BackgroundThread):
    """One thread that watches the loop while there is something on it."""

    def __init__(self, broker: JobBroker, jobs: AsyncJobs, loop_thread: KeptEventLoop) -> None:
        super().__init__("loop-watch")
        self._broker = broker
        self._jobs = jobs
        self._loop_thread = loop_thread
        #: When, and which loop; None: it has answered.
        self._asked_at: float | None = None
        self._asked: asyncio.AbstractEventLoop | None = None
        self._blocked_by: tuple[CurrentJob | None, float] | None = None
        self._told: dict[CurrentJob, int] = {}
        self._taken = 0
        self._something = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        """Watch from now on: there is something on the loop."""
        if not self._something.is_set():
            self._something.set()

    def stop(self) -> None:
        """Stop watching the loop."""
        self._stopping.set()
        self._something.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._something.wait()
                self._look()
            except Exception:
                log.exception("loop_not_watched")
            self._stopping.wait(LATE_LOOK_SECONDS if self._jobs.longest_wait_seconds else ASK_SECONDS)

    def _look(self) -> None:
        now = time.monotonic()
        if self._asked is not self._loop_thread.loop:
            # One that was replaced answers no more.
            self._asked_at = None
        if self._asked_at is None:
            self._note_turn(now)
            if not self._jobs.has_work:
                # Whoever puts a job after this wakes the thread again.
                self._something.clear()
                self._told.clear()
                if not self._jobs.has_work:
                    return
                self._something.set()
            self._ask(now)
        elif now - self._asked_at >= BLOCKED_SECONDS and self._blocked_by is None:
            self._tell_blocked(now - self._asked_at)
        taken, self._taken = self._taken, self._jobs.taken
        waited = self._jobs.longest_wait_seconds
        if waited >= LATE_SECONDS and self._is_late(waited, stands_still=taken == self._taken):
            self._give_back_late()

    def _is_late(self, waited: float, *, stands_still: bool) -> bool:
        if waited >= LONGEST_WAIT_SECONDS or (stands_still and waited >= STANDSTILL_SECONDS):
            return True
        return self._broker.claimed_ahead.waiting_workers.is_somebody_there()

    def _ask(self, now: float) -> None:
        self._asked, self._asked_at = self._loop_thread.loop, now
        try:
            self._asked.call_soon_threadsafe(self._answer)
        except RuntimeError:
            # It was closed, and is being replaced.
            self._asked_at = None

    def _answer(self) -> None:
        self._asked_at = None

    def _note_turn(self, now: float) -> None:
        """The loop turns: jobs may be claimed for it again."""
        self._broker.slots.note_async_stuck(is_stuck=False)
        if self._blocked_by is not None:
            current, since = self._blocked_by
            self._blocked_by = None
            job_id = None if current is None else current.id
            log.info("event_loop_turns_again", job_id=job_id, seconds=round(now - since, 3))

    def _give_back_late(self) -> None:
        """Let others have what the loop does not take, and claim no more for it than it has slots for.

        While it does not turn at all, nothing is claimed for it.
        """
        slots = self._broker.slots
        slots.asynchronous.back_off()
        if self._asked_at is not None and time.monotonic() - self._asked_at >= LATE_SECONDS:
            slots.note_async_stuck(is_stuck=True)
        late = self._jobs.take_waiting()
        if late:
            self._broker.claimed_ahead.give_back(late, "busy")

    def _tell_blocked(self, seconds: float) -> None:
        """Name who blocks the loop, with its stack: in the log, as a metric, and in the log of its job."""
        current, stack = self._blocking()
        if self._asked_at is None:
            return
        self._blocked_by = current, self._asked_at
        job_id, type_name = (None, "") if current is None else (current.id, current.type)
        metrics.EVENT_LOOP_BLOCKS.labels(type_name).inc()
        by = " < ".join(f"{entry.name} ({entry.filename}:{entry.lineno})" for entry in reversed(stack))
        log.warning("event_loop_held_up", job_id=job_id, type=type_name, seconds=round(seconds, 3), by=by)
        told = TOLD_MAX if current is None else self._told.get(current, 0)
        if current is not None and told < TOLD_MAX:
            self._told[current] = told + 1
            current.log(
                f"blocks the event loop of its process for more than {round(seconds * 1000)} ms, in\n"
                + "".join(traceback.format_list(stack))
            )

    def _blocking(self) -> tuple[CurrentJob | None, list[traceback.FrameSummary]]:
        """The job whose code runs in the loop now, and where it stands, the innermost last."""
        task = asyncio.current_task(self._loop_thread.loop)
        frame = sys._current_frames().get(self._loop_thread.ident or 0)  # noqa: SLF001  (there is no public way)
        frames = [] if frame is None else list(traceback.walk_stack(frame))
        own = [item for item in frames if not f"{item[0].f_globals.get('__name__', '')}.".startswith(_BELOW)]
        stack = traceback.StackSummary.extract(iter((own or frames)[:FRAMES]))
        return None if task is None else job_in(_context_of(task)), list(reversed(stack))


def _context_of(task: asyncio.Task[object]) -> contextvars.Context:
    """The context that a task runs in: a task that a handler has made runs in one with its job, too."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    found = (held for held in gc.get_referents(task) if isinstance(held, contextvars.Context))
    return next(found, contextvars.Context())
