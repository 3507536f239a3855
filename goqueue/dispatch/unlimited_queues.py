"""Queues without limits: their ready jobs are pushed by rank, as many as the runway of each may hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.range_dispatch import RangeDispatch
from goqueue.dispatch.ready_looks import ReadyLooks
from goqueue.dispatch.runway_state import RunwayState
from goqueue.dispatch.type_routes import TypeRoutes
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.ready_rows import ReadyJob, Wanted
from goqueue.engine.runway.runway import Message, Runway
from goqueue.scheduler.parts import Parts
from goqueue.scheduler.service import Counts

#: The step without which nothing is dispatched of any queue.
EVERY_QUEUE = "reading every queue"

#: The next look for the lanes comes after so many times as long as the last one took.
LANES_REST = 20


class UnlimitedQueues:
    """Refills the runways of queues without limits.

    Attributes:
        states: what is remembered of each.
        limited_types: the types that have limits of their own.

    Args:
        parts: the parts of the dispatcher's round, of which each queue is one.
        on_limited: told of a queue in which a job of a limited type was seen.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        routes: TypeRoutes,
        parts: Parts,
        on_limited: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._routes = routes
        self._parts = parts
        self._on_limited = on_limited
        self._looks = ReadyLooks()
        self.states: dict[str, RunwayState] = {}
        self.limited_types: set[str] = set()
        self._lanes_look_at = 0.0
        self._lanes_are_full = False
        self._gates_are_fresh = False
        self.ranges = RangeDispatch(database, runway, routes)

    @property
    def backlog(self) -> bool:
        """Tell whether more is ready than fits."""
        return self._lanes_are_full or any(state.backlog for state in self.states.values())

    @property
    def parts(self) -> set[str]:
        """The parts of a round that are these queues."""
        return set(map(_part_of, self.states))

    def learn(self, names: Collection[str], slots: Mapping[str, int]) -> None:
        """Learn which queues these are, and how many jobs of each the live workers run at once."""
        known, self.states = self.states, {}
        ceiling = self._settings.runway_max
        for name in names:
            floor = min(ceiling, max(self._settings.runway_min, 2 * slots.get(name, 0)))
            state = known.get(name) or RunwayState(floor, ceiling, floor)
            state.floor = floor
            self.states[name] = state
        self._looks.keep(self.states)
        self._gates_are_fresh = False

    def refill(self, counts: Counts) -> None:
        """Push to every runway that has room for it."""
        wanted = self._push_ranges(self._wanted(), counts)
        foreign = self._read_and_push(wanted, counts)
        if foreign:
            # Jobs that not every worker can run: told apart, they do not keep the others from starting.
            self.look_anew(foreign)
            self._read_and_push({queue: replace(wanted[queue], behind=None) for queue in foreign}, counts)
        self._parts.run("lanes", partial(self._fill_lanes, counts), None)

    def _read_and_push(self, wanted: Mapping[str, Wanted], counts: Counts) -> set[str]:
        """Read and push the wanted rows, except of queues that have to be sorted first: which these are."""
        if not wanted:
            return set()
        wanted = {queue: self._routes.wanted(queue, want) for queue, want in wanted.items()}
        foreign = set()
        for queue, rows in self._read(wanted).items():
            if self.limited_types and any(row.type in self.limited_types for row in rows):
                self._on_limited(queue)
            elif not wanted[queue].sorted and self._routes.has_foreign(queue, rows):
                self._routes.sort(queue)
                foreign.add(queue)
            else:
                push = partial(self._push, queue, wanted[queue], rows, counts)
                self._parts.run(_part_of(queue), push, None)
        self._gates_are_fresh = True
        return foreign

    def _fill_lanes(self, counts: Counts) -> None:
        """Push what only some workers can run to the lanes of these.

        A look passes over everything that nobody can run: the longer it took, the later is the next one.
        """
        started = time.monotonic()
        lanes = self._routes.lanes({queue: state.floor for queue, state in self.states.items()})
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
        found = self._parts.run("read", partial(self._look, wanted), None)
        if found is not None:
            self._parts.note(EVERY_QUEUE, failed=False)
            return {queue: found.get(queue, []) for queue in wanted}
        apart: dict[str, list[ReadyJob]] = {}
        for queue, want in wanted.items():
            rows = self._parts.run(_part_of(queue), partial(self._look, {queue: want}), None)
            if rows is not None:
                apart[queue] = rows.get(queue, [])
        self._parts.note(EVERY_QUEUE, failed=not apart)
        return apart

    def _look(self, wanted: Mapping[str, Wanted]) -> dict[str, list[ReadyJob]]:
        with self._database.autocommit() as connection:
            return self._looks.read(connection, wanted)

    def _wanted(self) -> dict[str, Wanted]:
        contents = dict(zip(self.states, self._runway.contents(list(self.states)), strict=True))
        self.ranges.see(contents)
        wants = {
            queue: self.states[queue].wants(found.jobs, found.known + found.in_ranges)
            for queue, found in contents.items()
        }
        return {queue: want for queue, want in wants.items() if want is not None}

    def _push_ranges(self, wanted: Mapping[str, Wanted], counts: Counts) -> dict[str, Wanted]:
        """Push ranges where they serve; what is wanted of the other queues."""
        left = dict(wanted)
        for queue, want in wanted.items():
            state = self.states[queue]
            if self.ranges.serve(queue, state, want):
                push = partial(self.ranges.push, queue, state, want, self.limited_types)
                pushed = self._parts.run(_part_of(queue), push, None)
                if pushed is not None:
                    counts["pushed"] += pushed
                    del left[queue]
        return left

    def _push(self, queue: str, wanted: Wanted, rows: list[ReadyJob], counts: Counts) -> None:
        """Push, and keep the gate as the record is: closed exactly while there is a backlog.

        Also without a message now and then, so that a gate that something else closed or wiped is set right.
        """
        state = self.states[queue]
        if not rows and not state.backlog and self._gates_are_fresh:
            return
        closed = len(rows) >= wanted.count or (state.backlog and wanted.behind is not None)
        outside = self.ranges.outside(queue, state, rows)
        messages = [Message(row.id, row.fence) for row in outside]
        pushed = self._runway.dispatch(queue, messages, limit=state.limit, closed=closed)
        known = len(rows) if pushed.known == len(outside) else rows.index(outside[pushed.known])
        state.note(rows, wanted, known)
        counts["pushed"] += pushed.added
        counts["again"] += pushed.again

    def look_anew(self, queues: Collection[str]) -> None:
        """Begin with the first row of these again: what a look has to find there is no longer the same."""
        self._looks.forget(queues)
        for queue in queues & self.states.keys():
            self.states[queue].frontier = None


def _part_of(queue: str) -> str:
    return f"queue {queue}"
