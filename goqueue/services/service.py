"""The skeleton that every background role shares, and the loop that runs it while this process leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from goqueue.errors import UnavailableError

log = structlog.get_logger(__name__)

Counts = dict[str, int]

#: Waits for so many seconds; a shutdown ends the wait.
Pause = Callable[[float], object]

#: The pause after a server did not answer or a round failed.
FAILURE_PAUSE_SECONDS = 1.0


class Service(Protocol):
    """A background role: one round of its work, and how long to wait before the next."""

    name: str

    def run_once(self) -> Counts:
        """Do what is to be done now; how much of what was done."""

    def pause(self, counts: Counts) -> None:
        """Wait until the next round is due."""


def run_loop(service: Service, stopping: threading.Event) -> None:
    """Run a service's rounds until `stopping` is set. A failed round is logged, and the next one comes."""
    while not stopping.is_set():
        started = time.monotonic()
        try:
            counts = service.run_once()
            if any(counts.values()):
                log.debug("service_round", service=service.name, seconds=time.monotonic() - started, **counts)
            service.pause(counts)
        except UnavailableError as error:
            log.warning("service_postponed", service=service.name, error=str(error))
            stopping.wait(FAILURE_PAUSE_SECONDS)
        except Exception:
            log.exception("service_failed", service=service.name)
            stopping.wait(FAILURE_PAUSE_SECONDS)
