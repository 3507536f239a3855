"""The async job types of the benchmark, for streaq: results in Redis, as it always keeps them."""

from __future__ import annotations

import logging
import os

from streaq import Worker

from bench import work

# It writes two lines a job.
logging.getLogger("streaq").disabled = True

worker = Worker(os.environ["BENCH_REDIS_URL"], concurrency=int(os.environ.get("BENCH_SLOTS", "100")))


@worker.task()
async def noop_async() -> None:
    """Do nothing, and be counted."""
    work.noop()


@worker.task()
async def nap_async(number: int, seconds: float) -> None:
    """Write down when this began, sleep on the event loop, and be counted."""
    await work.nap_async(number, seconds)
