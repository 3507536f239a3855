"""The dispatcher: turns ready rows into pushes, by rank.

Due run-ats and retries, the backlog, rows whose push was lost or whose Redis was wiped: for it they are all
the same, rows that are queued, due, and not on the runway. It keeps no state that matters: a new leader starts
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

#: What not every round does, because with a backlog there are hundreds of rounds a second: count the worker
#: threads of each queue, look for rows whose time has come and for suspects, sweep the message hashes.
WORKERS_SECONDS = 1.0
WAITING_SECONDS = 0.05
SWEEP_SECONDS = 60.0

#: Entries of the message hash older than this belong to nobody; see `Runway.forget_older_than`.
FORGET_SECONDS = 600.0


@dataclass(slots=True)
class RunwayLimit:
    """How long one queue's runway may be: long enough to last from round to round, and no longer.

    It starts at twice the worker threads that listen (at least the setting's minimum). A runway that was
    nearly empty when it was refilled from a backlog was too short, and doubles; one that was still nearly
    half full shrinks a little.
    """

    floor: int
    ceiling: int
    value: int

    def adapt(self, length: int, *, backlog: bool) -> None:
        """Learn from a refill that found `length` entries, with or without more rows waiting."""
        if backlog and length < self.value // 8:
            self.value *= 2
        elif not backlog or length > self.value * 3 // 8:
            self.value = self.value * 15 // 16
        self.value = min(self.ceiling, max(self.floor, self.value))


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
        self._gates_are_fresh = False
        self._rest = settings.dispatch_busy_seconds
        self._next: dict[str, float] = {"sweep": time.monotonic() + SWEEP_SECONDS}

    def run_once(self) -> Counts:
        """One round: make due, refill the runways, send the suspects to the quarantine."""
        failpoints.hit("in_dispatch")
        counts = {"due": 0, "pushed": 0, "again": 0, "suspects": 0, "forgotten": 0}
        if self._is_due("workers", WORKERS_SECONDS):
            self._count_workers()
        if self._is_due("waiting", WAITING_SECONDS):
            counts["due"] = self._make_due()
            counts["suspects"] = self._quarantine()
        self._refill(counts)
        if self._is_due("sweep", SWEEP_SECONDS):
            counts["forgotten"] = self._sweep()
        return counts

    def pause(self, counts: Counts) -> None:
        """A moment while a backlog moves, longer while it stands; without one, until a submit asks."""
        if not self._backlogs:
            self._runway.wait_for_wake(self._settings.dispatch_idle_seconds)
            return
        moves = counts["pushed"] or counts["due"]
        busy, idle = self._settings.dispatch_busy_seconds, self._settings.dispatch_idle_seconds
        self._rest = busy if moves else min(idle, self._rest * 1.5 + 0.001)
        time.sleep(self._rest)

    def _is_due(self, task: str, every_seconds: float) -> bool:
        """Whether a task that is not for every round is due, and if so, note that it is done now."""
        now = time.monotonic()
        if now < self._next.get(task, 0.0):
            return False
        self._next[task] = now + every_seconds
        return True

    def _count_workers(self) -> None:
        with self._database.autocommit() as connection:
            queues = queue_store.list_all(connection)
            threads = worker_store.threads_by_queue(connection, lease_seconds=self._settings.lease_seconds)
        self._queues = [queue.name for queue in queues if queue.paused_at is None]
        self._backlogs.intersection_update(self._queues)
        self._gates_are_fresh = False
        for queue in self._queues:
            floor = max(self._settings.runway_min, 2 * threads.get(queue, 0))
            limit = self._limits.setdefault(queue, RunwayLimit(floor, self._settings.runway_max, floor))
            limit.floor = min(floor, limit.ceiling)

    def _make_due(self) -> int:
        with self._database.autocommit() as connection:
            return ready_store.make_due(
                connection, head_start_seconds=self._settings.priority_head_start_seconds
            )

    def _refill(self, counts: Counts) -> None:
        """Push to every runway that is less than half full."""
        wanted = self._wanted()
        if not wanted:
            return
        with self._database.autocommit() as connection:
            rows = ready_store.next_ready(connection, wanted)
        ready = {queue: list(group) for queue, group in groupby(rows, key=lambda row: row.queue)}
        for queue, count in wanted.items():
            messages = [Message(row.id, row.fence) for row in ready.get(queue, ())]
            self._push(queue, messages, backlog=len(messages) >= count, counts=counts)
        self._gates_are_fresh = True

    def _wanted(self) -> dict[str, int]:
        """How many rows to read for each queue: what fits, what Redis has already, and one to look ahead.

        Rows that were fetched a moment ago and are not claimed yet are still the first in the order.
        """
        wanted = {}
        for queue, (length, known) in zip(self._queues, self._runway.lengths(self._queues), strict=True):
            limit = self._limits[queue]
            backlog = queue in self._backlogs
            if length <= limit.value // 2:
                limit.adapt(length, backlog=backlog)
            if length <= limit.value // 2 or not backlog:
                wanted[queue] = max(0, limit.value - length) + known + 1
        return wanted

    def _push(self, queue: str, messages: list[Message], *, backlog: bool, counts: Counts) -> None:
        """Push, and keep the gate as the record is: closed exactly while there is a backlog.

        Also without a message now and then, so that a gate that something else closed or wiped is set right.
        """
        was_backlog = queue in self._backlogs
        if not messages and not was_backlog and self._gates_are_fresh:
            return
        self._backlogs.discard(queue)
        if backlog:
            self._backlogs.add(queue)
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

    def _sweep(self) -> int:
        return sum(
            self._runway.forget_older_than(queue, FORGET_SECONDS)
            for queue in [*self._queues, QUARANTINE_QUEUE]
        )
