"""Async jobs in one process: how many wait at once, what one costs in memory, and how fast no-ops are."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from bench.async_systems import AsyncSystem, async_systems
from bench.processes import Child, memory, wait_until
from bench.report import Row
from bench.run_counter import counts
from bench.stack import THREADS, Stack
from bench.statistics import median
from bench.systems import GoQueue

NAPS = 2_000
NAP_SECONDS = 1.0
#: Long enough to look at the memory of the process while all of them wait.
LONG_NAP_SECONDS = 8.0
NOOP_SLOTS = 100
TIMEOUT_SECONDS = 120.0


def async_rows(stack: Stack, *, rounds: int, noops: int) -> list[Row]:
    """The rows of async jobs: beside threads of the same process, and beside other systems, in turn."""
    mine, *others = async_systems(stack)
    systems = [mine, *others]
    naps: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        rates["threads"].append(sync_noops_per_second(stack, noops, mine))
        for system in systems:
            naps[system.name].append(nap_seconds(stack, system))
            rates[system.name].append(noops_per_second(stack, system, noops))
    mine_naps, mine_rate = median(naps[mine.name]), median(rates[mine.name])
    title = f"{NAPS:,} async jobs that sleep for {NAP_SECONDS:.0f} s, one process"
    rows = [Row("async_naps", title, "s", mine_naps, target=1.5, at_most=True)]
    for name in (other.name for other in others):
        figure, key = median(naps[name]), f"async_naps_{name}"
        rows.append(Row(key, "  the same", "s", mine_naps, figure, name, "ratio", 1, at_most=True))
    threads = median(rates["threads"])
    title = f"drain of {noops:,} async no-op jobs, recorded, one process"
    rows.append(Row("async_noops", title, "jobs/s", mine_rate, threads, f"{THREADS} threads", "ratio", 0.9))
    for name in (other.name for other in others):
        figure, key = median(rates[name]), f"async_noops_{name}"
        rows.append(Row(key, "  the same", "jobs/s", mine_rate, figure, name, "ratio", 1))
    title = f"memory of an async job that waits, of {NAPS:,}"
    rows.append(Row("async_memory", title, "KiB", waiting_kib(stack, mine), target=20, at_most=True))
    return rows


def nap_seconds(stack: Stack, system: AsyncSystem) -> float:
    """How long one process takes for 2,000 jobs that sleep for a second, from the first begin."""
    stack.clear()
    system.enqueue("nap_async", [{"number": n, "seconds": NAP_SECONDS} for n in range(NAPS)])
    with system.running(NAPS):
        wait_until(
            lambda: sum(counts(stack.runs)) >= NAPS, seconds=TIMEOUT_SECONDS, what="all naps", poll=0.002
        )
        _wait_for_records(system, NAPS)
        return time.monotonic() - min(_begins(stack))


def waiting_kib(stack: Stack, system: AsyncSystem) -> float:
    """The memory of a process with 2,000 jobs that wait over that of one with a single job, by the job."""
    alone = _memory_of_naps(stack, system, 1)
    return (_memory_of_naps(stack, system, NAPS) - alone) * 1024 / (NAPS - 1)


def noops_per_second(stack: Stack, system: AsyncSystem, count: int) -> float:
    """How fast one process works off async no-ops, from its first one on."""
    return _drained(stack, count, lambda: system.enqueue("noop_async", [{}] * count), system)


def sync_noops_per_second(stack: Stack, count: int, system: AsyncSystem) -> float:
    """The same jobs on the threads of the same process."""
    return _drained(stack, count, lambda: GoQueue(stack).enqueue_many("noop", count, {}), system)


def _drained(stack: Stack, count: int, enqueue: Callable[[], None], system: AsyncSystem) -> float:
    stack.clear()
    enqueue()
    with system.running(NOOP_SLOTS):
        wait_until(lambda: sum(counts(stack.runs)) > 0, seconds=60, what="the first run", poll=0.001)
        began, runs = time.monotonic(), sum(counts(stack.runs))
        wait_until(
            lambda: sum(counts(stack.runs)) >= count, seconds=TIMEOUT_SECONDS, what="all runs", poll=0.002
        )
        _wait_for_records(system, count)
        return (count - runs) / (time.monotonic() - began)


def _memory_of_naps(stack: Stack, system: AsyncSystem, count: int) -> float:
    stack.clear()
    system.enqueue("nap_async", [{"number": n, "seconds": LONG_NAP_SECONDS} for n in range(count)])
    with system.running(NAPS) as worker:
        wait_until(lambda: len(_begins(stack)) >= count, seconds=60, what="all of them to wait")
        return _largest(worker)


def _largest(worker: Child) -> float:
    return max(memory(process).uss for process in worker.tree())


def _begins(stack: Stack) -> list[float]:
    path = stack.folder / "stamps"
    return [float(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def _wait_for_runs(stack: Stack, count: int) -> None:
    wait_until(
        lambda: sum(counts(stack.runs)) >= count, seconds=TIMEOUT_SECONDS, what=f"{count} runs", poll=0.002
    )


def _wait_for_records(system: AsyncSystem, count: int) -> None:
    wait_until(lambda: system.all_recorded(count), seconds=TIMEOUT_SECONDS, what="all records", poll=0.005)
