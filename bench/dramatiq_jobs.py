"""The same job types for bare Dramatiq: the stock RedisBroker with its default middleware."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench import work

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])  # type: ignore[no-untyped-call]  # Dramatiq's
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def noop() -> None:
    """Do nothing, and be counted."""
    work.noop()


@dramatiq.actor(queue_name="bench")
def nap(seconds: float) -> None:
    """Sleep, and be counted."""
    work.nap(seconds)


@dramatiq.actor(queue_name="bench")
def stamp(number: int) -> None:
    """Write down when this began."""
    work.stamp(number)
