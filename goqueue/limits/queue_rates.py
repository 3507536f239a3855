"""The starts that the rate limits of one queue still allow, by its grants and its token buckets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from goqueue.db.database import Connection
from goqueue.limits import rate_rows as rate_store
from goqueue.limits.admission_rows import OpenQueue
from goqueue.limits.rate_rows import QUEUE_BUCKET, Spent, Start
from goqueue.limits.rate_rules import RateBudget, TokenBucket, keeps_history
from goqueue.limits.settings import RateAlgorithm, RateLimit


@dataclass(frozen=True, slots=True)
class QueueRates:
    """The rate limits of a queue and of its keys, in the transaction of a round."""

    queue: str

    def read(self, connection: Connection, opened: OpenQueue) -> RateBudget:
        """Charge what started since the last round, and return what is left of the queue's own rate."""
        rate, key_rate = opened.limits.rate, opened.limits.key_rate
        starts = rate_store.settle(connection, self.queue)
        history = max(keeps_history(rate), keeps_history(key_rate))
        rate_store.forget(connection, self.queue, older_than_seconds=history)
        self._spend(connection, key_rate, [start for start in starts if start.key])
        self._spend(connection, rate, [start._replace(key=QUEUE_BUCKET) for start in starts])
        if rate is None:
            return RateBudget()
        spent = {QUEUE_BUCKET: rate_store.spent(connection, self.queue, seconds=keeps_history(rate))}
        return self._budgets(connection, rate, opened.now, spent)[QUEUE_BUCKET]

    def of_keys(
        self, connection: Connection, opened: OpenQueue, keys: Iterable[str]
    ) -> dict[str, RateBudget]:
        """Return what is left of the rate of each of the keys."""
        rate = opened.limits.key_rate
        assert rate is not None
        spent = dict.fromkeys(keys, Spent())
        spent |= rate_store.spent_by_keys(connection, self.queue, spent, seconds=keeps_history(rate))
        return self._budgets(connection, rate, opened.now, spent)

    def _spend(self, connection: Connection, rate: RateLimit | None, starts: list[Start]) -> None:
        """Take the starts out of their token buckets; a bucket that nobody used is full."""
        if not starts or rate is None or rate.algorithm is not RateAlgorithm.TOKEN_BUCKET:
            return
        buckets = rate_store.buckets(connection, self.queue, rate, {start.key for start in starts})
        for start in starts:
            full = TokenBucket(rate, float(rate.limit), start.at)
            buckets.setdefault(start.key, full).spend(start.cost, start.at)
        rate_store.keep_buckets(connection, self.queue, buckets)

    def _budgets(
        self, connection: Connection, rate: RateLimit, now: float, spent: dict[str, Spent]
    ) -> dict[str, RateBudget]:
        if rate.algorithm is RateAlgorithm.SLIDING_WINDOW:
            return {
                key: RateBudget.of_window(rate, used=used, let_in=let_in)
                for key, (used, let_in) in spent.items()
            }
        buckets = rate_store.buckets(connection, self.queue, rate, spent)
        full = TokenBucket(rate, float(rate.limit), now)
        return {
            key: RateBudget.of_bucket(buckets.get(key, full), now, let_in=let_in)
            for key, (_, let_in) in spent.items()
        }
