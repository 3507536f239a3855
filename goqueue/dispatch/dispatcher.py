"""The dispatcher: turns ready rows into pushes, by rank.

Due run-ats and retries, the backlog, rows whose push was lost or whose Redis was wiped: for it they are all
the same, rows that are queued, due, and not on the runway. It keeps no state that matters: a new leader
starts with the next round.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.limited_queues import LimitedQueues
from goqueue.dispatch.ready_looks import DueLooks, ReadyLooks
from goqueue.dispatch.type_routes import TypeRoutes
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine import worker_rows as worker_store
from goqueue.engine.ready_rows import ReadyJob, Wanted
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.set_aside import set_aside_unreadable
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Service

log = structlog.get_logger(__name__)

#: What not every round does, because with a backlog there are hundreds of rounds a second: count the worker
#: threads of each queue, look for rows whose time has come and for suspects, read a backlog from its first
#: row again (for newcomers of a higher rank, and for lost pushes), sweep the message hashes.
WORKERS_SECONDS = 1.0
WAITING_SECONDS = 0.05
FIRST_ROW_SECONDS = 0.2
SWEEP_SECONDS = 60.0
SET_ASIDE_SECONDS = 5.0

#: The most rows that are set aside in one statement.
SET_ASIDE_LIMIT = 1000

#: What a round counts.
COUNTED = ("due", "admitted", "pushed", "again", "suspects", "forgotten", "set_aside")

#: Steps without which nothing is dispatched, or nothing that becomes due; the others concern some jobs.
EVERY_QUEUE = "reading every queue"
SHARED_STEPS = ("count workers", "make due", "admission", EVERY_QUEUE)
OTHER_STEPS = ("suspects", "quarantine", "read", "lanes", "set aside", "sweep")

#: Entries of the message hash older than this belong to nobody; see `Runway.forget_older_than`.
FORGET_SECONDS = 600.0

#: The next look from the first row on comes after so many times as long as the last one took: what it reads
#: is on the runway already, but for newcomers of a higher rank.
FIRST_ROW_REST = 9

#: The next look for the lanes comes after so many times as long as the last one took.
LANES_REST = 20


@dataclass(slots=True)
class QueueState:
    """What the dispatcher remembers of a queue from round to round.

    Attributes:
        floor, ceiling: the shortest and longest that its runway may be.
        limit: how long it may be now. A runway that was nearly empty when it was refilled from a backlog was
            too short, and doubles; one that was still nearly half full shrinks a little.
        backlog: more rows are ready than fit.
        frontier: the (rank, id) of the last row that was pushed from the backlog.
    """

    floor: int
    ceiling: int
    limit: int
    backlog: bool = False
    frontier: tuple[str, int] | None = None
    first_row_at: float = 0.0
    looked_at: float = 0.0

    def adapt(self, length: int) -> None:
        """Learn from a refill that found `length` entries."""
        if self.backlog and length < self.limit // 8:
            self.limit *= 2
        elif not self.backlog or length > self.limit * 3 // 8:
            self.limit = self.limit * 15 // 16
        self.limit = min(self.ceiling, max(self.floor, self.limit))

    def wants(self, length: int, known: int) -> Wanted | None:
        """What to read for a runway of `length` entries, while Redis knows `known` messages in all.

        A runway that is more than half full has time. In a backlog the next rows are behind the frontier;
        from the first row on there may stand as many as Redis knows already: those on the runway, and those
        fetched a moment ago and not claimed yet.
        """
        half = self.limit // 2
        if length <= half:
            self.adapt(length)
        elif self.backlog:
            return None
        room = max(0, self.limit - length) + 1
        now = time.monotonic()
        if self.frontier is not None and now < self.first_row_at:
            return Wanted(room, self.frontier)
        self.looked_at = now
        return Wanted(room + known)

    def note(self, rows: list[ReadyJob], wanted: Wanted, known: int) -> None:
        """Remember how far a push came: the first `known` rows are in Redis."""
        complete = len(rows) < wanted.count
        if wanted.behind is None:
            self.backlog = not complete
            now = time.monotonic()
            self.first_row_at = now + max(FIRST_ROW_SECONDS, FIRST_ROW_REST * (now - self.looked_at))
        if known:
            self.frontier = (rows[known - 1].rank, rows[known - 1].id)
        if complete:
            # Behind the frontier is nothing; before it there may be newcomers.
            self.frontier = None


class Dispatcher(Service):
    """Pushes ready rows of every queue. One runs at a time; two would only do the work twice."""

    name = "dispatcher"

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        super().__init__(settings, database, time.sleep)
        self._runway = runway
        self._queues: dict[str, QueueState] = {}
        self._looks = ReadyLooks()
        self._due_looks = DueLooks()
        self._routes = TypeRoutes()
        self._lanes_look_at = 0.0
        self._lanes_are_full = False
        self._limited = LimitedQueues(settings, database, runway, self._routes)
        self._limited_types: set[str] = set()
        #: Queues in which jobs of limited types were seen.
        self._mixed: set[str] = set()
        self._next: dict[str, float] = {"sweep": time.monotonic() + SWEEP_SECONDS}
        self._gates_are_fresh = False
        self._rest = settings.dispatch_busy_seconds

    def run_once(self) -> Counts:
        """One round: make due, send the suspects to the quarantine, refill the runways."""
        failpoints.hit("in_dispatch")
        counts = dict.fromkeys(COUNTED, 0)
        run = self.parts.run
        if self._is_due("workers", WORKERS_SECONDS):
            run("count workers", self._count_workers, None)
        if self._is_due("waiting", WAITING_SECONDS):
            counts["due"] = run("make due", self._make_due, 0)
            counts["suspects"] = run("suspects", self._push_suspects, 0)
            counts["suspects"] += run("quarantine", self._quarantine, 0)
        run("admission", partial(self._limited.run, counts), None)
        self._refill(counts)
        if self._is_due("set_aside", SET_ASIDE_SECONDS):
            counts["set_aside"] = run("set aside", self._set_aside, 0)
        if self._is_due("sweep", SWEEP_SECONDS):
            counts["forgotten"] = run("sweep", self._sweep, 0)
        metrics.JOBS_DISPATCHED.inc(counts["pushed"])
        return counts

    def stands_still(self, seconds: float) -> list[str]:
        """What has failed for so long, in every round, without which next to nothing is dispatched."""
        return [
            f"{self.name}: {step} has failed for {failing:.0f} s"
            for step in SHARED_STEPS
            if (failing := self.parts.failing_seconds(step)) > seconds
        ]

    def pause(self, counts: Counts) -> None:
        """A moment while a backlog moves, longer while it stands; without one, until a submit asks."""
        backlog = self._lanes_are_full or any(state.backlog for state in self._queues.values())
        if not self._limited.backlog and not backlog:
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
            limited = set(queue_settings.governed_names(connection))
            self._limited_types = admission_store.governed_types(connection)
            threads = worker_store.threads_by_queue(connection, lease_seconds=self._settings.lease_seconds)
            changed = self._routes.learn(connection, lease_seconds=self._settings.lease_seconds)
        if not self._limited_types:
            self._mixed.clear()
        limited |= self._mixed & queues
        self._limited.learn(limited, threads)
        known, self._queues = self._queues, {}
        ceiling = self._settings.runway_max
        for name in queues - limited:
            floor = min(ceiling, max(self._settings.runway_min, 2 * threads.get(name, 0)))
            state = known.get(name) or QueueState(floor, ceiling, floor)
            state.floor = floor
            self._queues[name] = state
        self._looks.keep(self._queues)
        self.parts.keep({*SHARED_STEPS, *OTHER_STEPS, *map(_part_of, self._queues)})
        self._look_anew(changed.keys() | self._routes.end_sorting())
        for queue, left in changed.items():
            for signature in left:
                self._runway.remove_lane(queue, signature)
        self._gates_are_fresh = False

    def _look_anew(self, queues: Collection[str]) -> None:
        """Begin with the first row of these again: what a look has to find there is no longer the same."""
        self._looks.forget(queues)
        for queue in queues & self._queues.keys():
            self._queues[queue].frontier = None

    def _make_due(self) -> int:
        head_start = self._settings.priority_head_start_seconds
        with self._database.autocommit() as connection:
            return self._due_looks.make_due(connection, head_start_seconds=head_start)

    def _refill(self, counts: Counts) -> None:
        """Push to every runway that has room for it."""
        wanted = self._wanted()
        foreign = self._read_and_push(wanted, counts)
        if foreign:
            # Jobs that not every worker can run: told apart, they do not keep the others from starting.
            self._look_anew(foreign)
            self._read_and_push({queue: replace(wanted[queue], behind=None) for queue in foreign}, counts)
        self.parts.run("lanes", partial(self._fill_lanes, counts), None)

    def _read_and_push(self, wanted: Mapping[str, Wanted], counts: Counts) -> set[str]:
        """Read and push the wanted rows, except of queues that have to be sorted first: which these are."""
        if not wanted:
            return set()
        wanted = {queue: self._routes.wanted(queue, want) for queue, want in wanted.items()}
        foreign = set()
        for queue, rows in self._read(wanted).items():
            if self._limited_types and any(row.type in self._limited_types for row in rows):
                self._limit(queue)
            elif not wanted[queue].sorted and self._routes.has_foreign(queue, rows):
                self._routes.sort(queue)
                foreign.add(queue)
            else:
                push = partial(self._push, queue, wanted[queue], rows, counts)
                self.parts.run(_part_of(queue), push, None)
        self._gates_are_fresh = True
        return foreign

    def _fill_lanes(self, counts: Counts) -> None:
        """Push what only some workers can run to the lanes of these.

        A look passes over everything that nobody can run: the longer it took, the later is the next one.
        """
        started = time.monotonic()
        lanes = self._routes.lanes({queue: state.floor for queue, state in self._queues.items()})
        if not lanes:
            self._lanes_are_full = False
        if not lanes or started < self._lanes_look_at:
            return
        with self._database.autocommit() as connection:
            found = ready_store.next_of_lanes(connection, [lane for _, lane in lanes])
        self._lanes_look_at = time.monotonic() + LANES_REST * (time.monotonic() - started)
        self._lanes_are_full = False
        for (signature, lane), rows in zip(lanes, found, strict=True):
            self._lanes_are_full |= len(rows) >= lane.count
            messages = [Message(row.id, row.fence) for row in rows]
            if messages:
                pushed = self._runway.dispatch_to(lane.queue, signature, messages, limit=lane.count)
                counts["pushed"] += pushed.added
                counts["again"] += pushed.again

    def _read(self, wanted: Mapping[str, Wanted]) -> dict[str, list[ReadyJob]]:
        """The next ready rows of each queue in one statement; of each alone, where a row of one ends it."""
        found = self.parts.run("read", partial(self._look, wanted), None)
        if found is not None:
            self.parts.note(EVERY_QUEUE, failed=False)
            return {queue: found.get(queue, []) for queue in wanted}
        apart: dict[str, list[ReadyJob]] = {}
        for queue, want in wanted.items():
            rows = self.parts.run(_part_of(queue), partial(self._look, {queue: want}), None)
            if rows is not None:
                apart[queue] = rows.get(queue, [])
        self.parts.note(EVERY_QUEUE, failed=not apart)
        return apart

    def _look(self, wanted: Mapping[str, Wanted]) -> dict[str, list[ReadyJob]]:
        with self._database.autocommit() as connection:
            return self._looks.read(connection, wanted)

    def _limit(self, queue: str) -> None:
        """The queue holds jobs of a limited type: from now on they have to be let in."""
        self._mixed.add(queue)
        self._next["workers"] = 0.0

    def _wanted(self) -> dict[str, Wanted]:
        queues = list(self._queues)
        lengths = self._runway.lengths(queues)
        wants = {
            queue: self._queues[queue].wants(length, known)
            for queue, (length, known) in zip(queues, lengths, strict=True)
        }
        return {queue: want for queue, want in wants.items() if want is not None}

    def _push(self, queue: str, wanted: Wanted, rows: list[ReadyJob], counts: Counts) -> None:
        """Push, and keep the gate as the record is: closed exactly while there is a backlog.

        Also without a message now and then, so that a gate that something else closed or wiped is set right.
        """
        state = self._queues[queue]
        if not rows and not state.backlog and self._gates_are_fresh:
            return
        closed = len(rows) >= wanted.count or (state.backlog and wanted.behind is not None)
        messages = [Message(row.id, row.fence) for row in rows]
        pushed = self._runway.dispatch(queue, messages, limit=state.limit, closed=closed)
        state.note(rows, wanted, pushed.known)
        counts["pushed"] += pushed.added
        counts["again"] += pushed.again

    def _push_suspects(self) -> int:
        """To where a process that has no other suspect takes them first, and that can run them."""
        limit = self._settings.runway_min
        pushed = 0
        for queue, suspects in groupby(self._next_suspects(limit), key=lambda row: row.queue):
            for signature, messages in self._routes.split(queue, suspects).items():
                pushed += self._runway.dispatch_suspects(
                    queue, messages, limit=limit, signature=signature
                ).added
        return pushed

    def _next_suspects(self, limit: int) -> list[ReadyJob]:
        """Of each queue; where nobody knows the type of one, only those of known types: they may be many."""
        with self._database.autocommit() as connection:
            rows = ready_store.next_suspects(connection, limit)
            known = {
                row.queue: {name for name, _ in self._routes.known_by_some(row.queue) or ()}
                for row in rows
                if not self._routes.has_way(row.queue, row.type, row.tried)
            }
            return ready_store.next_suspects(connection, limit, known=known) if known else rows

    def _quarantine(self) -> int:
        limit = self._settings.runway_min
        known = self._routes.known_by_some(QUARANTINE_QUEUE)
        with self._database.autocommit() as connection:
            rows = ready_store.next_quarantined(
                connection, limit, types=None if known is None else {name for name, _ in known}
            )
        if not rows:
            return 0
        by_way = self._routes.split(QUARANTINE_QUEUE, rows)
        added = 0
        for signature, messages in by_way.items():
            if signature is not None:
                added += self._runway.dispatch_to(QUARANTINE_QUEUE, signature, messages, limit=limit).added
            else:
                added += self._runway.dispatch(QUARANTINE_QUEUE, messages, limit=limit, closed=True).added
        return added

    def _set_aside(self) -> int:
        """Make dead letters of rows that cannot be dispatched, and say so; how many."""
        with self._database.autocommit() as connection:
            found = set_aside_unreadable(
                connection,
                head_start_seconds=self._settings.priority_head_start_seconds,
                limit=SET_ASIDE_LIMIT,
            )
        for job in found:
            metrics.JOBS_SET_ASIDE.labels(job.queue).inc()
            log.error("job_set_aside", **job._asdict())
        if len(found) >= SET_ASIDE_LIMIT:
            self._next["set_aside"] = 0.0
        return len(found)

    def _sweep(self) -> int:
        """Drop what dead workers could not acknowledge; a paused queue's entries went with its pause."""
        queues = [*self._queues, *self._limited.names, QUARANTINE_QUEUE]
        return sum(self._runway.forget_older_than(queue, FORGET_SECONDS) for queue in queues)


def _part_of(queue: str) -> str:
    return f"queue {queue}"
