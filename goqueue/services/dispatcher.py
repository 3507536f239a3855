"""The dispatcher: turns ready rows into pushes, by rank.

Due run-ats and retries, the backlog, rows whose push was lost or whose Redis was wiped: for it they are all the
same, rows that are queued, due, and not on the runway. It keeps no state that matters: a new leader starts
with the next round.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby

from goqueue import failpoints
from goqueue.broker.runway import Message, Runway
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.services.service import Counts
from goqueue.store import queues as queue_store
from goqueue.store import ready as ready_store
from goqueue.store import workers as worker_store

#: How often the worker threads of each queue are counted, and message hashes swept.
WORKERS_SECONDS = 1.0
SWEEP_SECONDS = 60.0

#: Entries of the message hash older than this belong to nobody; see `Runway.forget_older_than`.
FORGET_SECONDS = 600.0


@dataclass(slots=True)
class RunwayLimit:
    """How long one queue's runway may be: long enough to last from round to round, and no longer.

    It starts at twice the worker threads that listen (at least the setting's minimum). Found empty while
    there was a backlog, it doubles; found more than half full at a refill, it shrinks a little.
    """

    floor: int
    ceiling: int
    value: int

    def adapt(self, length: int, *, backlog: bool) -> None:
        """Learn from what the last round left: `length` entries, with or without more rows waiting."""
        if backlog and length == 0:
            self.value = min(self.ceiling, self.value * 2)
        elif length > self.value // 2:
            self.value = max(self.floor, self.value * 15 // 16)
        self.value = max(self.floor, self.value)


class Dispatcher:
    """Pushes ready rows of every queue. One runs at a time; two would only do the work twice."""

    name = "dispatcher"

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._limits: dict[str, RunwayLimit] = {}
        self._backlogs: set[str] = set()
        self._queues: list[str] = []
        self._counted_at = -WORKERS_SECONDS
        self._swept_at = time.monotonic()

    def run_once(self) -> Counts:
        """One round: make due, refill the runways, send the suspects to the quarantine."""
        failpoints.hit("in_dispatch")
        self._count_workers_now_and_then()
        counts = {"due": self._make_due(), "pushed": 0, "again": 0, "suspects": 0}
        self._refill(counts)
        counts["suspects"] = self._quarantine()
        counts["forgotten"] = self._sweep_now_and_then()
        return counts

    def pause(self, counts: Counts) -> None:
        """A moment while there is a backlog; otherwise until a submit asks or the idle time is over."""
        if self._backlogs or counts["due"]:
            time.sleep(self._settings.dispatch_busy_seconds)
        else:
            self._runway.wait_for_wake(self._settings.dispatch_idle_seconds)

    def _count_workers_now_and_then(self) -> None:
        if time.monotonic() - self._counted_at < WORKERS_SECONDS:
            return
        self._counted_at = time.monotonic()
        with self._database.autocommit() as connection:
            self._queues = [queue.name for queue in queue_store.list_all(connection)]
            threads = worker_store.threads_by_queue(connection, lease_seconds=self._settings.lease_seconds)
        for queue in self._queues:
            floor = max(self._settings.runway_min, 2 * threads.get(queue, 0))
            limit = self._limits.setdefault(queue, RunwayLimit(floor, self._settings.runway_max, floor))
            limit.floor = min(floor, limit.ceiling)

    def _make_due(self) -> int:
        with self._database.autocommit() as connection:
            return ready_store.make_due(connection, head_start_seconds=self._settings.priority_head_start_seconds)

    def _refill(self, counts: Counts) -> None:
        """Push to every runway that is less than half full, as many rows as it may hold and one to look ahead."""
        wanted = self._wanted()
        if not wanted:
            return
        with self._database.autocommit() as connection:
            rows = ready_store.next_ready(connection, wanted)
        ready = {queue: list(group) for queue, group in groupby(rows, key=lambda row: row.queue)}
        for queue, count in wanted.items():
            messages = [Message(row.id, row.fence) for row in ready.get(queue, ())]
            self._push(queue, messages, backlog=len(messages) >= count, counts=counts)

    def _wanted(self) -> dict[str, int]:
        """How many rows to read for each queue that has room."""
        wanted = {}
        for queue, length in zip(self._queues, self._runway.lengths(self._queues), strict=True):
            limit = self._limits[queue]
            if length <= limit.value // 2:
                limit.adapt(length, backlog=queue in self._backlogs)
                wanted[queue] = limit.value + 1
            elif queue not in self._backlogs:
                wanted[queue] = limit.value + 1
        return wanted

    def _push(self, queue: str, messages: list[Message], *, backlog: bool, counts: Counts) -> None:
        if backlog:
            self._backlogs.add(queue)
        elif queue in self._backlogs:
            self._backlogs.remove(queue)
        elif not messages:
            return
        limit = self._limits[queue].value
        pushed = self._runway.dispatch(queue, messages, limit=limit, closed=backlog)
        counts["pushed"] += pushed.added
        counts["again"] += pushed.again

    def _quarantine(self) -> int:
        limit = self._settings.runway_min
        with self._database.autocommit() as connection:
            rows = ready_store.next_quarantined(connection, limit)
        if not rows:
            return 0
        messages = [Message(row.id, row.fence) for row in rows]
        return self._runway.dispatch(QUARANTINE_QUEUE, messages, limit=limit, closed=True).added

    def _sweep_now_and_then(self) -> int:
        if time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return 0
        self._swept_at = time.monotonic()
        return sum(
            self._runway.forget_older_than(queue, FORGET_SECONDS) for queue in [*self._queues, QUARANTINE_QUEUE]
        )

