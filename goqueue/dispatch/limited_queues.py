"""The dispatcher's other half: queues whose jobs start only when their limits let them in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import groupby

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.type_routes import Routed, TypeRoutes
from goqueue.engine.runway.runway import PUSH_CHUNK, Runway
from goqueue.errors import RedisUnavailableError
from goqueue.limits import admission_rows as admission_store
from goqueue.limits.admission_round import QueueAdmission
from goqueue.limits.queue_rates import QueueRates
from goqueue.limits.window_rules import Window
from goqueue.scheduler.service import Counts

log = structlog.get_logger(__name__)

#: How often everything that was let in and has not started is pushed again, for lost pushes.
PUSH_AGAIN_SECONDS = 0.2

#: Rounds of limited queues take so long together before everything else has its turn.
ROUNDS_SECONDS = 0.1

#: A round that took longer than this and let nothing in comes again after so many times as long.
SLOW_SECONDS = 0.05
SLOW_REST = 4

#: How long a queue whose round failed is left alone.
FAILURE_SECONDS = 1.0

#: The runway takes whatever was let in: its length is the window's affair.
NO_LIMIT = 1_000_000


class LimitedQueues:
    """Runs rounds of admission of limited queues, and pushes who was let in."""

    def __init__(
        self, settings: Settings, database: Database, runway: Runway, routes: TypeRoutes | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._routes = routes or TypeRoutes()
        self._queues: dict[str, QueueAdmission] = {}
        self._push_again_at = 0.0
        self._gates_are_fresh = False
        #: The queue of the last round, and those that rest until when.
        self._last = ""
        self._rest_until: dict[str, float] = {}
        self.backlog = False

    @property
    def names(self) -> set[str]:
        """Tell which queues are limited."""
        return set(self._queues)

    def learn(self, names: Iterable[str], slots: Mapping[str, int]) -> None:
        """Learn which queues are limited, and how many jobs of each the live workers run at once."""
        known, self._queues = self._queues, {}
        now = time.monotonic()
        self._rest_until = {name: until for name, until in self._rest_until.items() if until > now}
        for name in names:
            floor = max(1, slots.get(name, 0) // 2)
            ceiling = max(floor, self._settings.runway_max)
            state = known.get(name) or QueueAdmission(
                name,
                0,
                Window(floor, ceiling, floor),
                QueueRates(name),
            )
            state.worker_slots = slots.get(name, 0)
            state.runnable = self._routes.able(name)
            state.window.floor = floor
            state.window.ceiling = ceiling
            self._queues[name] = state
        self._gates_are_fresh = False

    def run(self, counts: Counts) -> None:
        """Run one round of every limited queue in which something waits."""
        if not self._queues:
            self.backlog = False
            return
        with self._database.autocommit() as connection:
            waiting = admission_store.waiting_queues(connection, sorted(self._queues))
        self.backlog = bool(waiting)
        self._rounds(waiting, counts)
        if not self._gates_are_fresh:
            self._close_gates()
        if time.monotonic() >= self._push_again_at:
            counts["again"] += self._push_again()
            self._push_again_at = time.monotonic() + PUSH_AGAIN_SECONDS

    def _rounds(self, waiting: list[str], counts: Counts) -> None:
        """A round of each, in turns over several runs where they take long: others wait meanwhile.

        The next run begins with another one: where queues share a quota, the first takes what is free.
        """
        started = time.monotonic()
        in_turn = sorted(waiting, key=lambda name: (name <= self._last, name))
        for name in in_turn:
            before = time.monotonic()
            if before - started > ROUNDS_SECONDS:
                return
            self._last = name
            if before < self._rest_until.get(name, 0.0):
                continue
            admitted = self._safe_round(name)
            counts["admitted"] += admitted
            seconds = time.monotonic() - before
            if not admitted and seconds > SLOW_SECONDS:
                self._rest_until[name] = time.monotonic() + SLOW_REST * seconds
        if in_turn:
            self._last = in_turn[0]

    def _safe_round(self, name: str) -> int:
        """A round that fails is one queue's affair, unless PostgreSQL or Redis is away."""
        try:
            return self._round(name)
        except RedisUnavailableError:
            raise
        except Exception:
            log.exception("admission_failed", queue=name)
            with self._database.autocommit() as connection:
                connection.exec_driver_sql("SELECT 1")
            self._rest_until[name] = time.monotonic() + FAILURE_SECONDS
            return 0

    def _round(self, name: str) -> int:
        with self._database.transaction() as connection:
            admitted = self._queues[name].round(connection)
        # A suspect holds its slot now, and starts by way of the suspects or the quarantine.
        self._push(name, [job for job in admitted if not job.quarantined])
        return len(admitted)

    def _push(self, name: str, rows: Iterable[Routed]) -> int:
        """Push who was let in, each by a way that leads to a worker that can run it; how many were new."""
        added = 0
        for signature, messages in self._routes.split(name, rows).items():
            for start in range(0, len(messages), PUSH_CHUNK):
                chunk = messages[start : start + PUSH_CHUNK]
                if signature is None:
                    added += self._runway.dispatch(name, chunk, limit=NO_LIMIT, closed=True).added
                else:
                    added += self._runway.dispatch_to(name, signature, chunk, limit=NO_LIMIT).added
        return added

    def _push_again(self) -> int:
        """What was let in stays in its row until it is claimed, so lost pushes are seen there."""
        with self._database.autocommit() as connection:
            rows = admission_store.let_in(connection, self._settings.runway_max * max(1, len(self._queues)))
        again = 0
        ready = [row for row in rows if not row.quarantined]
        stuck = [row.id for row in ready if not self._routes.has_way(row.queue, row)]
        if stuck:
            with self._database.autocommit() as connection:
                admission_store.put_back(connection, stuck)
        for queue, group in groupby(ready, key=lambda row: row.queue):
            again += self._push(queue, group)
        return again

    def _close_gates(self) -> None:
        """Submits have to leave these queues to the admission, also after something wiped Redis."""
        for name in self._queues:
            self._runway.dispatch(name, [], limit=NO_LIMIT, closed=True)
        self._gates_are_fresh = True
