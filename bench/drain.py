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
    """One drain: jobs a second, and CPU seconds per 1,000 jobs by role; of runs where a job has several."""

    jobs_per_second: float
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Moment:
    """What had been used and done at a moment."""

    time: float
    runs: int
    cpu: dict[str, float]


def drain(
    stack: Stack, system: System, *, job: str, count: int, payload: dict[str, float], runs: int = 1
) -> Drain:
    """Create jobs while nobody works, then start the workers and clock them.

    The clock starts when every worker process has finished a job, so that the boot of neither system counts,
    and ends when every job is off the books: recorded as completed, or acknowledged. `runs` is how often each
    job runs.
    """
    stack.clear()
    system.enqueue_many(job, count, payload)
    with system.running() as roles:
        wait_until(
            lambda: _busy_processes(stack) >= PROCESSES, seconds=60, what="all workers work", poll=0.001
        )
        begin = _moment(stack, roles)
        wait_until(
            lambda: sum(counts(stack.runs)) >= count * runs,
            seconds=TIMEOUT_SECONDS,
            what=f"{count * runs} runs",
        )
        wait_until(lambda: system.all_recorded(count), seconds=TIMEOUT_SECONDS, what=f"{count} records")
        end = _moment(stack, roles)
    return _between(begin, end, count * runs)


def _busy_processes(stack: Stack) -> int:
    return sum(runs > 0 for runs in counts(stack.runs))


def _moment(stack: Stack, roles: dict[str, Child]) -> _Moment:
    now, runs = time.monotonic(), sum(counts(stack.runs))
    pids = {role: child.pid for role, child in roles.items()}
    pids |= {"postgres": stack.postgres.pid, "valkey": stack.valkey.pid}
    return _Moment(now, runs, {role: cpu_seconds(pid) for role, pid in pids.items()})


def _between(begin: _Moment, end: _Moment, runs: int) -> Drain:
    done = runs - begin.runs
    cpu = {role: (used - begin.cpu[role]) / done * 1000 for role, used in end.cpu.items()}
    return Drain(done / (end.time - begin.time), cpu)
