"""`python -m bench.costs`: what a job costs the servers, and what a number of jobs a day needs by that.

It prints the tables of docs/scaling.md: statements (pg_stat_statements), WAL (the log's position), Redis
commands (INFO commandstats, those inside the script included), CPU of every process, and bytes on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg

from bench import capacity, enqueue
from bench.http_load import load, request
from bench.processes import Child, cpu_seconds, wait_until
from bench.stack import PROCESSES, THREADS, Stack

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
PAYLOAD = {"text": "x" * 200}
CREATE = {"queue": "bench", "type": "note", "payload": PAYLOAD}
BATCH = 1000
IDLE_SECONDS = 10.0
SETTLE_SECONDS = 3.0
TIMEOUT_SECONDS = 300.0
WARM_UP = 500
ROLES = {
    capacity.API: "api",
    capacity.WORKERS: "workers",
    capacity.SCHEDULER: "scheduler",
    capacity.POSTGRES: "postgres",
    capacity.REDIS: "valkey",
}

_STATEMENTS = """
    SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
    WHERE userid <> (SELECT oid FROM pg_roles WHERE rolname = 'bench')
"""
_BYTES = """
    SELECT sum(pg_total_relation_size(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been used at a moment."""

    time: float
    statements: int
    wal_bytes: int
    commands: int
    cpu: dict[str, float]


class Meter:
    """Reads what the servers and processes have used; by a user of its own, whose statements do not count."""

    def __init__(self, stack: Stack, pids: dict[str, int]) -> None:
        self._stack = stack
        self._pids = pids | {"postgres": stack.postgres.pid, "valkey": stack.valkey.pid}
        self._sql = psycopg.connect(stack.postgres.url, user="bench", autocommit=True)

    def close(self) -> None:
        """Close its connection."""
        self._sql.close()

    def query(self, statement: str) -> Any:
        """The first column of the first row."""
        row = self._sql.execute(statement).fetchone()
        return row[0] if row else None

    def read(self) -> Moment:
        """What has been used until now."""
        stats = cast("dict[str, dict[str, int]]", self._stack.redis.info("commandstats"))
        commands = sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")
        return Moment(
            time.monotonic(),
            int(self.query(_STATEMENTS)),
            int(self.query("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")),
            commands,
            {role: cpu_seconds(pid) for role, pid in self._pids.items()},
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description="The cost of a job.")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of each way of creating them")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args(arguments)
    jobs = options.jobs
    load_before = os.getloadavg()[0]
    stack = Stack()
    stack.postgres.settings["shared_preload_libraries"] = "pg_stat_statements"
    with stack:
        costs, notes = _measure(stack, jobs)
    about = (
        f"{jobs:,} jobs each, a payload of {len(json.dumps(PAYLOAD))} bytes, {PROCESSES} worker processes of "
        f"{THREADS} threads, {os.cpu_count()} cores, load average {load_before:.0f} before and "
        f"{os.getloadavg()[0]:.0f} after."
    )
    table = capacity.markdown(capacity.COST_HEADINGS, capacity.cost_table(costs))
    parts = {
        "costs": f"{about}\n\n{table}\n\n{notes}",
        "capacity": capacity.markdown(capacity.CAPACITY_HEADINGS, capacity.capacity_table(costs)),
    }
    print("\n\n".join(parts.values()))
    if options.write:
        page = PAGE.read_text()
        for name, content in parts.items():
            page = capacity.put(page, name, content)
        PAGE.write_text(page)
    return 0


def _measure(stack: Stack, jobs: int) -> tuple[dict[str, dict[str, float]], str]:
    stack.sql.execute("CREATE EXTENSION pg_stat_statements")
    stack.sql.execute("CREATE ROLE bench SUPERUSER LOGIN")
    costs: dict[str, dict[str, float]] = {cost: {} for cost in capacity.COSTS}
    for way, create in zip(capacity.CREATED, (_create_one_by_one, _create_in_batches), strict=True):
        with _running(stack) as (port, meter):
            idle = _idle(meter)
            _keep(costs, way, _cost_of(meter, lambda port=port, create=create: create(port, jobs), jobs))  # type: ignore[misc]
            costs[capacity.DISK][way] = float(meter.query(_BYTES)) / jobs
    began = time.monotonic()
    with _metering(stack, {}) as meter:
        _keep(costs, capacity.DELETED, _cost_of(meter, _delete_all, jobs, until=0))
    idle += f"\nThe cleaner deleted {jobs / (time.monotonic() - began):,.0f} jobs/s."
    for cost in (capacity.API, capacity.WORKERS, capacity.SCHEDULER, capacity.REDIS, capacity.COMMANDS):
        costs[cost].pop(capacity.DELETED)
    # As printed, so that whoever has the table can do the arithmetic again.
    return capacity.read_cost_table(capacity.cost_table(costs)), idle


@contextmanager
def _running(stack: Stack) -> Iterator[tuple[int, Meter]]:
    """All processes, warm, on an empty database; and the API's port."""
    stack.clear()
    api, port = stack.web("goqueue.wsgi:app")
    with (
        stack.scheduler() as scheduler,
        stack.workers("goqueue.actors") as workers,
        enqueue.serving(api, port),
        _metering(stack, _pids(api=api, workers=workers, scheduler=scheduler)) as meter,
    ):
        load(port, _message("/jobs/create", CREATE), connections=THREADS, requests=WARM_UP)
        wait_until(lambda: _all_completed(meter), seconds=TIMEOUT_SECONDS, what="the first jobs", poll=0.05)
        stack.sql.execute("TRUNCATE jobs, attempts")
        stack.sql.execute("CHECKPOINT")
        yield port, meter


@contextmanager
def _metering(stack: Stack, pids: dict[str, int]) -> Iterator[Meter]:
    meter = Meter(stack, pids)
    try:
        yield meter
    finally:
        meter.close()


def _pids(**roles: Child) -> dict[str, int]:
    return {role: child.pid for role, child in roles.items()}


def _message(path: str, document: object) -> bytes:
    return request(path, json.dumps(document).encode())


def _create_one_by_one(port: int, jobs: int) -> None:
    load(port, _message("/jobs/create", CREATE), connections=PROCESSES * THREADS, requests=jobs)


def _create_in_batches(port: int, jobs: int) -> None:
    message = _message("/jobs/batch", {"jobs": [CREATE] * BATCH})
    load(port, message, connections=1, requests=jobs // BATCH)


def _delete_all() -> None:
    """What the cleaner does with them when their retention is over."""
    from goqueue.config.settings import get_settings  # noqa: PLC0415  (it reads the environment that the stack has set)
    from goqueue.db.database import Database  # noqa: PLC0415
    from goqueue.engine import cleaning_rows as cleaning  # noqa: PLC0415

    database = Database(get_settings())
    up_to: int | None = 0
    with database.autocommit() as connection:
        while up_to is not None:
            found = cleaning.delete_completed(connection, age_seconds=0, limit=BATCH, after_id=up_to)
            up_to = found.up_to
    database.close()


def _cost_of(
    meter: Meter, work: Callable[[], None], jobs: int, *, until: int | None = None
) -> dict[str, float]:
    """What a job costs, from the first creation to the record of the last."""
    begin = meter.read()
    work()
    left = jobs if until is None else until
    wait_until(
        lambda: _all_completed(meter) and meter.query("SELECT count(*) FROM jobs") == left,
        seconds=TIMEOUT_SECONDS,
        what="all jobs",
        poll=0.1,
    )
    end = meter.read()
    cpu = {cost: end.cpu.get(role, 0) - begin.cpu.get(role, 0) for cost, role in ROLES.items()}
    return {
        capacity.STATEMENTS: (end.statements - begin.statements) / jobs,
        capacity.WAL: (end.wal_bytes - begin.wal_bytes) / jobs,
        capacity.COMMANDS: (end.commands - begin.commands) / jobs,
        **{cost: seconds * 1000 / jobs for cost, seconds in cpu.items()},
    }


def _idle(meter: Meter) -> str:
    """What the processes use while there is nothing to do."""
    time.sleep(SETTLE_SECONDS)
    begin = meter.read()
    time.sleep(IDLE_SECONDS)
    end = meter.read()
    seconds = end.time - begin.time
    cpu = sum(end.cpu.values()) - sum(begin.cpu.values())
    return (
        f"Idle: {(end.statements - begin.statements) / seconds:.0f} statements/s, "
        f"{(end.commands - begin.commands) / seconds:.0f} Redis commands/s, "
        f"{(end.wal_bytes - begin.wal_bytes) / seconds / 1000:.1f} kB/s of WAL, "
        f"{cpu / seconds:.3f} cores in all."
    )


def _all_completed(meter: Meter) -> bool:
    return not meter.query("SELECT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)")


def _keep(costs: dict[str, dict[str, float]], way: str, found: dict[str, float]) -> None:
    for cost, value in found.items():
        costs[cost][way] = value


if __name__ == "__main__":
    sys.exit(main())
