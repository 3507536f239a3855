"""Rates of starts: token buckets, sliding windows, and what either still allows. Pure Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

from goqueue.limits.settings import RateAlgorithm, RateLimit


@dataclass(slots=True)
class TokenBucket:
    """The level of a bucket, by the starts so far. Times are seconds of one clock."""

    rate: RateLimit
    level: float
    updated_at: float

    def at(self, now: float) -> float:
        """Return the level of the bucket at a time."""
        gained = max(0.0, now - self.updated_at) * self.rate.limit / self.rate.period_seconds
        return min(float(self.rate.limit), self.level + gained)

    def spend(self, cost: int, started_at: float) -> None:
        """Take the cost of a job that started out of the bucket; the level may fall below zero."""
        at = max(self.updated_at, started_at)
        self.level = self.at(at) - cost
        self.updated_at = at


@dataclass(slots=True)
class RateBudget:
    """The starts that a rate limit allows now.

    A job that was let in counts from then until its start as if it started at every moment in between: so the
    limit holds for the starts, however late they come.

    Attributes:
        free: what may still be spent.
        whole: nothing is spent or let in: then also a job that costs more than the limit may start.
    """

    free: float = math.inf
    whole: bool = True

    @classmethod
    def of_window(cls, rate: RateLimit, *, used: int, let_in: int) -> RateBudget:
        """Return the budget of a sliding window in which `used` was spent, with `let_in` on its way."""
        return cls(rate.limit - used - let_in, used + let_in == 0)

    @classmethod
    def of_bucket(cls, bucket: TokenBucket, now: float, *, let_in: int) -> RateBudget:
        """Return the budget of a token bucket, with `let_in` on its way."""
        level = bucket.at(now)
        return cls(level - let_in, let_in == 0 and level >= bucket.rate.limit)

    def affords(self, cost: int) -> bool:
        """Tell whether a job of this cost may start."""
        return cost <= self.free or self.whole

    def spend(self, cost: int) -> None:
        """Take the cost of a job that is let in out of the budget."""
        self.free -= cost
        self.whole = False


def keeps_history(rate: RateLimit | None) -> float:
    """Return for how many seconds the starts under this limit have to be remembered one by one."""
    if rate is None or rate.algorithm is RateAlgorithm.TOKEN_BUCKET:
        return 0.0
    return rate.period_seconds
