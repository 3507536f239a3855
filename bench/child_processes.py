"""What a child process costs a job: no-op jobs with `process=True` beside the same on threads, in turn."""

from __future__ import annotations

import time
from collections import defaultdict

from bench.processes import wait_until
from bench.report import Row
from bench.run_counter import counts
from bench.stack import THREADS, Stack
from bench.statistics import median
from bench.systems import GoQueue

__all__ = ["child_rows"]

CHILDREN = 2
TIMEOUT_SECONDS = 120.0


def child_rows(stack: Stack, *, rounds: int, jobs: int) -> list[Row]:
    """The rows: jobs a second of one worker process, and how much longer one takes that is alone in it."""
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for job in ("noop", "noop_in_child"):
            rates[job, THREADS].append(_per_second(stack, job, jobs, threads=THREADS, children=CHILDREN))
            rates[job, 1].append(_per_second(stack, job, jobs // 2, threads=1, children=1))
    thread, child = (median(rates[job, THREADS]) for job in ("noop", "noop_in_child"))
    more_ms = [
        1000 / in_child - 1000 / on_thread
        for in_child, on_thread in zip(rates["noop_in_child", 1], rates["noop", 1], strict=True)
    ]
    title = f"no-op jobs in {CHILDREN} child processes of one worker process"
    return [
        Row("child_jobs", title, "jobs/s", child, thread, f"{THREADS} threads", "ratio"),
        Row("child_more", "  more for each, one job at a time", "ms", median(more_ms)),
    ]


def _per_second(stack: Stack, job: str, count: int, *, threads: int, children: int) -> float:
    """How fast one worker process works off jobs, from when all that run them have begun."""
    stack.clear()
    system = GoQueue(stack)
    system.enqueue_many(job, count, {})
    arguments = ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", str(threads), "--skip-logging"]
    extra = {"GOQUEUE_WORKER_CHILD_PROCESSES": str(children)}
    processes = 1 if job == "noop" else children
    with stack.scheduler(), stack.command(arguments, extra):
        wait_until(
            lambda: sum(runs > 0 for runs in counts(stack.runs)) >= processes,
            seconds=TIMEOUT_SECONDS,
            what="all that run jobs",
            poll=0.002,
        )
        begun, before = time.monotonic(), sum(counts(stack.runs))
        wait_until(lambda: system.all_recorded(count), seconds=TIMEOUT_SECONDS, what=f"{count} records")
        return (count - before) / (time.monotonic() - begun)
