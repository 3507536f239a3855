"""The systems that run async jobs, behind one face, each with one process; those that are installed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from bench.processes import Child
from bench.stack import THREADS, Stack
from bench.systems import BATCH

#: What each job is told: a list of its arguments by name.
Payloads = Sequence[dict[str, Any]]


class AsyncSystem(Protocol):
    """A system with one process for async jobs."""

    name: str

    def enqueue(self, job: str, payloads: Payloads) -> None:
        """Create jobs, however the system does it best; not part of a measurement."""

    def running(self, slots: int) -> AbstractContextManager[Child]:
        """Run one worker process with so many async slots."""

    def all_recorded(self, count: int) -> bool:
        """Whether so many jobs are off the books."""


class AsyncGoQueue:
    """GoQueue, with the full record."""

    name = "goqueue"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue(self, job: str, payloads: Payloads) -> None:
        """Create jobs by the batch."""
        creator = import_module("goqueue.instance").default().creator
        new_job = import_module("goqueue.engine.new_job").new_job
        broker = import_module("goqueue.actors").broker
        jobs = [new_job(broker, job, payload) for payload in payloads]
        for start in range(0, len(jobs), BATCH):
            creator.many(jobs[start : start + BATCH])

    @contextmanager
    def running(self, slots: int) -> Iterator[Child]:
        """Run the worker and the scheduler."""
        arguments = ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", str(THREADS), "--skip-logging"]
        extra = {"GOQUEUE_WORKER_ASYNC_SLOTS": str(slots)}
        with self._stack.scheduler(), self._stack.command(arguments, extra) as worker:
            yield worker

    def all_recorded(self, count: int) -> bool:
        """Whether so many rows are completed."""
        return bool(self._stack.query("SELECT count(*) >= %s FROM jobs WHERE status = 'completed'", count))


class Taskiq:
    """taskiq on a Redis stream."""

    name = "taskiq"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue(self, job: str, payloads: Payloads) -> None:
        """Create jobs one by one, many at a time."""
        module = import_module("bench.taskiq_jobs")

        async def send() -> None:
            await module.broker.startup()
            task = getattr(module, job)
            for start in range(0, len(payloads), 100):
                await asyncio.gather(*(task.kiq(**payload) for payload in payloads[start : start + 100]))
            await module.broker.shutdown()

        asyncio.run(send())

    @contextmanager
    def running(self, slots: int) -> Iterator[Child]:
        """Run its worker."""
        options = ["--workers", "1", "--max-async-tasks", str(slots), "--log-level", "WARNING"]
        options += ["--max-prefetch", str(slots)]
        with self._stack.command(["-m", "taskiq", "worker", "bench.taskiq_jobs:broker", *options]) as worker:
            yield worker

    def all_recorded(self, count: int) -> bool:  # noqa: ARG002  (what is acknowledged is not counted)
        """Whether no message is left unacknowledged."""
        groups = self._stack.redis.xinfo_groups("taskiq")
        return all(not group["pending"] for group in groups)


class Streaq:
    """streaq, with its results in Redis."""

    name = "streaq"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue(self, job: str, payloads: Payloads) -> None:
        """Create jobs by the batch."""
        module = import_module("bench.streaq_jobs")

        async def send() -> None:
            task = getattr(module, job)
            async with module.worker:
                for start in range(0, len(payloads), 1000):
                    some = payloads[start : start + 1000]
                    await module.worker.enqueue_many([task.enqueue(**payload) for payload in some])

        asyncio.run(send())

    @contextmanager
    def running(self, slots: int) -> Iterator[Child]:
        """Run its worker."""
        arguments = ["-m", "streaq", "run", "bench.streaq_jobs:worker"]
        with self._stack.command(arguments, {"BENCH_SLOTS": str(slots)}) as worker:
            yield worker

    def all_recorded(self, count: int) -> bool:  # noqa: ARG002  (its runs are counted before its records)
        """Whether its runs are over: it has nothing that could be asked at once."""
        return True


def async_systems(stack: Stack) -> list[AsyncSystem]:
    """GoQueue, and what else is installed; says what is not."""
    systems: list[AsyncSystem] = [AsyncGoQueue(stack)]
    for module, system in (("taskiq_redis", Taskiq), ("streaq", Streaq)):
        if find_spec(module) is None:
            print(f"({module} is not installed: `pip install --group bench`)", file=sys.stderr)
        else:
            systems.append(system(stack))
    return systems
