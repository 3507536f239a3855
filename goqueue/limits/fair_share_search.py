"""The search for jobs that may be next where keys take turns: along their ring, from where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from goqueue.db.database import Connection
from goqueue.limits import candidate_rows as candidate_store
from goqueue.limits.admission_rows import OpenQueue
from goqueue.limits.candidate_rows import Runnable
from goqueue.limits.queue_rates import QueueRates
from goqueue.limits.rules import KEYLESS, Budget, Candidate, FairShare
from goqueue.limits.settings import KeyLimits, OnConflict

#: The most keys that one round looks at, beside those that have no slot left.
SEARCH_KEYS = 1000

#: How soon a queue whose keys take turns is searched again for jobs without a key, where there were none.
KEYLESS_SECONDS = 0.5

#: Jobs without a key may stand far behind others: a search that took longer than this comes seldom.
KEYLESS_SLOW_SECONDS = 0.02
KEYLESS_REST = 10


@dataclass(slots=True)
class Round:
    """The base of a search: the queue as it is now, and what its limits still allow.

    Attributes:
        skipped: types of which no job can be let in.
        runnable: what the workers of the queue know.
    """

    connection: Connection
    opened: OpenQueue
    budget: Budget
    keys: dict[str, KeyLimits]
    skipped: list[str]
    runnable: Runnable = None


@dataclass(slots=True)
class FairShareSearch:
    """A search along the ring of a queue's keys, which goes on from round to round.

    Attributes:
        fair_share: whose turn it is; moved on here past keys that have nothing to let in.
        keyless_at: when jobs without a key are looked for again.
    """

    queue: str
    rates: QueueRates
    fair_share: FairShare
    keyless_at: float = 0.0

    def find(self, now: Round, count: int) -> dict[str, list[Candidate]]:
        """Find the jobs that may be next, by key in the order of the ring, until `count` may be let in.

        Keys that cannot move may be many (a closed type, a rate that is used up, an oldest job that is held
        up): the search goes on behind them, and in the next round where it stopped in this one.
        """
        without_slot = sum(slots < 1 for slots in now.budget.key_slots.values())
        size, most = count + without_slot, max(SEARCH_KEYS, count) + without_slot
        names: list[str] = []
        found: dict[str, list[Candidate]] = {}
        usable = 0
        while True:
            ring, is_whole = self._ring(now, size)
            page = self._heads(now, ring[len(names) :], count)
            names, found = ring, found | page
            usable += sum(len(now.budget.within_key(key, jobs)) for key, jobs in page.items())
            if is_whole or usable >= count or size >= most:
                break
            size = min(4 * size, most)
        return self._in_order(now, names, found, count, is_whole=is_whole, is_idle=not usable)

    def _ring(self, now: Round, count: int) -> tuple[list[str], bool]:
        """The next keys, from the one whose visit is not over, or from the one behind it; whether all are."""
        names = candidate_store.ring(now.connection, self.queue, after=self.fair_share.last, count=count)
        is_whole = len(names) < count
        if self._is_visiting:
            names = [self.fair_share.last, *(name for name in names if name != self.fair_share.last)]
        return names, is_whole

    @property
    def _is_visiting(self) -> bool:
        return bool(self.fair_share.left) and self.fair_share.last != KEYLESS

    def _heads(self, now: Round, names: Sequence[str], count: int) -> dict[str, list[Candidate]]:
        if not names:
            return {}
        limits = now.opened.limits
        if limits.key_rate is not None:
            now.budget.key_rates |= self.rates.of_keys(now.connection, now.opened, names)
        share = math.ceil(count / len(names))
        # One more than can be let in says that a visit is not over.
        counts = {name: min(count + 1, share * now.keys.get(name, KeyLimits()).weight) for name in names}
        if limits.on_conflict is OnConflict.WAIT:
            counts = {name: int(min(most, now.budget.slots_of(name))) for name, most in counts.items()}
        return candidate_store.heads(
            now.connection,
            self.queue,
            {name: most for name, most in counts.items() if most > 0},
            fifo=limits.fifo,
            except_types=now.skipped,
            runnable=now.runnable,
        )

    def _in_order(
        self,
        now: Round,
        names: list[str],
        found: dict[str, list[Candidate]],
        count: int,
        *,
        is_whole: bool,
        is_idle: bool,
    ) -> dict[str, list[Candidate]]:
        """By the order of the ring; jobs without a key share a turn, which comes where it begins anew."""
        visited = names[: int(self._is_visiting)]
        rest = names[len(visited) :]
        behind = [name for name in rest if name > self.fair_share.last]
        around = rest[len(behind) :]
        if is_whole or around:
            found = found | {KEYLESS: self._keyless(now, count)}
        if is_idle and not is_whole and not found.get(KEYLESS):
            self.fair_share.last, self.fair_share.left = names[-1], 0
        order = [*visited, *behind, KEYLESS, *around]
        return {name: found[name] for name in order if found.get(name)}

    def _keyless(self, now: Round, count: int) -> list[Candidate]:
        started = time.monotonic()
        if started < self.keyless_at:
            return []
        jobs = candidate_store.by_rank(
            now.connection,
            self.queue,
            count,
            keyless=True,
            except_types=now.skipped,
            runnable=now.runnable,
        )
        ended = time.monotonic()
        if not jobs:
            self.keyless_at = ended + KEYLESS_SECONDS
        elif ended - started > KEYLESS_SLOW_SECONDS:
            self.keyless_at = ended + KEYLESS_REST * (ended - started)
        return jobs
