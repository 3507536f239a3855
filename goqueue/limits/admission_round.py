"""One round of admission of one queue: what the dispatcher does for queues and types that have limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog

from goqueue.db.database import Connection
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.drop import drop
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import candidate_rows as candidate_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import rate_rows as rate_store
from goqueue.limits.admission_rows import OpenQueue
from goqueue.limits.candidate_rows import Runnable
from goqueue.limits.conflict_rules import HeldSlots
from goqueue.limits.fair_share_search import FairShareSearch, Round
from goqueue.limits.queue_rates import QueueRates
from goqueue.limits.rules import (
    KEYLESS,
    Budget,
    Candidate,
    FairShare,
    Holder,
    TypeLimitState,
    closed_types,
    key_limits,
    key_slots,
    left_of,
    ramped_slots,
    type_slots,
)
from goqueue.limits.settings import BreakerState, KeyLimits, OnConflict, QueueLimits
from goqueue.limits.window_rules import Window

log = structlog.get_logger(__name__)

#: Suspects of each kind that a round looks at, and the most that hold slots while they wait to run beside
#: others, and to run alone: they start one by one, and these only when a process runs nothing else.
SUSPECTS = 16
BESIDE_AHEAD = 4
ALONE_AHEAD = 1

#: The most jobs of a round: its transaction holds the queue's lock.
ROUND_MAX = 1000

#: And of one in which keys take turns, which reads a key or more for each job.
FAIR_ROUND_MAX = 500


@dataclass(slots=True)
class QueueAdmission:
    """Lets the jobs of one queue in. What it remembers from round to round only makes it fair and quick.

    Attributes:
        worker_slots: the jobs of the queue that its live workers run at once.
        runnable: what live workers that listen to it know.
    """

    queue: str
    worker_slots: int
    window: Window
    rates: QueueRates
    runnable: Runnable = None
    fair_share: FairShare = field(default_factory=FairShare)
    search: FairShareSearch = field(init=False)

    def __post_init__(self) -> None:
        self.search = FairShareSearch(self.queue, self.rates, self.fair_share)

    def round(self, connection: Connection) -> list[Candidate]:
        """Let in whatever the limits allow now, in the connection's transaction, in the order of starting."""
        opened = admission_store.open_queue(connection, self.queue)
        if opened is None:
            return []
        types = admission_store.types_of(connection)
        holders = admission_store.holders(connection, self.queue, types)
        limits = opened.limits
        room = min(FAIR_ROUND_MAX if limits.by_key else ROUND_MAX, self._room(holders))
        if not room:
            return []
        keys = queue_settings.key_limits(connection, self.queue) if limits.by_key else {}
        budget = self._budget(connection, opened, types, holders, keys)
        skipped = _skipped(limits, budget, types, holders)
        now = Round(connection, opened, budget, keys, skipped, self.runnable)
        waiting = self._waiting(now, room, [holder for holder in holders if holder.queue == self.queue])
        admitted = self._admit(connection, limits, self._choose(waiting, budget, room, keys), types)
        self.window.was_filled = len(admitted) >= room
        if limits.on_conflict is not OnConflict.WAIT:
            held = HeldSlots.after(self.queue, limits, keys, types, holders, admitted)
            self._resolve(connection, held, waiting, {job.id for job in admitted})
        return admitted

    def _room(self, holders: Iterable[Holder]) -> int:
        """Of the window; suspects do not start soon, so they are not in it."""
        here = [holder for holder in holders if holder.queue == self.queue]
        return self.window.room(sum(holder.waiting - holder.suspects for holder in here))

    # What the limits allow

    def _budget(
        self,
        connection: Connection,
        opened: OpenQueue,
        types: dict[str, TypeLimitState],
        holders: list[Holder],
        keys: dict[str, KeyLimits],
    ) -> Budget:
        limits = opened.limits
        here = [holder for holder in holders if holder.queue == self.queue]
        budget = Budget(
            slots=left_of(limits.concurrency, sum(holder.slots for holder in here)),
            ramp=self._ramp(opened) - sum(holder.jobs for holder in here),
            limit=left_of(limits.concurrency, 0),
            type_slots=type_slots(types, holders),
            type_limits=type_slots(types, []),
            key_slots_default=math.inf if limits.key_concurrency is None else limits.key_concurrency,
            key_rate_default=limits.key_rate,
        )
        if opened.namespace_governed:
            budget.ramp = min(budget.ramp, admission_store.namespace_slots(connection))
        if limits.by_key:
            budget.key_slots = key_slots(limits, keys, here)
            budget.key_limits = key_limits(limits, keys, budget.key_slots)
        if limits.rate or limits.key_rate:
            budget.rate = self.rates.read(connection, opened)
        return budget

    def _ramp(self, opened: OpenQueue) -> float:
        """How many jobs may run at once while admission ramps up."""
        return ramped_slots(self.worker_slots, opened.ramp)

    # Who waits

    def _waiting(self, now: Round, room: int, here: list[Holder]) -> dict[str, list[Candidate]]:
        """The jobs that may be next, by key in the order of the ring; without keys all are one."""
        limits = now.opened.limits
        waits = limits.on_conflict is OnConflict.WAIT
        count = min(room, _whole(min(now.budget.slots, now.budget.ramp), room)) if waits else room
        if not count:
            return {}
        waiting: dict[str, list[Candidate]] = {}
        for suspect in self._suspects(now, here):
            waiting.setdefault(suspect.key, []).append(suspect)
        if limits.by_key:
            others = self.search.find(now, count)
        else:
            others = {
                KEYLESS: candidate_store.by_rank(
                    now.connection, self.queue, count, except_types=now.skipped, runnable=now.runnable
                )
            }
        for key, jobs in others.items():
            waiting.setdefault(key, []).extend(jobs)
        return waiting

    def _suspects(self, now: Round, here: list[Holder]) -> list[Candidate]:
        """Before all others: a key of which only a suspect waits is not in the ring."""
        limits = now.opened.limits
        suspects = candidate_store.suspects(
            now.connection,
            self.queue,
            SUSPECTS,
            fifo=limits.fifo,
            except_types=now.skipped,
            runnable=now.runnable,
            except_keys=[key for key, slots in now.budget.key_slots.items() if slots < 1],
        )
        if suspects and limits.key_rate is not None:
            keys = {suspect.key for suspect in suspects} - {KEYLESS}
            now.budget.key_rates |= self.rates.of_keys(now.connection, now.opened, keys)
        free = [suspect for suspect in suspects if now.budget.within_key(suspect.key, [suspect])]
        alone = sum(holder.alone for holder in here)
        beside = sum(holder.suspects for holder in here) - alone
        return [
            *[suspect for suspect in free if not suspect.alone][: max(0, BESIDE_AHEAD - beside)],
            *[suspect for suspect in free if suspect.alone][: max(0, ALONE_AHEAD - alone)],
        ]

    # Who is let in

    def _choose(
        self,
        waiting: dict[str, list[Candidate]],
        budget: Budget,
        room: int,
        keys: dict[str, KeyLimits],
    ) -> list[Candidate]:
        """The jobs to let in, in their order."""
        within = {key: budget.within_key(key, jobs) for key, jobs in waiting.items()}
        weights = {key: limits.weight for key, limits in keys.items()}
        before = replace(self.fair_share)
        dealt = self.fair_share.deal(within, _whole(min(budget.slots, budget.ramp), room), weights)
        allowed, lacking = budget.within_queue(dealt)
        if len(allowed) + len(lacking) < len(dealt):
            # The rate stopped them: whose job was not let in has not had its turn.
            self.fair_share.last, self.fair_share.left = before.last, before.left
            self.fair_share.deal(within, len(allowed) + len(lacking), weights)
        return allowed

    def _admit(
        self,
        connection: Connection,
        limits: QueueLimits,
        chosen: list[Candidate],
        types: dict[str, TypeLimitState],
    ) -> list[Candidate]:
        ids = admission_store.admit(connection, chosen)
        admitted = [job for job in chosen if job.id in ids]
        if admitted and (limits.rate or limits.key_rate):
            rate_store.grant(connection, self.queue, admitted)
        for name, count in Counter(job.type for job in admitted).items():
            limited = types.get(name)
            if limited and limited.limits.state is BreakerState.HALF_OPEN:
                anew = limited.probes_let_in >= limited.probes
                admission_store.count_probes(connection, name, count, anew=anew)
        return admitted

    def _resolve(
        self,
        connection: Connection,
        held: HeldSlots,
        waiting: dict[str, list[Candidate]],
        admitted: set[int],
    ) -> None:
        """Jobs that lack a slot are dropped, or take the place of the oldest that hold one."""
        jobs = [job for jobs in waiting.values() for job in jobs if job.id not in admitted]
        lacking = {job.id: full for job in jobs if (full := held.full_limit(job)) is not None}
        if not lacking:
            return
        if held.limits.on_conflict is OnConflict.DROP_NEW:
            dropped = drop(connection, lacking)
            log.info("jobs_dropped", queue=self.queue, jobs=len(dropped))
            return
        for full, count in Counter(lacking.values()).items():
            oldest = admission_store.oldest_holders(connection, self.queue, full, min(count, held.of(full)))
            cancel(connection, oldest)


def _whole(slots: float, most: int) -> int:
    """As a count of rows to read."""
    return int(max(0, min(slots, most)))


def _skipped(
    limits: QueueLimits, budget: Budget, types: dict[str, TypeLimitState], holders: list[Holder]
) -> list[str]:
    """Types of which no job can be let in, whose jobs are not even read: they may be many."""
    if limits.on_conflict is not OnConflict.WAIT:
        return closed_types(types, holders)
    return [name for name, slots in budget.type_slots.items() if slots < 1]
