"""Looks once a second whether every thread of a worker process that jobs depend on is alive and turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from goqueue.middleware.event_loop import kept_event_loop
from goqueue.worker.background_thread import BackgroundThread

if TYPE_CHECKING:
    from dramatiq import Worker

    from goqueue.worker.broker import JobBroker
    from goqueue.worker.lease import Lease

__all__ = ["ThreadWatch"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0

#: An event loop that has not turned for so long is worth a line that says what holds it.
BLOCKED_SECONDS = 5.0


class ThreadWatch(BackgroundThread):
    """One thread that looks after the others of its process.

    A thread that has died cannot be started again without what it held: the process is told to end, gives
    back what it can, and another takes its place. An event loop that a handler blocks is said, in the log and
    by the liveness, because it may turn again.

    Args:
        broker, worker, lease: whose threads.
        replace: makes this process end, and be replaced.
    """

    def __init__(
        self, broker: JobBroker, worker: Worker, lease: Lease, replace: Callable[[], object]
    ) -> None:
        super().__init__("thread-watch")
        self._broker = broker
        self._worker = worker
        self._lease = lease
        self._replace = replace
        self._is_told = False
        self._blocked_is_told = False

    def _run(self) -> None:
        while not self._broker.draining.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("threads_not_looked_at")
        if not self._is_told:
            self._broker.heartbeats.problem = ""

    def _look(self) -> None:
        dead = list(self._dead())
        self._broker.heartbeats.problem = f"has lost {', '.join(dead)}" if dead else self._blocked_loop()
        # In between it may have begun to drain, when threads do end.
        if dead and not self._is_told and not self._broker.draining.is_set():
            self._is_told = True
            log.error("threads_died", threads=dead)
            self._replace()

    def _dead(self) -> Iterator[str]:
        if not all(thread.is_alive() for thread in self._worker.workers):
            yield "a worker thread"
        for queue, thread in self._worker.consumers.copy().items():
            if not thread.is_alive():
                yield f"the consumer of {queue}"
        broker, loop = self._broker, kept_event_loop()
        are_alive = {
            "the recorder": broker.recorder.is_alive,
            "the watch of claimed jobs": broker.claimed_ahead.is_alive,
            "the reporter": broker.reporter.is_alive,
            "the watch of time limits": broker.interrupts.is_alive,
            "the thread that renews its lease": self._lease.is_alive,
            "the collector of its batches": broker.batches.is_watched,
            "the watch of its event loop": broker.async_jobs.is_watched,
            "its event loop": loop is None or (loop.is_alive() and not loop.is_lost()),
        }
        yield from (name for name, is_alive in are_alive.items() if not is_alive)

    def _blocked_loop(self) -> str:
        """What is wrong with the event loop; empty when it turns."""
        loop = kept_event_loop()
        seconds = 0.0 if loop is None else loop.stuck_seconds()
        if loop is None or seconds < BLOCKED_SECONDS:
            self._blocked_is_told = False
            return ""
        if not self._blocked_is_told:
            self._blocked_is_told = True
            log.warning("event_loop_blocked", seconds=round(seconds), by=loop.doing())
        if seconds < self._broker.settings.liveness_seconds:
            return ""
        return f"has not turned its event loop for {seconds:.0f} s"
