"""The skeleton that every background role shares, and the loop that runs it while this process leads."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import DatabaseUnavailableError, UnavailableError
from goqueue.observability import metrics
from goqueue.scheduler.parts import Parts

if TYPE_CHECKING:
    from goqueue.scheduler.loop_watch import LoopWatch

log = structlog.get_logger(__name__)

R = TypeVar("R")

Counts = dict[str, int]

#: Waits for so many seconds; a shutdown ends the wait.
Pause = Callable[[float], object]

#: The pause after a server did not answer or a round failed.
FAILURE_PAUSE_SECONDS = 1.0


class Service(ABC):
    """A background role: one round of its work, and how long to wait before the next.

    Attributes:
        name: the role, in log lines and metrics.
        parts: the parts of a round that fail apart.

    Args:
        settings, database: what the role works with.
        pause: waits between rounds.
        wake: wakes the dispatcher, best effort.
    """

    name: ClassVar[str]

    def __init__(
        self, settings: Settings, database: Database, pause: Pause, wake: Callable[[], object] = bool
    ) -> None:
        self._settings = settings
        self._database = database
        self._pause = pause
        self._wake = wake
        self.parts = Parts(self.name)

    @abstractmethod
    def run_once(self) -> Counts:
        """Do what is to be done now; how much of what was done."""

    @abstractmethod
    def pause(self, counts: Counts) -> None:
        """Wait until the next round is due."""


def run_loop(service: Service, stopping: threading.Event, watch: LoopWatch | None = None) -> None:
    """Run a service's rounds until `stopping` is set. A failed round is logged, and the next one comes.

    Args:
        service: whose rounds.
        stopping: ends the loop after a round.
        watch: is told of each step, for the liveness of the process.
    """
    while not stopping.is_set():
        try:
            if watch is not None:
                watch.begin(service.name)
            counts = _round(service)
            if watch is not None:
                watch.rest(service.name)
            service.pause(counts)
        except UnavailableError as error:
            metrics.SERVICE_FAILURES.labels(service.name).inc()
            log.warning("service_postponed", service=service.name, error=str(error))
            if watch is not None:
                watch.postpone(service.name)
            stopping.wait(FAILURE_PAUSE_SECONDS)
        except Exception:
            metrics.SERVICE_FAILURES.labels(service.name).inc()
            log.exception("service_failed", service=service.name)
            if watch is not None:
                watch.fail(service.name)
            stopping.wait(FAILURE_PAUSE_SECONDS)
    if watch is not None:
        watch.end(service.name)


def passing_over_locked(do: Callable[[bool], R]) -> R:
    """Do something that waits for locks; where one does not come, do it again and leave what is locked.

    Args:
        do: is told whether to leave what is locked.
    """
    try:
        return do(False)  # noqa: FBT003  (its meaning stands above)
    except DatabaseUnavailableError as error:
        if not error.may_be_the_statement:
            raise
        log.warning("locked_rows_passed_over", error=str(error))
        return do(True)  # noqa: FBT003


def _round(service: Service) -> Counts:
    started = time.monotonic()
    counts = service.run_once()
    seconds = time.monotonic() - started
    metrics.SERVICE_ROUND_DURATION.labels(service.name).observe(seconds)
    if any(counts.values()):
        log.debug("service_round", service=service.name, seconds=seconds, **counts)
    return counts
