"""The dispatcher: turns ready rows into pushes, by rank.

Due run-ats and retries, the backlog, rows whose push was lost or whose Redis was wiped: for it they are all
the same, rows that are queued, due, and not on the runway. It keeps no state that matters: a new leader
starts with the next round.
"""

from __future__ import annotations

import time
from functools import partial

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.limited_queues import LimitedQueues
from goqueue.dispatch.ready_looks import DueLooks
from goqueue.dispatch.suspects import Suspects
from goqueue.dispatch.type_routes import TypeRoutes
from goqueue.dispatch.unlimited_queues import EVERY_QUEUE, UnlimitedQueues
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.set_aside import set_aside_unreadable
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_slot_rows import slots_by_queue
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Service

log = structlog.get_logger(__name__)

#: What not every round does, because with a backlog there are hundreds of rounds a second: count the worker
#: threads of each queue, look for rows whose time has come and for suspects, sweep the message hashes.
WORKERS_SECONDS = 1.0
WAITING_SECONDS = 0.05
SWEEP_SECONDS = 60.0
SET_ASIDE_SECONDS = 5.0

#: The most rows that are set aside in one statement.
SET_ASIDE_LIMIT = 1000

#: What a round counts.
COUNTED = ("due", "admitted", "pushed", "again", "suspects", "forgotten", "set_aside")

#: Steps without which nothing is dispatched, or nothing that becomes due; the others concern some jobs.
SHARED_STEPS = ("count workers", "make due", "admission", EVERY_QUEUE)
OTHER_STEPS = ("suspects", "quarantine", "read", "lanes", "set aside", "sweep")

#: Entries of the message hash older than this belong to nobody; see `Runway.forget_older_than`.
FORGET_SECONDS = 600.0


class Dispatcher(Service):
    """Pushes ready rows of every queue. One runs at a time; two would only do the work twice."""

    name = "dispatcher"

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        super().__init__(settings, database, time.sleep)
        self._runway = runway
        self._due_looks = DueLooks()
        self._routes = TypeRoutes()
        self._suspects = Suspects(settings, database, runway, self._routes)
        self.unlimited = UnlimitedQueues(
            settings, database, runway, self._routes, self.parts, self._note_limited
        )
        self._limited = LimitedQueues(settings, database, runway, self._routes)
        #: Queues in which jobs of limited types were seen.
        self._mixed: set[str] = set()
        self._next: dict[str, float] = {"sweep": time.monotonic() + SWEEP_SECONDS}
        self._rest = settings.dispatch_busy_seconds

    def run_once(self) -> Counts:
        """Run one round: make due, send the suspects to the quarantine, refill the runways."""
        failpoints.hit("in_dispatch")
        counts = dict.fromkeys(COUNTED, 0)
        run = self.parts.run
        if self._is_due("workers", WORKERS_SECONDS):
            run("count workers", self._count_workers, None)
        if self._is_due("waiting", WAITING_SECONDS):
            counts["due"] = run("make due", self._make_due, 0)
            counts["suspects"] = run("suspects", self._suspects.push, 0)
            counts["suspects"] += run("quarantine", self._suspects.quarantine, 0)
        run("admission", partial(self._limited.run, counts), None)
        self.unlimited.refill(counts)
        if self._is_due("set_aside", SET_ASIDE_SECONDS):
            counts["set_aside"] = run("set aside", self._set_aside, 0)
        if self._is_due("sweep", SWEEP_SECONDS):
            counts["forgotten"] = run("sweep", self._sweep, 0)
        metrics.JOBS_DISPATCHED.inc(counts["pushed"])
        return counts

    def stands_still(self, seconds: float) -> list[str]:
        """Tell what has failed for so long, in every round, without which next to nothing is dispatched."""
        return [
            f"{self.name}: {step} has failed for {failing:.0f} s"
            for step in SHARED_STEPS
            if (failing := self.parts.failing_seconds(step)) > seconds
        ]

    def pause(self, counts: Counts) -> None:
        """A moment while a backlog moves, longer while it stands; without one, until a submit asks."""
        if not self._limited.backlog and not self.unlimited.backlog:
            if self._runway.wait_for_wake(self._settings.dispatch_idle_seconds):
                # It may be a queue that was resumed, or whose limits were changed.
                self._next["workers"] = 0.0
            return
        moves = counts["pushed"] or counts["due"] or counts["admitted"]
        busy, idle = self._settings.dispatch_busy_seconds, self._settings.dispatch_idle_seconds
        self._rest = busy if moves else min(idle, self._rest * 1.5 + 0.001)
        self._pause(self._rest)

    def _is_due(self, task: str, every_seconds: float) -> bool:
        """Whether a task that is not for every round is due, and if so, note that it is done now."""
        now = time.monotonic()
        if now < self._next.get(task, 0.0):
            return False
        self._next[task] = now + every_seconds
        return True

    def _count_workers(self) -> None:
        """Learn which queues there are, which are limited, and how long the runway of each is at least."""
        with self._database.autocommit() as connection:
            queues = {queue.name for queue in queue_store.list_all(connection) if not queue.is_closed}
            limited = set(queue_settings.limited_names(connection))
            self.unlimited.limited_types = admission_store.limited_types(connection)
            slots = slots_by_queue(connection, lease_seconds=self._settings.lease_seconds)
            changed = self._routes.learn(connection, lease_seconds=self._settings.lease_seconds)
            self.unlimited.ranges.refused_by = worker_store.queues_without_ranges(
                connection, lease_seconds=self._settings.lease_seconds
            )
        if not self.unlimited.limited_types:
            self._mixed.clear()
        limited |= self._mixed & queues
        self._limited.learn(limited, slots)
        self.unlimited.learn(queues - limited, slots)
        self.parts.keep({*SHARED_STEPS, *OTHER_STEPS, *self.unlimited.parts})
        self.unlimited.look_anew(changed.keys() | self._routes.end_sorting())
        for queue, left in changed.items():
            for signature in left:
                self._runway.remove_lane(queue, signature)

    def _note_limited(self, queue: str) -> None:
        """The queue holds jobs of a limited type: from now on they have to be let in."""
        self._mixed.add(queue)
        self._next["workers"] = 0.0

    def _make_due(self) -> int:
        with self._database.autocommit() as connection:
            return self._due_looks.make_due(connection)

    def _set_aside(self) -> int:
        """Make dead letters of rows that cannot be dispatched, and say so; how many."""
        with self._database.autocommit() as connection:
            found = set_aside_unreadable(connection, limit=SET_ASIDE_LIMIT)
        for job in found:
            metrics.JOBS_SET_ASIDE.labels(job.queue).inc()
            log.error("job_set_aside", **job._asdict())
        if len(found) >= SET_ASIDE_LIMIT:
            self._next["set_aside"] = 0.0
        return len(found)

    def _sweep(self) -> int:
        """Drop what dead workers could not acknowledge; a paused queue's entries went with its pause."""
        queues = [*self.unlimited.states, *self._limited.names, QUARANTINE_QUEUE]
        return sum(self._runway.forget_older_than(queue, FORGET_SECONDS) for queue in queues)
