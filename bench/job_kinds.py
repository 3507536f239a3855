"""What jobs with limits, keys, dependencies and retries cost, beside plain ones of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from bench.drain import Drain, drain
from bench.stack import Stack
from bench.systems import BATCH, GoQueue

__all__ = ["KINDS", "PLAIN", "JobKind", "drain_kind"]

QUEUE = "bench"
KEYS = 1_000

#: More than the threads of the workers, so that no limit holds a job up: what is measured is its path.
CONCURRENCY = 100
RATE = {"limit": 1_000_000, "period_seconds": 1}

NodesOf = Callable[[Any, str, int], Sequence[Any]]


def _plain(new_job: Any, job: str, count: int) -> Sequence[Any]:
    return [_node(new_job(job))] * count


def _keyed(new_job: Any, job: str, count: int) -> Sequence[Any]:
    by_key = [_node(new_job(job, concurrency_key=f"key-{number}")) for number in range(KEYS)]
    return (by_key * (count // KEYS + 1))[:count]


def _dependent(new_job: Any, job: str, count: int) -> Sequence[Any]:
    """Pairs of which the second waits for the first; the numbers of `after` are those within its batch."""
    one = new_job(job)
    return [_node(one, after=(number % BATCH - 1,) if number % 2 else ()) for number in range(count)]


def _node(job: Any, after: tuple[int, ...] = ()) -> Any:
    return import_module("goqueue.engine.graph_rows").NewNode(job, after)


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job.

    Attributes:
        key: its name in the JSON.
        title: what the table calls it.
        job: the job type.
        nodes: makes so many jobs of the type.
        limits: the settings of the queue.
        runs: how often each job runs.
    """

    key: str
    title: str
    job: str = "noop"
    nodes: NodesOf = _plain
    limits: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 1


PLAIN = JobKind("plain", "plain jobs")
KINDS = (
    JobKind(
        "concurrency", f"jobs under a concurrency limit of {CONCURRENCY}", limits={"concurrency": CONCURRENCY}
    ),
    JobKind("rate", "jobs under a rate limit", limits={"rate": RATE}),
    JobKind("keys", f"jobs of {KEYS:,} keys, two slots a key", nodes=_keyed, limits={"key_concurrency": 2}),
    JobKind("dependencies", "pairs of which one waits for the other", nodes=_dependent),
    JobKind("retries", "jobs that fail once, a run", job="fail_once", runs=2),
)


class _OneKind(GoQueue):
    """GoQueue with jobs of one kind."""

    def __init__(self, stack: Stack, kind: JobKind) -> None:
        super().__init__(stack)
        self._kind = kind

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs of the kind by the batch."""
        creator = import_module("goqueue.instance").default().creator
        broker = import_module("goqueue.actors").broker
        make = import_module("goqueue.engine.new_job").new_job

        def new_job(name: str, **settings: Any) -> Any:
            return make(broker, name, payload, **settings)

        nodes = self._kind.nodes(new_job, job, count)
        for start in range(0, count, BATCH):
            creator.create_many(nodes[start : start + BATCH])


def drain_kind(stack: Stack, kind: JobKind, runs: int) -> Drain:
    """Drain jobs of a kind that make so many runs; the figures are of runs."""
    count = runs // kind.runs
    with _limited(stack, kind.limits):
        return drain(stack, _OneKind(stack, kind), job=kind.job, count=count, payload={}, runs=kind.runs)


@contextmanager
def _limited(stack: Stack, limits: Mapping[str, Any]) -> Iterator[None]:
    """The queue with limits; without any afterwards."""
    goqueue = import_module("goqueue")
    import_module("goqueue.actors")
    stack.sql.execute("INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING", (QUEUE,))
    goqueue.configure_queue(QUEUE, **limits)
    try:
        yield
    finally:
        goqueue.configure_queue(QUEUE, **dict.fromkeys(limits))
