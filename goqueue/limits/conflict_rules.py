"""The jobs that lack a slot, which `on_conflict` decides about. Pure Python.

Only concurrency limits count. A job that waits for a start of a rate, for a breaker or for a ramp waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from goqueue.limits.rules import KEYLESS, Candidate, Holder, TypeLimitState
from goqueue.limits.settings import KeyLimits, QueueLimits


class FullLimit(NamedTuple):
    """A limit whose slots are all held: a key's, a type's over all queues, or, of neither, the queue's."""

    key: str | None = None
    type: str | None = None


@dataclass(slots=True)
class HeldSlots:
    """The held slots of the queue, its keys and all types, beside their limits."""

    limits: QueueLimits
    keys: Mapping[str, KeyLimits]
    types: Mapping[str, TypeLimitState]
    in_queue: int
    of_keys: Counter[str]
    of_types: Counter[str]

    @classmethod
    def after(
        cls,
        queue: str,
        limits: QueueLimits,
        keys: Mapping[str, KeyLimits],
        types: Mapping[str, TypeLimitState],
        holders: Iterable[Holder],
        admitted: Iterable[Candidate],
    ) -> HeldSlots:
        """Count the slots that are held after a round: those held before, and those of the jobs it let in."""
        held = cls(limits, keys, types, 0, Counter(), Counter())
        for holder in holders:
            count = holder.slots
            held.of_types[holder.type] += count
            if holder.queue == queue:
                held.in_queue += count
                held.of_keys[holder.key] += count
        for job in admitted:
            held.in_queue += job.units
            held.of_keys[job.key] += job.units
            held.of_types[job.type] += job.units
        return held

    def of(self, full: FullLimit) -> int:
        """Return how many slots of this limit are held."""
        if full.key is not None:
            return self.of_keys[full.key]
        return self.in_queue if full.type is None else self.of_types[full.type]

    def full_limit(self, job: Candidate) -> FullLimit | None:
        """Return the narrowest limit that this job finds full; None where it could have a slot."""
        key_limit = self._key_limit(job.key)
        if key_limit is not None and _is_full(job, self.of_keys[job.key], key_limit):
            return FullLimit(key=job.key)
        limited = self.types.get(job.type)
        type_limit = limited.limits.concurrency if limited else None
        if type_limit is not None and _is_full(job, self.of_types[job.type], type_limit):
            return FullLimit(type=job.type)
        if self.limits.concurrency is not None and _is_full(job, self.in_queue, self.limits.concurrency):
            return FullLimit()
        return None

    def _key_limit(self, key: str) -> int | None:
        if key == KEYLESS:
            return None
        if self.limits.fifo:
            return 1
        own = self.keys.get(key, KeyLimits()).concurrency
        return self.limits.key_concurrency if own is None else own


def _is_full(job: Candidate, held: int, limit: int) -> bool:
    """Whether too few slots are free; a job that takes more than there are takes all of them."""
    return held + min(job.units, limit) > limit
