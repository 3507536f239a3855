"""One round of admission of one queue: what the dispatcher does for queues and types that have limits."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog

from goqueue.db import Connection
from goqueue.rules.admission import (
    KEYLESS,
    Budget,
    Candidate,
    GovernedType,
    Holder,
    Turns,
    key_slots,
    left_of,
    ramped_slots,
    type_slots,
)
from goqueue.rules.limits import BreakerState, KeyLimits, OnConflict, QueueLimits
from goqueue.rules.window import Window
from goqueue.services.queue_rates import QueueRates
from goqueue.store import admission as admission_store
from goqueue.store import cancellation, queue_settings
from goqueue.store import candidates as candidate_store
from goqueue.store import dependencies as dependency_store
from goqueue.store import rates as rate_store
from goqueue.store.admission import OpenQueue

log = structlog.get_logger(__name__)

#: Suspects that are let in by one round.
SUSPECTS = 16

#: How soon a queue whose keys take turns is searched again for jobs without a key, where there were none.
KEYLESS_SECONDS = 0.5

#: The most jobs of a round: its transaction holds the queue's lock.
ROUND_MAX = 500


@dataclass(slots=True)
class QueueAdmission:
    """Lets the jobs of one queue in. What it remembers from round to round only makes it fair and quick.

    Attributes:
        threads: of live workers that listen to the queue.
        head_start_seconds: of one step of priority.
    """

    queue: str
    threads: int
    window: Window
    rates: QueueRates
    head_start_seconds: float
    turns: Turns = field(default_factory=Turns)
    keyless_at: float = 0.0

    def round(self, connection: Connection) -> list[Candidate]:
        """Let in whatever the limits allow now, in the connection's transaction, in the order of starting."""
        opened = admission_store.open_queue(connection, self.queue)
        if opened is None:
            return []
        types = admission_store.types_of(connection)
        holders = admission_store.holders(connection, self.queue, types)
        room = self._room(holders)
        if not room:
            return []
        keys = queue_settings.key_limits(connection, self.queue) if opened.limits.by_key else {}
        budget = self._budget(connection, opened, types, holders, keys)
        waiting = self._waiting(connection, opened, budget, room, keys)
        chosen, without_slot = self._choose(waiting, budget, room, keys)
        admitted = self._admit(connection, opened.limits, chosen, types)
        self.window.was_filled = len(admitted) >= room
        if without_slot and opened.limits.on_conflict is not OnConflict.WAIT:
            self._resolve(connection, opened.limits, without_slot, holders)
        return admitted

    def _room(self, holders: Iterable[Holder]) -> int:
        let_in = sum(holder.waiting for holder in holders if holder.queue == self.queue)
        return min(ROUND_MAX, self.window.room(let_in))

    # What the limits allow

    def _budget(
        self,
        connection: Connection,
        opened: OpenQueue,
        types: dict[str, GovernedType],
        holders: list[Holder],
        keys: dict[str, KeyLimits],
    ) -> Budget:
        limits = opened.limits
        here = [holder for holder in holders if holder.queue == self.queue]
        held = sum(holder.running + holder.waiting for holder in here)
        budget = Budget(
            slots=min(left_of(limits.concurrency, held), self._ramp(opened) - held),
            type_slots=type_slots(types, holders),
            key_slots_default=math.inf if limits.key_concurrency is None else limits.key_concurrency,
            key_rate_default=limits.key_rate,
        )
        if limits.by_key:
            budget.key_slots = key_slots(limits, keys, here)
        if limits.rate or limits.key_rate:
            budget.rate = self.rates.read(connection, opened)
        return budget

    def _ramp(self, opened: OpenQueue) -> float:
        """How many jobs may run at once while admission ramps up."""
        return ramped_slots(self.threads, opened.ramp)

    # Who waits

    def _waiting(
        self,
        connection: Connection,
        opened: OpenQueue,
        budget: Budget,
        room: int,
        keys: dict[str, KeyLimits],
    ) -> dict[str, list[Candidate]]:
        """The jobs that may be next, by key in the order of the ring; without keys all are one."""
        limits = opened.limits
        count = room if limits.on_conflict is not OnConflict.WAIT else min(room, _whole(budget.slots, room))
        if not count:
            return {}
        suspects = candidate_store.suspects(connection, self.queue, SUSPECTS, fifo=limits.fifo)
        if not limits.by_key:
            waiting = candidate_store.by_rank(
                connection, self.queue, count, except_types=_skipped(limits, budget)
            )
            return {KEYLESS: suspects + waiting}
        by_key = self._by_key(connection, opened, budget, count, keys)
        for suspect in reversed(suspects):
            by_key.setdefault(suspect.key, []).insert(0, suspect)
        return by_key

    def _by_key(
        self,
        connection: Connection,
        opened: OpenQueue,
        budget: Budget,
        count: int,
        keys: dict[str, KeyLimits],
    ) -> dict[str, list[Candidate]]:
        limits = opened.limits
        names = self._ring(connection, count + sum(slots < 1 for slots in budget.key_slots.values()))
        if limits.key_rate is not None:
            budget.key_rates = self.rates.of_keys(connection, opened, names)
        waits = limits.on_conflict is OnConflict.WAIT
        share = math.ceil(count / len(names)) if names else 0
        counts = {
            name: _whole(budget.slots_of(name), share * keys.get(name, KeyLimits()).weight)
            if waits
            else share
            for name in names
        }
        found = candidate_store.heads(
            connection,
            self.queue,
            {name: n for name, n in counts.items() if n > 0},
            fifo=limits.fifo,
            except_types=_skipped(limits, budget),
        )
        return self._with_keyless(connection, found, names, count)

    def _ring(self, connection: Connection, count: int) -> list[str]:
        """The next keys, from the one whose visit is not over, or from the one behind it."""
        names = candidate_store.ring(connection, self.queue, after=self.turns.last, count=count)
        if self.turns.left and self.turns.last != KEYLESS:
            names = [self.turns.last, *(name for name in names if name != self.turns.last)]
        return names

    def _with_keyless(
        self, connection: Connection, found: dict[str, list[Candidate]], names: list[str], count: int
    ) -> dict[str, list[Candidate]]:
        """The keyless share a turn, which comes where the ring begins anew."""
        now = time.monotonic()
        if now < self.keyless_at:
            return found
        jobs = candidate_store.keyless(connection, self.queue, count)
        if not jobs:
            self.keyless_at = now + KEYLESS_SECONDS
            return found
        before = [name for name in names if name > self.turns.last]
        if self.turns.last == KEYLESS and not self.turns.left:
            order = [*names, KEYLESS]
        else:
            order = [*before, KEYLESS, *(name for name in names if name not in set(before))]
        return {name: found.get(name, jobs if name == KEYLESS else []) for name in order}

    # Who is let in

    def _choose(
        self,
        waiting: dict[str, list[Candidate]],
        budget: Budget,
        room: int,
        keys: dict[str, KeyLimits],
    ) -> tuple[list[Candidate], list[Candidate]]:
        """The jobs to let in, in their order, and those that lack only a slot."""
        within = {key: budget.within_key(key, jobs) for key, jobs in waiting.items()}
        without_slot = [
            job
            for key, jobs in waiting.items()
            if budget.slots_of(key) <= len(within[key])
            for job in jobs[len(within[key]) :]
        ]
        weights = {key: limits.weight for key, limits in keys.items()}
        count = _whole(budget.slots, room)
        before = replace(self.turns)
        dealt = self.turns.deal(within, count, weights)
        if count < room:
            left = {job.id for job in dealt}
            without_slot += [job for jobs in within.values() for job in jobs if job.id not in left]
        allowed, lacking = budget.within_queue(dealt)
        if len(allowed) + len(lacking) < len(dealt):
            # The rate stopped them: whose job was not let in has not had its turn.
            self.turns = before
            self.turns.deal(within, len(allowed) + len(lacking), weights)
        return allowed, without_slot + lacking

    def _admit(
        self,
        connection: Connection,
        limits: QueueLimits,
        chosen: list[Candidate],
        types: dict[str, GovernedType],
    ) -> list[Candidate]:
        ids = admission_store.admit(connection, chosen)
        admitted = [job for job in chosen if job.id in ids]
        if admitted and (limits.rate or limits.key_rate):
            rate_store.grant(connection, self.queue, admitted)
        for name, count in Counter(job.type for job in admitted).items():
            governed = types.get(name)
            if governed and governed.limits.state is BreakerState.HALF_OPEN:
                anew = governed.probes_let_in >= governed.probes
                admission_store.count_probes(connection, name, count, anew=anew)
        return admitted

    def _resolve(
        self,
        connection: Connection,
        limits: QueueLimits,
        without_slot: list[Candidate],
        holders: list[Holder],
    ) -> None:
        """Jobs that lack a slot are dropped, or take the place of the oldest that hold one."""
        if limits.on_conflict is OnConflict.DROP_NEW:
            dropped = admission_store.drop(connection, [job.id for job in without_slot])
            dependency_store.settle(connection, dropped, head_start_seconds=self.head_start_seconds)
            log.info("jobs_dropped", queue=self.queue, jobs=len(dropped))
            return
        for key, count in Counter(job.key for job in without_slot).items():
            by_key = limits.key_concurrency is not None and key != KEYLESS
            held = sum(
                holder.running + holder.waiting
                for holder in holders
                if holder.queue == self.queue and (not by_key or holder.key == key)
            )
            oldest = admission_store.oldest_holders(
                connection, self.queue, key if by_key else None, min(count, held)
            )
            cancellation.cancel(connection, oldest, head_start_seconds=self.head_start_seconds)


def _whole(slots: float, most: int) -> int:
    """As a count of rows to read."""
    return int(max(0, min(slots, most)))


def _skipped(limits: QueueLimits, budget: Budget) -> list[str]:
    """Types of which no job can be let in, whose jobs are not even read: they may be many."""
    if limits.on_conflict is not OnConflict.WAIT:
        return []
    return [name for name, slots in budget.type_slots.items() if slots < 1]
