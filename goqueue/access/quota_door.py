"""The quotas of a namespace at every door that creates jobs: REST, batches, Python, schedules."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from goqueue.access import namespace_rows, quota_rows
from goqueue.access.namespaces import Namespaces
from goqueue.access.quotas import Quotas
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import InvalidJobError, QuotaExceededError
from goqueue.jobs import NewJob

__all__ = ["CreateRate", "QuotaDoor", "open_quota_door"]

#: Jobs that wait are counted so often while there is room, and so often while there is none.
COUNT_SECONDS = 1.0
COUNT_FULL_SECONDS = 0.1

#: A count that takes long comes again after so many times as long.
COUNT_REST = 20

#: A process takes creates from the bucket of all for so long, and gives back none that it did not need.
LEASE_SECONDS = 0.05
LEASE_GOOD_FOR_SECONDS = 1.0

_UTF8_MAX_BYTES = 4


class CreateRate(NamedTuple):
    """The rate of creates, as the last create found it.

    Attributes:
        burst: how many creates a full bucket has.
        remaining: how many may follow at once.
        full_seconds: when it will be full again.
    """

    burst: float
    remaining: float
    full_seconds: float


class QuotaDoor:
    """Lets creates of a namespace pass, or refuses them by its quotas. Thread-safe.

    The rate is exact over all processes. Jobs that wait are counted now and then, and this process adds what
    it creates meanwhile: what others create within a second may be more than the quota.

    Args:
        namespaces: know the quotas.
        name: of the namespace.
        database: of the namespace.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        name: str,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespaces = namespaces
        self._name = name
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = 0
        self._counted_at = -math.inf
        self._count_took = 0.0
        self._leased = 0.0
        self._leased_until = -math.inf
        self._left = 0.0

    def admit(self, jobs: Sequence[NewJob]) -> None:
        """Let jobs be created.

        Raises:
            InvalidJobError: a payload is larger than the namespace may have.
            QuotaExceededError: there is no room for them now.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        quotas = self._quotas()
        if quotas is None or not quotas.at_creates or not jobs:
            return
        if quotas.max_payload_bytes is not None:
            _expect_small(jobs, quotas.max_payload_bytes)
        with self._lock:
            if quotas.max_waiting_jobs is not None:
                self._expect_room(quotas.max_waiting_jobs, len(jobs))
            if quotas.creates_per_second is not None:
                self._take(quotas.creates_per_second, len(jobs))
            self._waiting += len(jobs)

    def rate(self) -> CreateRate | None:
        """Return how the rate of creates stands in this process; None: nothing limits it."""
        quotas = self._quotas()
        rate = None if quotas is None else quotas.creates_per_second
        if rate is None:
            return None
        burst = quota_rows.burst_of(rate)
        remaining = max(0.0, min(burst, self._left + self._leased))
        return CreateRate(burst, remaining, (burst - remaining) / rate)

    def _quotas(self) -> Quotas | None:
        found = self._namespaces.find(self._name)
        return None if found is None else found.quotas

    def _expect_room(self, most: int, count: int) -> None:
        now = self._clock()
        age = now - self._counted_at
        is_full = self._waiting + count > most
        rest = max(COUNT_FULL_SECONDS if is_full else COUNT_SECONDS, COUNT_REST * self._count_took)
        if age >= rest:
            with self._database.autocommit() as connection:
                self._waiting = namespace_rows.unfinished(connection, most=most + 1).waiting
            self._counted_at = self._clock()
            self._count_took = self._counted_at - now
            is_full, age = self._waiting + count > most, 0.0
        if is_full:
            raise QuotaExceededError(
                f"the namespace may have {most} waiting jobs, and {min(most, self._waiting)} wait",
                quota="max_waiting_jobs",
                limit=most,
                remaining=max(0, most - self._waiting),
                retry_after=max(1.0, rest - age),
            )

    def _take(self, rate: float, count: int) -> None:
        if self._clock() < self._leased_until and self._leased >= count:
            self._leased -= count
            return
        # At a high rate many at once, so that not every create asks PostgreSQL; at a low one these alone.
        wanted = max(count, int(rate * LEASE_SECONDS))
        with self._database.autocommit() as connection:
            left = quota_rows.take(connection, rate, wanted)
            if left is None and wanted > count:
                wanted, left = count, quota_rows.take(connection, rate, count)
            if left is None:
                self._left = quota_rows.tokens(connection, rate)
        if left is None:
            self._leased = 0.0
            missing = min(count, quota_rows.burst_of(rate)) - self._left
            raise QuotaExceededError(
                f"the namespace may create {rate:g} jobs a second",
                quota="creates_per_second",
                limit=rate,
                remaining=max(0.0, self._left),
                retry_after=max(0.001, missing / rate),
            )
        self._left = left
        self._leased = wanted - count
        self._leased_until = self._clock() + LEASE_GOOD_FOR_SECONDS


def open_quota_door(settings: Settings) -> QuotaDoor | None:
    """Open the door of a process's own namespace, with connections of its own; None: nothing limits it."""
    if settings.database_namespace is None:
        return None
    home = settings.within(None)
    namespaces = Namespaces(home, Database(home, pool_size=1))
    return QuotaDoor(namespaces, settings.database_namespace, Database(settings, pool_size=1))


def _expect_small(jobs: Sequence[NewJob], most: int) -> None:
    for place, job in enumerate(jobs):
        if len(job.payload) > most // _UTF8_MAX_BYTES and len(job.payload.encode()) > most:
            name = "payload" if len(jobs) == 1 else f"jobs[{place}].payload"
            raise InvalidJobError({name: f"expected at most {most} bytes, by the quota of the namespace"})
