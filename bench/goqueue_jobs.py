"""The job types of the benchmark, for GoQueue (`GOQUEUE_ACTORS=bench.goqueue_jobs`)."""

from __future__ import annotations

import os
from typing import Any

import goqueue
from bench import work
from goqueue.instance import default


@goqueue.actor(queue="bench")
def noop() -> None:
    """Do nothing, and be counted."""
    work.noop()


@goqueue.actor(queue="bench", min_backoff_seconds=0, jitter=False)
def fail_once() -> None:
    """Fail the first of two attempts; both are counted."""
    work.noop()
    if goqueue.current_job().attempt == 1:
        raise RuntimeError("the first attempt fails")


@goqueue.actor(queue="bench")
def nap(seconds: float) -> None:
    """Sleep, and be counted."""
    work.nap(seconds)


@goqueue.actor(queue="bench")
def note(text: str) -> dict[str, int]:
    """Take a payload and leave a result, as most jobs do, and be counted."""
    work.noop()
    return {"characters": len(text)}


@goqueue.actor(queue="bench")
def stamp(number: int) -> None:
    """Write down when this began."""
    work.stamp(number)


@goqueue.actor(queue="bench_batches", batch=goqueue.Batch(size=100, wait_ms=50))
def noop_batch(items: list[dict[str, Any]]) -> None:
    """Do nothing, and be counted, a batch at once."""
    work.noops(len(items))


@goqueue.actor(queue="bench_async")
async def noop_async() -> None:
    """Do nothing, and be counted."""
    work.noop()


@goqueue.actor(queue="bench_async", time_limit_seconds=60)
async def nap_async(number: int, seconds: float) -> None:
    """Write down when this began, sleep on the event loop, and be counted."""
    await work.nap_async(number, seconds)


# Further queues that the workers listen to, where a measurement spreads its jobs.
for number in range(1, int(os.environ.get("BENCH_QUEUES", "1"))):
    default().broker.declare_queue(f"bench{number}")
