"""Two namespaces on servers of their own beside one installation: creating through one API, draining both.

All servers share the machine. What a second PostgreSQL gives on a machine of its own cannot be seen on two
cores; what it costs to run beside the first can.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import psycopg

from bench import enqueue
from bench.drain import drain
from bench.http_load import load, request
from bench.processes import Child
from bench.report import Row
from bench.stack import GUNICORN, PROCESSES, THREADS, Stack
from bench.statistics import median
from bench.systems import BATCH, GoQueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port

if TYPE_CHECKING:
    from bench.size import Size

#: The requests of a round are made in so many turns: other work on the machine hits both alike.
TURNS = 5

#: So many times as many jobs as in other drains: the workers of one namespace are up before those of another,
#: and end before them.
DRAINS = 5

#: The first is that of the stack.
FIRST, SECOND = "goqueue", "second"


def namespaces(stack: Stack, size: Size) -> list[Row]:
    """Create through an API of two namespaces, and drain both, in turn with one installation."""
    alone, through, one, both = [], [], [], []
    jobs = DRAINS * size.drain_jobs
    with SecondNamespace(stack) as second:
        with (
            enqueue.serving(*stack.web("goqueue.wsgi:app")) as one_port,
            enqueue.serving(*second.web()) as port,
        ):
            for _ in range(TURNS * size.rounds):
                alone.append(_creates(one_port, "/jobs/create", size.calls // TURNS))
                through.append(_creates(port, f"/ns/{SECOND}/jobs/create", size.calls // TURNS))
        for _ in range(size.rounds):
            one.append(drain(stack, GoQueue(stack), job="noop", count=jobs, payload={}))
            both.append(drain(stack, second, job="noop", count=jobs, payload={}))
    title = f"drain of {jobs:,} no-op jobs, half in each of two namespaces"
    rates = [median([run.jobs_per_second for run in runs]) for runs in (both, one)]
    cpu = [median([sum(run.cpu.values()) for run in runs]) for runs in (both, one)]
    path = "POST /ns/{namespace}/jobs/create"
    return [
        Row("ns_create", path, "req/s", median(through), median(alone), "one installation", "ratio", 0.95),
        Row("ns_drain", title, "jobs/s", rates[0], rates[1], "one installation"),
        Row("ns_cpu", "  CPU of it: all", "CPU s / 1,000", cpu[0], cpu[1], "one installation"),
    ]


class SecondNamespace:
    """A second PostgreSQL and Valkey beside a stack's, and the file that names both: a `System` of two."""

    name = "two namespaces"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._file = stack.folder / "namespaces.toml"
        self.postgres = EmbeddedPostgres(stack.folder / "second-postgres")
        self.valkey = EmbeddedValkey(stack.folder / "second-valkey")

    def __enter__(self) -> Self:
        self.postgres.start()
        self.valkey.start()
        tables = {FIRST: (self._stack.postgres, self._stack.valkey), SECOND: (self.postgres, self.valkey)}
        self._file.write_text(
            "".join(
                f'[{name}]\ndatabase_url = "{database.url}"\nredis_url = "{redis.url}"\n'
                for name, (database, redis) in tables.items()
            )
        )
        settings = import_module("goqueue.config.settings").load_settings(namespaces_file=str(self._file))
        broker = import_module("goqueue.actors").broker
        self._goqueues = [
            import_module("goqueue.instance").GoQueue(settings, namespace=name, broker=broker)
            for name in tables
        ]
        import_module("goqueue.migrations.upgrade").upgrade(self._goqueues[1].database)
        return self

    def __exit__(self, *_: object) -> None:
        for goqueue in self._goqueues:
            goqueue.close()
        self.valkey.stop()
        self.postgres.stop()

    def web(self) -> tuple[Child, int]:
        """Serve the API of both, and return its port."""
        port = free_port()
        arguments = ["-m", "gunicorn", *GUNICORN, "-b", f"127.0.0.1:{port}", "goqueue.wsgi:app"]
        return self._stack.command(arguments, self._environment(FIRST)), port

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create half of the jobs in each; the stack has cleared the first."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute("TRUNCATE jobs, attempts, workers")
            connection.execute("CHECKPOINT")
        new_job = import_module("goqueue.engine.new_job").new_job
        for goqueue in self._goqueues:
            one = new_job(goqueue.broker, job, payload)
            for start in range(0, count // 2, BATCH):
                goqueue.creator.many([one] * min(BATCH, count // 2 - start))

    def enqueue(self, job: str, payload: dict[str, Any]) -> None:
        """Create two jobs, one in each."""
        self.enqueue_many(job, 2, payload)

    @contextmanager
    def running(self, *, processes: int = PROCESSES, threads: int = THREADS) -> Iterator[dict[str, Any]]:
        """Run a scheduler and half of the worker processes for each."""
        half = ["-p", str(processes // 2), "-t", str(threads), "--skip-logging"]
        with ExitStack() as running:
            roles: dict[str, Any] = {"second postgres": self.postgres, "second valkey": self.valkey}
            for name in (FIRST, SECOND):
                for role, arguments in (
                    ("scheduler", ["-m", "goqueue", "scheduler"]),
                    ("workers", ["-m", "bench.installed", "goqueue.actors", *half]),
                ):
                    child = self._stack.command(arguments, self._environment(name))
                    roles[f"{role} of {name}"] = running.enter_context(child)
            yield roles

    def all_recorded(self, count: int) -> bool:
        """Tell whether so many rows of both together are completed."""
        statement = "SELECT count(*) FROM jobs WHERE status = 'completed'"
        done = 0
        for goqueue in self._goqueues:
            with goqueue.database.autocommit() as connection:
                done += connection.exec_driver_sql(statement).scalar()
        return done >= count

    def _environment(self, namespace: str) -> Mapping[str, str]:
        return {
            "GOQUEUE_NAMESPACES_FILE": str(self._file),
            "GOQUEUE_NAMESPACE": namespace,
            # Two groups of workers cannot share a port.
            "GOQUEUE_WORKER_METRICS_PORT": "0",
            "GOQUEUE_SCHEDULER_METRICS_PORT": "0",
        }


def _creates(port: int, path: str, count: int) -> float:
    """Requests a second, over as many connections as the server has threads."""
    message = request(path, json.dumps(enqueue.CREATE).encode())
    connections = PROCESSES * THREADS
    load(port, message, connections=connections, requests=connections)
    return load(port, message, connections=connections, requests=count)
