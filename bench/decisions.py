"""The measurements behind docs/decisions.md: `python -m bench.decisions [NAME …]` prints the tables."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import psutil
import redis

from bench.drain import drain
from bench.processes import Child, wait_until
from bench.stack import Stack
from bench.systems import GoQueue
from goqueue.config.settings import get_settings
from goqueue.engine.runway.runway import Message, Runway

MESSAGES = 50_000
BATCH = 100
ROUNDS = 3


def lists_or_streams(stack: Stack) -> None:
    """What one message costs Redis and its client, by list and by stream, pushed and taken in batches."""
    print(f"\n## lists or streams: {MESSAGES:,} messages, batches of {BATCH}, median of {ROUNDS}")
    print(f"{'':10} {'client us':>10} {'server us':>10} {'bytes waiting':>14}")
    for name, run in (("list", _by_list), ("stream", _by_stream)):
        figures = [run(stack) for _ in range(ROUNDS)]
        client, server, size = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{name:10} {client:10.2f} {server:10.2f} {size:14.0f}")


def _by_list(stack: Stack) -> tuple[float, float, float]:
    """GoQueue's own runway: an idempotent push by script, BLMPOP, HDEL."""
    runway = Runway(get_settings())
    keys = [Message(number, 0) for number in range(1, MESSAGES + 1)]

    def push() -> None:
        for start in range(0, MESSAGES, BATCH):
            runway.dispatch("bench", keys[start : start + BATCH], limit=MESSAGES, closed=True)

    def take() -> None:
        while entries := runway.fetch("bench", BATCH, block_seconds=0.01):
            runway.acknowledge("bench", entries)

    return _cost(stack, push, take)


def _by_stream(stack: Stack) -> tuple[float, float, float]:
    """A consumer group: XADD, XREADGROUP, XACK and XDEL; a push twice is two messages there."""
    client: Any = redis.Redis.from_url(stack.valkey.url)
    client.flushall()
    client.xgroup_create("bench", "workers", id="0", mkstream=True)

    def push() -> None:
        for start in range(0, MESSAGES, BATCH):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, start + BATCH):
                pipeline.xadd("bench", {"job": f"{number}.0"})
            pipeline.execute()

    def take() -> None:
        while answer := client.xreadgroup("workers", "one", {"bench": ">"}, count=BATCH, block=10):
            ids = [entry for entry, _ in answer[0][1]]
            pipeline = client.pipeline(transaction=False)
            pipeline.xack("bench", "workers", *ids)
            pipeline.xdel("bench", *ids)
            pipeline.execute()

    return _cost(stack, push, take)


def _cost(stack: Stack, push: Callable[[], None], take: Callable[[], None]) -> tuple[float, float, float]:
    """Microseconds of client and server CPU a message, and bytes while it waits."""
    stack.redis.script_flush()
    client, server = time.process_time(), _server_seconds(stack)
    empty = _used_memory(stack)
    push()
    size = (_used_memory(stack) - empty) / MESSAGES
    take()
    spent = time.process_time() - client, _server_seconds(stack) - server
    stack.redis.flushall()
    return spent[0] / MESSAGES * 1e6, spent[1] / MESSAGES * 1e6, size


def _server_seconds(stack: Stack) -> float:
    times = psutil.Process(stack.valkey.pid).cpu_times()
    return times.user + times.system


def _used_memory(stack: Stack) -> int:
    return int(stack.redis.info("memory")["used_memory"])


def crashes(stack: Stack) -> None:
    """How soon jobs run again after their worker process was killed, with default settings."""
    print(
        "\n## a crash in the middle: 8 jobs of 0.5 s, the worker process killed, until all have started again"
    )
    for name, pick in (
        ("with another worker process on the host", 2),
        ("alone, restarted by its supervisor", 1),
    ):
        seconds = [_killed(stack, processes=pick) for _ in range(ROUNDS)]
        print(f"{name:44} median {statistics.median(seconds):5.1f} s, longest {max(seconds):5.1f} s")


def _killed(stack: Stack, *, processes: int) -> float:
    stack.clear()
    arguments = ["-m", "goqueue", "worker", "--processes", str(processes), "--threads", "8"]
    with stack.scheduler(), Child(arguments, environment=stack.environment(), log=stack.log):
        wait_until(
            lambda: stack.query("SELECT count(*) FROM workers") == processes, seconds=30, what="workers"
        )
        GoQueue(stack).enqueue_many("nap", 8, {"seconds": 0.5})
        running = "SELECT count(*) FROM jobs WHERE status = 'running'"
        wait_until(lambda: stack.query(running) >= 4, seconds=30, what="running jobs")
        victim = stack.query(
            "SELECT pid FROM workers WHERE id = (SELECT worker_id FROM jobs WHERE status = 'running' LIMIT 1)"
        )
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        died = "SELECT count(*) > 0 FROM attempts WHERE outcome = 'worker_died'"
        wait_until(lambda: stack.query(died), seconds=60, what="the rescue", poll=0.01)
        waiting = "SELECT count(*) = 0 FROM jobs WHERE status = 'queued'"
        wait_until(lambda: stack.query(waiting), seconds=60, what="all started again", poll=0.01)
        return time.monotonic() - killed


