"""Waiting for jobs: one thread looks at the runways that remote workers wait for, and wakes these.

It looks while somebody waits, and not at all otherwise. What it goes by is how many entries stand there, so
it matters not when they came: an entry wakes the first of those who may take it, and no second one until the
first has looked.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from goqueue.config.settings import Settings
from goqueue.engine.runway.fetching import WaitingEntries
from goqueue.engine.runway.runway import Runway
from goqueue.engine.workers.remote_worker_rows import RemoteStanding
from goqueue.errors import GoQueueError, RedisUnavailableError
from goqueue.forks import call_in_children
from goqueue.jobs import QUARANTINE_QUEUE

__all__ = ["LeaseWaiters"]

log = structlog.get_logger(__name__)

#: How often the runways are looked at while somebody waits for one.
LOOK_SECONDS = 0.002

#: The quarantine is looked at no more often: what is there may be for nobody who waits here.
QUARANTINE_SECONDS = 0.5

#: Whoever was woken and has not looked by then will not: its client has gone.
LOOKS_WITHIN_SECONDS = 1.0

#: How long looking pauses after Redis did not answer.
OUTAGE_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits for a job.

    Attributes:
        wake: lets it look again.
        standing: of its worker, when it began to wait.
    """

    queue: str
    signature: str
    standing: RemoteStanding
    wake: Callable[[], None]

    @property
    def takes_jobs(self) -> bool:
        """Whether its worker would be given a job."""
        return self.standing.command is None and not self.standing.runs_alone


@dataclass(slots=True)
class _Queue:
    """Those who wait for one queue, in the order in which they came, and who was woken and has not looked."""

    waiters: dict[_Waiter, None] = field(default_factory=dict)
    woken_at: deque[float] = field(default_factory=deque)


class LeaseWaiters:
    """Wakes remote workers that wait. Thread-safe.

    Args:
        settings: how often a lease is renewed.
        runway: what they wait for.
        renew: renews the leases of workers, and tells their standing; who is left out has none any more.
    """

    def __init__(
        self,
        settings: Settings,
        runway: Runway,
        renew: Callable[[Iterable[int]], Mapping[int, RemoteStanding]],
    ) -> None:
        self._runway = runway
        self._renew = renew
        self._renew_seconds = min(settings.heartbeat_seconds, settings.lease_seconds / 3)
        self._begin()
        call_in_children(self._begin)

    def _begin(self) -> None:
        """Begin anew, also in a forked child, which has none of its parent's threads and requests."""
        self._changed = threading.Condition()
        self._queues = defaultdict[str, _Queue](_Queue)
        self._thread: threading.Thread | None = None
        self._renew_at = 0.0
        self._quarantine_at = 0.0

    def watch(
        self, queue: str, signature: str, standing: RemoteStanding, wake: Callable[[], None]
    ) -> Callable[[], None]:
        """Wake a request when there may be a job for it, or something is wanted of its worker.

        Returns what ends that. Neither blocks.
        """
        waiter = _Waiter(queue, signature, standing, wake)
        with self._changed:
            self._queues[queue].waiters[waiter] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-waiters", daemon=True)
                self._thread.start()
            self._changed.notify()
        return lambda: self._leave(waiter)

    def note_look(self, queue: str) -> None:
        """Note that a request that was woken has taken what it found."""
        with self._changed:
            found = self._queues.get(queue)
            if found is not None and found.woken_at:
                found.woken_at.popleft()

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        with self._changed:
            return sum(len(one.waiters) for one in self._queues.values())

    def _leave(self, waiter: _Waiter) -> None:
        with self._changed:
            self._queues[waiter.queue].waiters.pop(waiter, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._forget_empty()
                self._changed.wait_for(lambda: any(one.waiters for one in self._queues.values()))
                signatures = {
                    queue: {waiter.signature for waiter in one.waiters}
                    for queue, one in self._queues.items()
                    if one.waiters
                }
            try:
                self._look(signatures)
            except RedisUnavailableError as error:
                log.debug("waiting_without_redis", error=str(error))
                time.sleep(OUTAGE_SECONDS)
            except Exception:
                log.exception("waiting_failed")
                time.sleep(OUTAGE_SECONDS)
            self._renew_leases()
            time.sleep(LOOK_SECONDS)

    def _forget_empty(self) -> None:
        for queue in [queue for queue, one in self._queues.items() if not one.waiters and not one.woken_at]:
            del self._queues[queue]

    def _look(self, signatures: Mapping[str, set[str]]) -> None:
        now = time.monotonic()
        looks_at_quarantine = now >= self._quarantine_at
        if looks_at_quarantine:
            self._quarantine_at = now + QUARANTINE_SECONDS
            signatures = {**signatures, QUARANTINE_QUEUE: set().union(*signatures.values())}
        entries = self._runway.waiting_entries(signatures)
        alone = entries.pop(QUARANTINE_QUEUE, None)
        with self._changed:
            woken = [waiter for queue, found in entries.items() for waiter in self._chosen(queue, found, now)]
            if alone is not None:
                woken += [
                    one
                    for one in self._of_all()
                    if one.takes_jobs and (alone.common or alone.lanes.get(one.signature))
                ]
            for waiter in woken:
                self._queues[waiter.queue].waiters.pop(waiter, None)
        for waiter in woken:
            waiter.wake()

    def _of_all(self) -> list[_Waiter]:
        return [waiter for one in self._queues.values() for waiter in one.waiters]

    def _chosen(self, queue: str, found: WaitingEntries, now: float) -> list[_Waiter]:
        """The first of those who wait for a queue, one for each entry that nobody was woken for yet."""
        here = self._queues[queue]
        while here.woken_at and here.woken_at[0] < now - LOOKS_WITHIN_SECONDS:
            here.woken_at.popleft()
        left = found.common + sum(found.lanes.values()) - len(here.woken_at)
        common, lanes = found.common, dict(found.lanes)
        chosen: list[_Waiter] = []
        for waiter in here.waiters:
            if len(chosen) >= left:
                break
            if not waiter.takes_jobs:
                continue
            if lanes.get(waiter.signature, 0) > 0:
                lanes[waiter.signature] -= 1
            elif common > 0:
                common -= 1
            else:
                continue
            chosen.append(waiter)
        here.woken_at.extend([now] * len(chosen))
        return chosen

    def _renew_leases(self) -> None:
        """Renew the leases of those who wait; who is told something, or has none any more, is woken."""
        now = time.monotonic()
        if now < self._renew_at:
            return
        self._renew_at = now + self._renew_seconds
        with self._changed:
            waiters = self._of_all()
        if not waiters:
            return
        try:
            standings = self._renew({waiter.standing.worker_id for waiter in waiters})
        except GoQueueError as error:
            log.warning("waiting_leases_not_renewed", workers=len(waiters), error=str(error))
            return
        for waiter in waiters:
            if standings.get(waiter.standing.worker_id) != waiter.standing:
                self._leave(waiter)
                waiter.wake()
