"""How fast waiting jobs are worked off, and at what cost of CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.processes import Child, cpu_seconds, wait_until
from bench.run_counter import counts
from bench.stack import PROCESSES, Stack
from bench.systems import System

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain: jobs a second, and CPU seconds per 1,000 jobs by role."""

    jobs_per_second: float
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Moment:
    """What had been used and done at a moment."""

    time: float
    runs: int
    cpu: dict[str, float]


def drain(stack: Stack, system: System, *, job: str, count: int, payload: dict[str, float]) -> Drain:
    """Create jobs while nobody works, then start the workers and clock them.

    The clock starts when every worker process has finished a job, so that the boot of neither system counts,
    and ends when every job is off the books: recorded as completed, or acknowledged.
    """
    stack.clear()
    system.enqueue_many(job, count, payload)
    with system.running() as roles:
        wait_until(
            lambda: _busy_processes(stack) >= PROCESSES, seconds=60, what="all workers work", poll=0.001
        )
        begin = _moment(stack, roles)
        wait_until(lambda: sum(counts(stack.runs)) >= count, seconds=TIMEOUT_SECONDS, what=f"{count} runs")
        wait_until(lambda: system.all_recorded(count), seconds=TIMEOUT_SECONDS, what=f"{count} records")
        end = _moment(stack, roles)
    return _between(begin, end, count)


def _busy_processes(stack: Stack) -> int:
    return sum(runs > 0 for runs in counts(stack.runs))


def _moment(stack: Stack, roles: dict[str, Child]) -> _Moment:
    now, runs = time.monotonic(), sum(counts(stack.runs))
    pids = {role: child.pid for role, child in roles.items()}
    pids |= {"postgres": stack.postgres.pid, "valkey": stack.valkey.pid}
    return _Moment(now, runs, {role: cpu_seconds(pid) for role, pid in pids.items()})


def _between(begin: _Moment, end: _Moment, count: int) -> Drain:
    jobs = count - begin.runs
    cpu = {role: (used - begin.cpu[role]) / jobs * 1000 for role, used in end.cpu.items()}
    return Drain(jobs / (end.time - begin.time), cpu)
