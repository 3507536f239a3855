"""The replacement of a worker process that has run so many jobs, or takes so much memory."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import structlog

from goqueue.jobs import ShutdownReason
from goqueue.observability import metrics
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.health import own_memory_bytes
from goqueue.worker.shutdown_reason import Note, is_kept, leave_note

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["WorkerRecycling"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5

#: Each process draws its own limits, lower by up to this share: those that were started together, and have
#: equal work, would reach them together.
JITTER = 0.1

#: A process that is too large so soon was so when it started: its successor would be, too.
MEMORY_LOOK_AFTER_SECONDS = 10.0

_MEBIBYTE = 1 << 20


class WorkerRecycling(BackgroundThread):
    """One thread of a process of Dramatiq's command that asks for its replacement when a limit is reached.

    Under `goqueue worker` the process works on until the one in its place fetches, and is then told to stop.
    Under Dramatiq's own command nobody can take its place: it drains, and the group ends with it.

    Args:
        broker: whose process.
    """

    def __init__(self, broker: JobBroker) -> None:
        super().__init__("recycling")
        self._broker = broker
        settings = broker.settings
        self._jobs = _drawn(settings.worker_max_jobs)
        self._memory_bytes = _drawn(settings.worker_max_memory_mib, _MEBIBYTE)
        self._started_at = time.monotonic()
        self._is_announced = False
        #: The limit that was reached.
        self.reason: ShutdownReason | None = None

    def _run(self) -> None:
        while not self._broker.draining.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("recycling_failed")

    def _look(self) -> None:
        if not self._is_announced and self._broker.claimed_jobs.worker_id:
            leave_note(self._broker.settings, Note.FETCHING)
            self._is_announced = True
        if self._is_announced and self.reason is None and (reason := self._reached()) is not None:
            self.reason = reason
            self._ask(reason)

    def _reached(self) -> ShutdownReason | None:
        if self._jobs and self._broker.slots.ended >= self._jobs:
            return ShutdownReason.MAX_JOBS
        if self._memory_bytes and time.monotonic() - self._started_at >= MEMORY_LOOK_AFTER_SECONDS:
            memory_bytes = own_memory_bytes()
            if memory_bytes is not None and memory_bytes >= self._memory_bytes:
                return ShutdownReason.MAX_MEMORY
        return None

    def _ask(self, reason: ShutdownReason) -> None:
        metrics.WORKERS_RECYCLED.labels(reason).inc()
        log.info(
            "worker_recycled",
            reason=reason,
            jobs=self._broker.slots.ended,
            memory_bytes=own_memory_bytes(),
        )
        if is_kept(self._broker.settings):
            leave_note(self._broker.settings, Note.REPLACE, reason)
        else:
            self._broker.received_commands.end_process()


def _drawn(limit: int | None, unit: int = 1) -> int:
    """The limit of this process; 0 is none."""
    return 0 if limit is None else max(1, round(limit * unit * (1 - JITTER * random.random())))  # noqa: S311  (a jitter)