def workers(stack: Stack) -> None:
    """Throughput by processes and threads, for jobs that do nothing and jobs that wait."""
    print(f"\n## how many workers (two cores): jobs/s, median of {ROUNDS}")
    print(f"{'processes x threads':22} {'no-op':>9} {'10 ms wait':>11}")
    for processes, threads in ((2, 4), (2, 8), (2, 16), (2, 32), (4, 8)):
        noop = _rate(stack, "noop", 20_000, {}, processes, threads)
        nap = _rate(stack, "nap", 100 * processes * threads, {"seconds": 0.01}, processes, threads)
        print(f"{f'{processes} x {threads}':22} {noop:9,.0f} {nap:11,.0f}")


def _rate(
    stack: Stack, job: str, count: int, payload: dict[str, float], processes: int, threads: int
) -> float:
    system = _Sized(stack, processes, threads)
    return statistics.median(
        drain(stack, system, job=job, count=count, payload=payload).jobs_per_second for _ in range(ROUNDS)
    )


class _Sized(GoQueue):
    """GoQueue with another number of processes and threads."""

    def __init__(self, stack: Stack, processes: int, threads: int) -> None:
        super().__init__(stack)
        self._size = {"processes": processes, "threads": threads}

    def running(self, *, processes: int = 0, threads: int = 0) -> Any:  # noqa: ARG002  (its own size counts)
        """Run the workers and the scheduler."""
        return super().running(**self._size)


def queues(stack: Stack) -> None:
    """Throughput of the same workers with the same jobs spread over more queues."""
    print(f"\n## several queues a worker: 20,000 no-op jobs, 2 x 8 threads, jobs/s, median of {ROUNDS}")
    for count in (1, 4, 16):
        rates = [_spread(stack, count) for _ in range(ROUNDS)]
        print(f"{count:3} queues {statistics.median(rates):9,.0f}")


def _spread(stack: Stack, count: int) -> float:
    """The bench module declares its types in further queues where it is told so."""
    os.environ["BENCH_QUEUES"] = str(count)
    try:
        return drain(stack, _Spread(stack, count), job="noop", count=20_000, payload={}).jobs_per_second
    finally:
        del os.environ["BENCH_QUEUES"]


class _Spread(GoQueue):
    """GoQueue with its jobs dealt out over several queues."""

    def __init__(self, stack: Stack, queues: int) -> None:
        super().__init__(stack)
        self._queues = queues

    def enqueue_many(self, job: str, count: int, payload: dict[str, float]) -> None:
        """Create jobs by the batch, a share in each queue."""
        creator = import_module("goqueue.instance").default().creator
        new_job = import_module("goqueue.engine.new_job").new_job
        broker = import_module("goqueue.actors").broker
        for number in range(self._queues):
            one = new_job(broker, job, payload, queue=f"bench{number or ''}")
            creator.many([one] * (count // self._queues))


def priorities(stack: Stack) -> None:
    """How long a job of each priority, created last, waits behind a backlog."""
    print("\n## priorities: created behind 4,000 jobs of 10 ms on 2 x 8 threads, seconds until it began")
    creator = import_module("goqueue.instance").default().creator
    new_job = import_module("goqueue.engine.new_job").new_job
    broker = import_module("goqueue.actors").broker
    system = GoQueue(stack)
    for priority in (0, 1, 100):
        stack.clear()
        system.enqueue_many("nap", 4_000, {"seconds": 0.01})
        with system.running():
            wait_until(lambda: _done(stack) > 100, seconds=60, what="the backlog moves")
            one = new_job(broker, "nap", {"seconds": 0.01}, priority=priority)
            print(f"priority {priority:4} {_waited(stack, creator.one(one).id):8.2f} s")


def _done(stack: Stack) -> int:
    """How many jobs are completed."""
    return int(stack.query("SELECT count(*) FROM jobs WHERE status = 'completed'"))


def _waited(stack: Stack, job_id: int) -> float:
    """How long a job waited until it began, once it has."""
    waited = "SELECT extract(epoch FROM started_at - created_at) FROM jobs WHERE id = %s"
    wait_until(lambda: stack.query(waited, job_id) is not None, seconds=60, what="it began")
    return float(stack.query(waited, job_id))


QUESTIONS = {
    "lists": lists_or_streams,
    "crashes": crashes,
    "queues": queues,
    "workers": workers,
    "priorities": priorities,
}


def main(names: Sequence[str]) -> None:
    """Answer the named questions, or all."""
    with Stack() as stack:
        for name in names or QUESTIONS:
            QUESTIONS[name](stack)


if __name__ == "__main__":
    main(sys.argv[1:])
