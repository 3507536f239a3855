"""The job types of the benchmark, for GoQueue (`GOQUEUE_ACTORS=bench.goqueue_jobs`)."""

from __future__ import annotations

import goqueue
from bench import work


@goqueue.actor(queue="bench")
def noop() -> None:
    """Do nothing, and be counted."""
    work.noop()


@goqueue.actor(queue="bench")
def nap(seconds: float) -> None:
    """Sleep, and be counted."""
    work.nap(seconds)


@goqueue.actor(queue="bench")
def stamp(number: int) -> None:
    """Write down when this began."""
    work.stamp(number)
