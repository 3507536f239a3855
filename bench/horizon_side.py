"""One side of `bench.horizon`: a whole stack in a process of its own, told what to do line by line.

It reads commands as JSON on its input, and answers each with a line of JSON. Two of these are measured in
turn, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import psycopg

from bench.processes import cpu_seconds, wait_until
from bench.run_counter import counts
from bench.stack import Stack
from bench.systems import GoQueue

QUEUE = "bench"

#: Threads that create jobs at the steady rate: one alone waits for the disk.
FEEDERS = 8

SETTLE_SECONDS = 3.0

_PICKUPS = """
    SELECT array_agg(extract(epoch FROM started_at - created_at)::float) FROM jobs WHERE id > %s AND id <= %s
"""
_DRAIN = """
    SELECT count(*) / extract(epoch FROM max(finished_at) - min(started_at)) FROM jobs WHERE id > %s
"""
_OPEN = "SELECT count(*) FROM jobs WHERE id > %s AND status <> 'completed'"
_LAST_ID = "SELECT coalesce(max(id), 0) FROM jobs"
# Of the sessions of GoQueue: what autovacuum reads now and then is no part of a job.
_PAGES = """
    SELECT sum(hits + reads) FROM pg_stat_io
    WHERE backend_type = 'client backend' AND object = 'relation' AND context = 'normal'
"""


class Side:
    """Creates jobs, measures what becomes of them, and looks that all complete."""

    def __init__(self, stack: Stack) -> None:
        creator = import_module("goqueue.instance").default().creator
        new_job = import_module("goqueue.engine.new_job").new_job
        self._stack = stack
        self._submitter = creator
        self._job = new_job(import_module("goqueue.actors").broker, "noop", {})
        self._holder: psycopg.Connection[Any] | None = None

    def hold(self) -> None:
        """Open a transaction that looks once and then stays open."""
        self._holder = psycopg.connect(self._stack.postgres.url)
        self._holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._holder.execute("SELECT FROM jobs LIMIT 1")

    def release(self) -> None:
        """Close it again."""
        if self._holder is not None:
            self._holder.close()

    def feed(self, rate: int, seconds: float) -> dict[str, Any]:
        """Create jobs at a steady rate, one by one, catching up with what was late; what became of them."""
        first, runs, cpu, pages = self._last_id(), self._runs(), self._cpu(), self._pages()
        began = time.monotonic()
        jobs = self._create(rate, seconds)
        created = jobs / (time.monotonic() - began)
        self._wait_until_done(first, runs + jobs)
        return {
            "jobs": jobs,
            "rate": created,
            "pickups": self._stack.query(_PICKUPS, first, self._last_id()),
            "cpu": (self._cpu() - cpu) / jobs * 1000,
            "pages": (self._pages() - pages) / jobs,
        }

    def drain(self, jobs: int) -> float:
        """Jobs a second from the first start to the last record; they are created in a paused queue."""
        control = import_module("goqueue")
        last, runs = self._last_id(), self._runs()
        self._stack.sql.execute("INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING", (QUEUE,))
        control.pause_queue(QUEUE, reason="a burst is created")
        GoQueue(self._stack).enqueue_many("noop", jobs, {})
        control.resume_queue(QUEUE)
        self._wait_until_done(last, runs + jobs)
        return float(self._stack.query(_DRAIN, last))

    def _create(self, rate: int, seconds: float) -> int:
        began, jobs = time.monotonic(), int(rate * seconds)

        def create(first: int) -> None:
            for number in range(first, jobs, FEEDERS):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                self._submitter.one(self._job)

        with ThreadPoolExecutor(FEEDERS) as pool:
            list(pool.map(create, range(FEEDERS)))
        return jobs

    def _wait_until_done(self, after_id: int, runs: int) -> None:
        """Wait for the handlers, at no cost for the servers, and then for the records."""
        wait_until(lambda: self._runs() >= runs, seconds=120, what=f"{runs} runs")
        wait_until(lambda: not self._stack.query(_OPEN, after_id), seconds=60, what="all completed", poll=0.1)

    def _runs(self) -> int:
        return sum(counts(self._stack.runs))

    def _last_id(self) -> int:
        return int(self._stack.query(_LAST_ID))

    def _cpu(self) -> float:
        return cpu_seconds(self._stack.postgres.pid)

    def _pages(self) -> float:
        return float(self._stack.query(_PAGES))


def main() -> int:
    """Serve commands until the input ends."""
    with Stack() as stack:
        stack.clear()
        with GoQueue(stack).running():
            time.sleep(SETTLE_SECONDS)
            side = Side(stack)
            commands: dict[str, Callable[..., Any]] = {
                "hold": side.hold,
                "release": side.release,
                "feed": side.feed,
                "drain": side.drain,
            }
            _answer("ready")
            for line in sys.stdin:
                name, *arguments = json.loads(line)
                _answer(commands[name](*arguments))
    return 0


def _answer(what: Any) -> None:
    print(json.dumps(what, default=float), flush=True)


if __name__ == "__main__":
    sys.exit(main())
