"""Runs that are made twice: as they are, and sabotaged; the checker must accept the first only."""

from __future__ import annotations

from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until


def silent_worker(stack: Stack) -> None:
    """A worker is stopped past its lease; others run its jobs to the end; then it goes on."""
    stack.collector.history.harmed_workers = set()
    stack.scheduler()
    stack.workers(1)
    stack.collector.submit("slow", 6, seconds=0.7)
    wait_until(lambda: stack.count("running") >= 4, 10, "four jobs to run")
    (pid,) = stack.worker_pids()
    stack.pause(pid)
    stack.workers(1)
    stack.wait_until_finished(30)
    stack.collector.sample()
    stack.resume(pid)
    # Logged after the statement that wrote them, or refused to.
    wait_until(lambda: stack.logged("stale_result") >= 1, 15, "a late result")


def killed_worker(stack: Stack) -> None:
    """A worker is killed with jobs in its hands, and another one goes on."""
    stack.scheduler()
    stack.workers(1)
    stack.collector.submit("slow", 12, seconds=0.3)
    wait_until(lambda: stack.count("running") >= 4, 10, "four jobs to run")
    stack.kill(*stack.worker_pids())
    stack.workers(1)


def wiped_runway(stack: Stack) -> None:
    """Redis forgets everything while all jobs wait in it."""
    stack.collector.submit("quick", 40)
    wait_until(lambda: stack.runway_length() == 40, 10, "all jobs to be pushed")
    stack.collector.note_fault("flushall")
    stack.redis.flushall()
    stack.scheduler()
    stack.workers(1)
