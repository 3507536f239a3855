"""The systems behind one face: what a measurement needs to ask of each. Sidekiq is in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

from bench.processes import Child
from bench.stack import PROCESSES, THREADS, Stack

BATCH = 10_000


class System(Protocol):
    """GoQueue, bare Dramatiq, or Sidekiq."""

    name: str

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs, however the system does it best; not part of a measurement."""

    def enqueue(self, job: str, payload: dict[str, Any]) -> None:
        """Create one job by the library call."""

    def running(self, *, processes: int = ..., threads: int = ...) -> Any:
        """Run its processes: yields role -> process."""

    def all_recorded(self, count: int) -> bool:
        """Whether so many jobs have left the system's books: completed rows, or acknowledged messages."""


class GoQueue:
    """GoQueue: rows in PostgreSQL, the runway in Redis, and its scheduler."""

    name = "goqueue"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs by the batch."""
        creator = import_module("goqueue.instance").default().creator
        new_job = import_module("goqueue.engine.new_job").new_job
        broker = import_module("goqueue.actors").broker
        one = new_job(broker, job, payload)
        for start in range(0, count, BATCH):
            creator.many([one] * min(BATCH, count - start))

    def enqueue(self, job: str, payload: dict[str, Any]) -> None:
        """Create one job: `goqueue.enqueue`."""
        import_module("goqueue.actors")
        import_module("goqueue").enqueue(getattr(import_module("bench.goqueue_jobs"), job), payload)

    @contextmanager
    def running(self, *, processes: int = PROCESSES, threads: int = THREADS) -> Iterator[dict[str, Child]]:
        """Run the workers and the scheduler."""
        with (
            self._stack.scheduler() as scheduler,
            self._stack.workers("goqueue.actors", processes=processes, threads=threads) as workers,
        ):
            yield {"workers": workers, "scheduler": scheduler}

    def all_recorded(self, count: int) -> bool:
        """Whether so many rows are completed."""
        return bool(self._stack.query("SELECT count(*) >= %s FROM jobs WHERE status = 'completed'", count))


class BareDramatiq:
    """Dramatiq with its stock RedisBroker and default middleware: no record of any job."""

    name = "dramatiq"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs one by one: the stock broker has no other way."""
        for _ in range(count):
            self.enqueue(job, payload)

    def enqueue(self, job: str, payload: dict[str, Any]) -> None:
        """Create one job: `actor.send`."""
        getattr(import_module("bench.dramatiq_jobs"), job).send(**payload)

    @contextmanager
    def running(self, *, processes: int = PROCESSES, threads: int = THREADS) -> Iterator[dict[str, Child]]:
        """Run the workers."""
        with self._stack.workers("bench.dramatiq_jobs", processes=processes, threads=threads) as workers:
            yield {"workers": workers}

    def all_recorded(self, count: int) -> bool:  # noqa: ARG002  (acknowledged messages are gone, not counted)
        """Whether no message is left, waiting or unacknowledged."""
        return not self._stack.redis.hlen("dramatiq:bench.msgs")
