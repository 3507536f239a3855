"""The meaning of the settings by which a queue, a key and a type let jobs in. Pure Python.

A job of a *limited* queue or type (the column `governed`) starts only after the dispatcher has let it in
(`jobs.admitted`), by the rules here. The slots of a limit are rows: jobs that run, and jobs that were let in
and have not started.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_CONCURRENCY = 1_000_000
MAX_WEIGHT = 1_000
MAX_RATE_LIMIT = 1_000_000
MAX_RATE_PERIOD_SECONDS = 31 * 86_400.0
MAX_RAMP_SECONDS = 3_600.0
MAX_SLO_WAIT_SECONDS = 7 * 86_400.0


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
    """A rate of at most `limit` starts (weighed by `rate_cost`) in `period_seconds`."""

    limit: int
    period_seconds: float
    algorithm: RateAlgorithm = RateAlgorithm.SLIDING_WINDOW


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker: when a job type is stopped because it fails, and how it comes back.

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
    """The limits by which a queue lets its jobs in. None is without limit.

    Attributes:
        concurrency: the most jobs of the queue that run at once.
        key_concurrency: and the most of each concurrency key; a key may have its own (`KeyLimits`).
        on_conflict: what happens to a job whose concurrency limit is reached.
        fair: the keys take turns, by their weights, instead of the jobs by their rank.
        fifo: jobs of a key run strictly one after the other, in the order of their creation.
        rate, key_rate: the most starts, of the queue and of each key.
        ramp_seconds: after a pause or a slow-down, the jobs that run at once grow from one to all threads
            over so long; 0 is at once.
        slo_wait_seconds: the wait that a job should not exceed, from the moment at which it could start;
            None promises nothing. It limits nothing: alerts and the number of workers follow it.
        slo_objective: the part of the jobs that has to keep that wait, above 0 and below 1.
    """

    concurrency: int | None = None
    key_concurrency: int | None = None
    on_conflict: OnConflict = OnConflict.WAIT
    fair: bool = False
    fifo: bool = False
    rate: RateLimit | None = None
    key_rate: RateLimit | None = None
    ramp_seconds: float = 0.0
    slo_wait_seconds: float | None = None
    slo_objective: float = 0.99

    @property
    def by_key(self) -> bool:
        """Whether keys matter for the order: they take turns."""
        return self.fair or self.fifo or self.key_concurrency is not None or self.key_rate is not None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of one key of a queue: its share of the turns, and its own concurrency limit."""

    weight: int = 1
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class TypeLimits:
    """The limits of a job type, whatever queue its jobs are in.

    Attributes:
        concurrency: the most jobs of the type that run at once.
        breaker: when it is stopped because it fails; None is never.
        state: where its breaker stands.
    """

    concurrency: int | None = None
    breaker: Breaker | None = None
    state: BreakerState = BreakerState.CLOSED
