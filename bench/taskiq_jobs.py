"""The async job types of the benchmark, for taskiq on a Redis stream: acknowledged, and no result kept."""

from __future__ import annotations

import os

from taskiq_redis import RedisStreamBroker

from bench import work

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS_URL"])


@broker.task
async def noop_async() -> None:
    """Do nothing, and be counted."""
    work.noop()


@broker.task
async def nap_async(number: int, seconds: float) -> None:
    """Write down when this began, sleep on the event loop, and be counted."""
    await work.nap_async(number, seconds)
