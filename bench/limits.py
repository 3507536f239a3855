"""What limits cost: a drain under a limit a key, and rounds of admission from large backlogs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from bench.drain import drain
from bench.stack import Stack
from bench.systems import BATCH, GoQueue

QUEUE = "bench"
KEYS = 1_000

# What workers would do between two rounds, at no cost that is measured: everything that was let in is done.
_WORK_OFF = """
    UPDATE jobs SET status = 'completed', admitted = false, finished_at = now(), fence = fence + 1
    WHERE admitted
"""

_FILL = """
    INSERT INTO jobs (queue, type, payload, rank, concurrency_key)
    SELECT %s, 'noop', '{}', now(), CASE WHEN %s > 0 THEN 'key-' || n %% %s END
    FROM generate_series(1, %s) AS n
"""


class KeyedGoQueue(GoQueue):
    """GoQueue, with jobs of a thousand concurrency keys; it notes how long their creation took."""

    create_seconds = 0.0

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs by the batch, each key in its turn."""
        creator = import_module("goqueue.instance").default().creator
        new_job = import_module("goqueue.engine.new_job").new_job
        broker = import_module("goqueue.actors").broker
        by_key = [new_job(broker, job, payload, concurrency_key=f"key-{n}") for n in range(KEYS)]
        jobs = (by_key * (count // KEYS + 1))[:count]
        started = time.monotonic()
        for start in range(0, count, BATCH):
            creator.many(jobs[start : start + BATCH])
        self.create_seconds = time.monotonic() - started


def keyed_throughput(stack: Stack, count: int, *, limited: bool) -> float:
    """Jobs a second, created and drained, with two slots a key or without any limit."""
    with _limits(stack, "key_concurrency = 2" if limited else "key_concurrency = NULL"):
        system = KeyedGoQueue(stack)
        rate = drain(stack, system, job="noop", count=count, payload={}).jobs_per_second
    return count / (system.create_seconds + count / rate)


def admission_rate(stack: Stack, backlog: int) -> float:
    """Jobs a second that rounds of the dispatcher let in from a backlog, by its own time."""
    with _limits(stack, "concurrency = 100000"):
        _fill(stack, backlog, keys=0)
        seconds, admitted = _rounds(stack, until=backlog // 4)
    return admitted / sum(seconds)


def round_seconds(stack: Stack, keys: int) -> list[float]:
    """How long each round took while so many keys wait with two jobs each, and one slot a key."""
    with _limits(stack, "key_concurrency = 1"):
        _fill(stack, 2 * keys, keys=keys)
        seconds, _ = _rounds(stack, until=20_000)
    return seconds


def _rounds(stack: Stack, *, until: int) -> tuple[list[float], int]:
    """Rounds of a dispatcher until so many jobs were let in; what is let in is worked off in between."""
    dispatcher = _dispatcher()
    seconds: list[float] = []
    admitted = 0
    while admitted < until:
        started = time.perf_counter()
        counts = dispatcher.run_once()
        seconds.append(time.perf_counter() - started)
        admitted += counts["admitted"]
        stack.sql.execute(_WORK_OFF)
        stack.redis.delete(f"goqueue:{{{QUEUE}}}:runway", f"goqueue:{{{QUEUE}}}:messages")
    return seconds, admitted


def _dispatcher() -> Any:
    settings = import_module("goqueue.config.settings").get_settings()
    database = import_module("goqueue.db.database").Database(settings)
    runway = import_module("goqueue.engine.runway.runway").Runway(settings)
    return import_module("goqueue.dispatch.dispatcher").Dispatcher(settings, database, runway)


def _fill(stack: Stack, count: int, *, keys: int) -> None:
    stack.clear()
    stack.sql.execute(_FILL, (QUEUE, keys, max(1, keys), count))
    stack.sql.execute("VACUUM ANALYZE jobs")


@contextmanager
def _limits(stack: Stack, setting: str) -> Iterator[None]:
    """The queue with a limit; without any afterwards."""
    stack.sql.execute("INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING", (QUEUE,))
    stack.sql.execute(f"UPDATE queues SET {setting} WHERE name = %s", (QUEUE,))
    try:
        yield
    finally:
        stack.sql.execute(
            "UPDATE queues SET concurrency = NULL, key_concurrency = NULL WHERE name = %s", (QUEUE,)
        )
