"""Parts of a round that fail apart: what one queue, row or step raises is not the affair of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

import structlog

from goqueue import failpoints
from goqueue.errors import UnavailableError
from goqueue.observability import metrics

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: How long a part that failed is left alone.
REST_SECONDS = 1.0


class Parts:
    """Runs parts of a service's rounds, and remembers which of them fail.

    A server that does not answer is everybody's affair: that ends the round, and is no failure of a part.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        #: Since when each part has failed, every time (monotonic); and until when it is left alone.
        self._failing: dict[str, float] = {}
        self._rests: dict[str, float] = {}

    def run(self, name: str, part: Callable[[], T], otherwise: T) -> T:
        """Run a part for what it returns; `otherwise` where it fails, or has failed a moment ago.

        Raises:
            UnavailableError: PostgreSQL or Redis does not answer.
        """
        now = time.monotonic()
        if now < self._rests.get(name, 0.0):
            return otherwise
        try:
            result = part()
        except (UnavailableError, failpoints.FailpointError):
            # The latter stands for a process that dies here: nothing goes on.
            raise
        except Exception:
            metrics.SERVICE_FAILURES.labels(self._service).inc()
            log.exception("service_part_failed", service=self._service, part=name)
            self._failing.setdefault(name, now)
            self._rests[name] = time.monotonic() + REST_SECONDS
            return otherwise
        if self._failing:
            self._failing.pop(name, None)
            self._rests.pop(name, None)
        return result

    def note(self, name: str, *, failed: bool) -> None:
        """Note whether a part failed that somebody else ran."""
        if failed:
            self._failing.setdefault(name, time.monotonic())
        else:
            self._failing.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget every other part: it is gone."""
        for name in self._failing.keys() - set(names):
            del self._failing[name]
            self._rests.pop(name, None)

    def failing_seconds(self, name: str | None = None) -> float:
        """Tell for how long a part has failed every time; without a name, the longest of all."""
        failing = self._failing.copy()
        began = failing.get(name) if name is not None else min(failing.values(), default=None)
        return 0.0 if began is None else time.monotonic() - began
