"""The rules by which jobs are let in: fair share of keys, slots of limits, tokens of rates. Pure Python.

`admission_rows.py` reads what this decides by, and writes what it decided; `admission_round.py` is the round
that does both. See `settings.py` for what the settings mean.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from goqueue.limits.rate_rules import RateBudget
from goqueue.limits.settings import BreakerState, KeyLimits, QueueLimits, RateLimit, TypeLimits

#: How long after its last probe a half-open breaker whose probes came to nothing is probed again.
PROBE_AGAIN_SECONDS = 5.0

#: The turn of jobs without a key; a key is never empty.
KEYLESS = ""


class Candidate(NamedTuple):
    """A ready job that was not let in yet.

    Attributes:
        tried: schemas that could not read its payload, while it waits for another one.
        requires: the labels that its worker has to have; None: it runs anywhere, and takes one slot.
        slots: how many threads of its worker it takes.
        units: how many slots of each limit it takes.
    """

    id: int
    fence: int
    rank: datetime
    type: str
    key: str
    cost: int
    quarantined: bool = False
    alone: bool = False
    tried: list[str] | None = None
    requires: list[str] | None = None
    slots: int = 1
    units: int = 1


@dataclass(frozen=True, slots=True)
class TypeLimitState:
    """The limits of a type, and how far the probes of its half-open breaker have come.

    Attributes:
        probes_let_in: since its breaker became half-open.
        probed_seconds: how long ago the last one was let in.
    """

    limits: TypeLimits
    probes_let_in: int
    probed_seconds: float | None

    @property
    def probes(self) -> int:
        """The number of jobs that a half-open breaker lets in."""
        return self.limits.breaker.probes if self.limits.breaker else 0


class Holder(NamedTuple):
    """The slots that the jobs of a queue, key and type hold.

    Attributes:
        waiting: were let in and have not started.
        suspects: of these; a process starts one after the other.
        alone: of the suspects; only one at a time runs, in a process that runs nothing else.
        beyond: slots that they hold beyond one each.
    """

    queue: str
    key: str
    type: str
    running: int
    waiting: int
    suspects: int = 0
    alone: int = 0
    beyond: int = 0

    @property
    def jobs(self) -> int:
        """The number of jobs that hold slots."""
        return self.running + self.waiting

    @property
    def slots(self) -> int:
        """The number of slots that they hold."""
        return self.jobs + self.beyond


@dataclass(slots=True)
class FairShare:
    """The place in a ring of keys that take turns, each for as many jobs as its weight.

    Attributes:
        last: the key that was served last.
        left: how many more turns it has in its visit; 0: the visit is over.
    """

    last: str = KEYLESS
    left: int = 0

    def deal(
        self, waiting: Mapping[str, list[Candidate]], count: int, weights: Mapping[str, int]
    ) -> list[Candidate]:
        """Take up to `count` jobs by turns of their keys, and remember where to go on.

        `waiting` has the jobs of each key, in the order of the ring, which begins where `last` and `left`
        say; `weights` those of keys that have not weight 1.
        """
        ring = deque((key, deque(jobs)) for key, jobs in waiting.items() if jobs)
        dealt: list[Candidate] = []
        while ring and len(dealt) < count:
            key, jobs = ring.popleft()
            weight = weights.get(key, 1)
            allowed = min(self.left, weight) if key == self.last and self.left else weight
            taken = min(allowed, len(jobs), count - len(dealt))
            dealt += [jobs.popleft() for _ in range(taken)]
            self.last, self.left = key, allowed - taken if jobs else 0
            if jobs and not self.left:
                ring.append((key, jobs))
        return dealt


@dataclass(slots=True)
class Budget:
    """The jobs that the limits of a queue still allow in this round.

    A job that takes more slots than a limit has takes all of them. One that lacks slots of a limit, because
    it takes several, stops those behind it: they would keep it waiting for ever.

    Attributes:
        slots: free ones of the queue; and of types and keys that have a limit.
        ramp: how many jobs may start while admission ramps up, and by the quota of the namespace.
        limit, type_limits, key_limits: all slots of each limit.
        rate, key_rates: starts of the queue, and of keys.
        key_slots_default, key_rate_default: for a key that holds nothing.
    """

    slots: float = math.inf
    ramp: float = math.inf
    limit: float = math.inf
    type_limits: dict[str, int] = field(default_factory=dict)
    key_limits: dict[str, int] = field(default_factory=dict)
    type_slots: dict[str, int] = field(default_factory=dict)
    key_slots: dict[str, int] = field(default_factory=dict)
    key_slots_default: float = math.inf
    rate: RateBudget = field(default_factory=RateBudget)
    key_rates: dict[str, RateBudget] = field(default_factory=dict)
    key_rate_default: RateLimit | None = None

    def slots_of(self, key: str) -> float:
        """Return how many jobs of a key may be let in; those without a key have no limit of their own."""
        if key == KEYLESS:
            return math.inf
        return self.key_slots.get(key, self.key_slots_default)

    def within_key(self, key: str, jobs: Iterable[Candidate]) -> list[Candidate]:
        """Return as many of a key's jobs, from the first on, as the key's own limits allow."""
        allowed: list[Candidate] = []
        rate = self._rate_of(key)
        slots = self.slots_of(key)
        limit = self.key_limits.get(key, self.key_slots_default)
        for job in jobs:
            if min(job.units, limit) > slots or not rate.affords(job.cost):
                break
            slots -= job.units
            rate.spend(job.cost)
            allowed.append(job)
        return allowed

    def within_queue(self, jobs: Iterable[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Return the jobs that the limits of queue and types allow, in their order, and those without a slot.

        A job that the queue's rate does not afford stops those behind it: cheaper ones would keep it waiting
        for ever.
        """
        allowed: list[Candidate] = []
        without_slot: list[Candidate] = []
        for job in jobs:
            if self._lacks_slot(job):
                without_slot.append(job)
            elif self.rate.affords(job.cost):
                self._spend(job)
                allowed.append(job)
            else:
                break
        return allowed, without_slot

    def _lacks_slot(self, job: Candidate) -> bool:
        """Whether there are too few slots; those that there are wait with a job that takes several."""
        of_queue = min(job.units, self.limit)
        of_type = min(job.units, self.type_limits.get(job.type, math.inf))
        if self.slots < of_queue:
            self.slots = 0
            return True
        if job.type in self.type_slots and self.type_slots[job.type] < of_type:
            self.type_slots[job.type] = 0
            return True
        return self.ramp < 1

    def _spend(self, job: Candidate) -> None:
        self.slots -= job.units
        self.ramp -= 1
        self.rate.spend(job.cost)
        if job.type in self.type_slots:
            self.type_slots[job.type] -= job.units

    def _rate_of(self, key: str) -> RateBudget:
        """A copy that the jobs of this round may use up."""
        known = self.key_rates.get(key)
        if known is not None:
            return RateBudget(known.free, known.whole)
        if self.key_rate_default is None or key == KEYLESS:
            return RateBudget()
        return RateBudget(self.key_rate_default.limit)


