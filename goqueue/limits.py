"""How jobs are let in: what the settings of a queue, a key and a type mean. Pure Python.

A job of a *governed* queue or type starts only after the dispatcher has let it in (`jobs.admitted`), by the
rules here. The slots of a limit are rows: jobs that run, and jobs that were let in and have not started.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

MAX_CONCURRENCY = 1_000_000
MAX_WEIGHT = 1_000
MAX_RATE_LIMIT = 1_000_000
MAX_RATE_PERIOD_SECONDS = 31 * 86_400.0
MAX_RAMP_SECONDS = 3_600.0

Item = TypeVar("Item")


class OnConflict(enum.StrEnum):
    """What happens to a job whose concurrency limit is reached.

    wait: it waits for a slot.
    drop_new: it is cancelled, with the reason `dropped`.
    cancel_running: the oldest job that holds a slot is asked to stop, and this one takes its place.
    """

    WAIT = "wait"
    DROP_NEW = "drop_new"
    CANCEL_RUNNING = "cancel_running"


class RateAlgorithm(enum.StrEnum):
    """How starts are counted.

    sliding_window: in no window of `period_seconds` there are more than `limit`.
    token_bucket: a bucket of `limit` tokens is refilled evenly over `period_seconds`; so after a quiet time a
        burst of `limit` may start at once, and then one each `period_seconds / limit`.
    """

    SLIDING_WINDOW = "sliding_window"
    TOKEN_BUCKET = "token_bucket"  # noqa: S105  (an algorithm)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` starts (weighed by `rate_cost`) in `period_seconds`."""

    limit: int
    period_seconds: float
    algorithm: RateAlgorithm = RateAlgorithm.SLIDING_WINDOW


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a job type is stopped because it fails, and how it comes back.

    Attributes:
        failure_rate: it opens when this part of the attempts of the window failed, 0 to 1.
        minimum: and at least so many attempts ended in the window.
        window_seconds: how far back is looked.
        cooldown_seconds: how long it stays open before probes are let in.
        probes: so many jobs are let in half-open; it closes when all of them complete, and opens again when
            one fails.
    """

    failure_rate: float = 0.5
    minimum: int = 10
    window_seconds: float = 60.0
    cooldown_seconds: float = 30.0
    probes: int = 3


class BreakerState(enum.StrEnum):
    """Where a breaker stands: closed lets everything in, open nothing, half-open only probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How a queue lets its jobs in. None is without limit.

    Attributes:
        concurrency: the most jobs of the queue that run at once.
        key_concurrency: and the most of each concurrency key; a key may have its own (`KeyLimits`).
        on_conflict: what happens to a job whose concurrency limit is reached.
        fair: the keys take turns, by their weights, instead of the jobs by their rank.
        fifo: jobs of a key run strictly one after the other, in the order of their creation.
        rate, key_rate: the most starts, of the queue and of each key.
        ramp_seconds: after a pause or a slow-down, the jobs that run at once grow from one to all threads
            over so long; 0 is at once.
    """

    concurrency: int | None = None
    key_concurrency: int | None = None
    on_conflict: OnConflict = OnConflict.WAIT
    fair: bool = False
    fifo: bool = False
    rate: RateLimit | None = None
    key_rate: RateLimit | None = None
    ramp_seconds: float = 0.0

    @property
    def by_key(self) -> bool:
        """Whether keys matter for the order: they take turns."""
        return self.fair or self.fifo or self.key_concurrency is not None or self.key_rate is not None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What is special about one key: its share of the turns, and its own concurrency limit."""

    weight: int = 1
    concurrency: int | None = None


@dataclass(slots=True)
class TokenBucket:
    """The level of a bucket, by the starts so far. Times are seconds of one clock.

    Jobs that were let in and have not started are not in the level: who asks subtracts them, so that a start
    that comes late counts when it comes.
    """

    rate: RateLimit
    level: float
    updated_at: float

    def at(self, now: float) -> float:
        """The level at a time."""
        gained = max(0.0, now - self.updated_at) * self.rate.limit / self.rate.period_seconds
        return min(float(self.rate.limit), self.level + gained)

    def spend(self, cost: int, started_at: float) -> None:
        """A job started."""
        at = max(self.updated_at, started_at)
        self.level = self.at(at) - cost
        self.updated_at = at

    def seconds_until(self, cost: float, now: float) -> float:
        """How long from now until the level is `cost`, if nothing starts meanwhile."""
        missing = cost - self.at(now)
        return max(0.0, missing * self.rate.period_seconds / self.rate.limit)


@dataclass(slots=True)
class Turns:
    """Whose turn it is: keys in a ring, by weight, beginning behind the key that was served last.

    Attributes:
        last: the key that was served last.
        served: how many of its turns that key has had in its present visit.
    """

    last: str = ""
    served: int = 0
    weights: Mapping[str, int] = field(default_factory=dict)

    def deal(self, waiting: Mapping[str, Iterable[Item]], count: int) -> list[Item]:
        """The next items: each key in the order of the ring gives as many as its weight, until `count`."""
        hands = {key: list(items) for key, items in waiting.items() if items}
        ring = sorted(hands)
        dealt: list[Item] = []
        key = self._first(ring)
        while ring and len(dealt) < count:
            allowed = self.weights.get(key, 1) - (self.served if key == self.last else 0)
            taken = hands[key][: min(allowed, count - len(dealt))]
            dealt += taken
            del hands[key][: len(taken)]
            self.served = (self.served if key == self.last else 0) + len(taken)
            self.last = key
            following = self._behind(ring, key)
            if not hands[key]:
                ring.remove(key)
                if following == key:
                    break
            elif self.served < self.weights.get(key, 1):
                break
            if following == key:
                self.served = 0
            key = following
        return dealt

    def _first(self, ring: list[str]) -> str:
        """The key to go on with: the last one while its visit is not over, else the one behind it."""
        if self.last in ring and self.served < self.weights.get(self.last, 1):
            return self.last
        return self._behind(ring, self.last) if ring else ""

    @staticmethod
    def _behind(ring: list[str], key: str) -> str:
        return next((other for other in ring if other > key), ring[0])