def ramped_slots(worker_slots: int, ramp: float | None) -> float:
    """Return how many jobs may run at once in a ramp: one at its beginning, all slots at its end."""
    return math.inf if ramp is None else max(1, int(worker_slots * ramp))


def left_of(limit: int | None, held: int) -> float:
    """Return how many slots of a limit are free; infinite where there is none."""
    return math.inf if limit is None else limit - held


def key_limits(limits: QueueLimits, keys: dict[str, KeyLimits], names: Iterable[str]) -> dict[str, int]:
    """Return all slots of these keys, as far as they have a limit."""
    found = {}
    for key in names:
        own = keys.get(key, KeyLimits()).concurrency
        limit = limits.key_concurrency if own is None else own
        if limits.fifo:
            limit = 1
        if limit is not None:
            found[key] = limit
    return found


def key_slots(limits: QueueLimits, keys: dict[str, KeyLimits], here: list[Holder]) -> dict[str, int]:
    """Count the free slots of every key that holds some, or has a limit of its own."""
    held: Counter[str] = Counter()
    for holder in here:
        held[holder.key] += holder.slots
    names = {*held, *(name for name, own in keys.items() if own.concurrency is not None)} - {KEYLESS}
    return {key: limit - held[key] for key, limit in key_limits(limits, keys, names).items()}


def type_slots(types: dict[str, TypeLimitState], holders: list[Holder]) -> dict[str, int]:
    """Count the free slots of every limited type, over all queues."""
    held: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    for holder in holders:
        held[holder.type] += holder.slots
        jobs[holder.type] += holder.jobs
    slots = {}
    for name, limited in types.items():
        left = [left_of(limited.limits.concurrency, held[name]), _breaker_slots(limited, jobs[name])]
        if min(left) < math.inf:
            slots[name] = int(min(left))
    return slots


def closed_types(types: dict[str, TypeLimitState], holders: list[Holder]) -> list[str]:
    """List the types of which a breaker lets no job in, whatever their concurrency limits say."""
    held: Counter[str] = Counter()
    for holder in holders:
        held[holder.type] += holder.running + holder.waiting
    return [name for name, limited in types.items() if _breaker_slots(limited, held[name]) < 1]


def _breaker_slots(limited: TypeLimitState, held: int) -> float:
    """Closed lets everything in, open nothing, half-open its probes."""
    state = limited.limits.state
    if limited.limits.breaker is None or state is BreakerState.CLOSED:
        return math.inf
    if state is BreakerState.OPEN:
        return 0
    left = limited.probes - limited.probes_let_in
    came_to_nothing = not held and (limited.probed_seconds or 0.0) > PROBE_AGAIN_SECONDS
    return limited.probes if left <= 0 and came_to_nothing else left
