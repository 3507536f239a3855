"""`python -m bench.scale.retention --rows N`: old jobs deleted by rows, and dropped with their partitions.

Each way has a database of its own with as many jobs, nearly all of them old. It says how many jobs went in a
second of the cleaner's work, and how soon a job starts meanwhile and without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from pydantic import SecretStr

from bench.dashboard_pages import Served, served
from bench.http_load import Client, request
from bench.pickup import pickup
from bench.scale.jobs import wait_for_workers, working
from bench.scale.rows import fill
from bench.stack import Stack
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.partitions import keep_rows as keeping
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions import switch_rows as switching
from goqueue.engine.partitions.rules import PARTITIONS_A_RETENTION
from goqueue.scheduler.cleaner import BATCH, Cleaner

SAMPLES = 100

#: Between two rounds of the cleaner that each drop a partition; otherwise it waits a minute.
PAUSE_SECONDS = 1.0

#: After so many rounds in which nothing went, nothing old is left.
IDLE_ROUNDS = 3

#: What ended longer ago is old, but for dead letters: of six days all but the last hour. Jobs of the
#: measurement are younger.
OLD_SECONDS = 3600.0


@dataclass
class _Cleaning:
    """One clean-up: the seconds in which the cleaner worked, and when jobs began meanwhile."""

    seconds: float = 0.0
    longest: float = 0.0
    pickups: list[tuple[float, float]] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both ways, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.retention", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="jobs in all")
    options = parser.parse_args(arguments)
    print("| old jobs go | jobs | seconds of the cleaner | jobs/s | longest round, s "
          "| pickup before, p50 / p99 ms | pickup meanwhile, p50 / p99 ms |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    with Stack() as stack:
        for name, jobs, filled in (
            ("by rows", options.rows, fill),
            ("with their partitions", options.rows + 1, _fill_partitions),
        ):
            with served(stack, jobs, filled) as one:
                print(_measured(stack, one, name), flush=True)
    return 0


def _measured(stack: Stack, one: Served, name: str) -> str:
    with working(stack, one):
        wait_for_workers(one)
        before = _pickup(stack, one)
        jobs = _count(one)
        cleaning = _clean(stack, one)
        gone = jobs - _count(one)
    middle = [sorted(values)[len(values) // 2] for values in zip(*cleaning.pickups, strict=True)]
    return (
        f"| {name} | {gone:,} | {cleaning.seconds:.1f} | {gone / cleaning.seconds:,.0f} "
        f"| {cleaning.longest:.2f} | {before[0]:.1f} / {before[1]:.1f} | {middle[0]:.1f} / {middle[1]:.1f} |"
    )


def _clean(stack: Stack, one: Served) -> _Cleaning:
    """Run the cleaner until nothing is old any more, and let jobs be picked up all the while."""
    cleaning = _Cleaning()
    database = Database(Settings(database_url=_url(one)))
    settings = Settings(
        database_url=_url(one),
        completed_retention_seconds=OLD_SECONDS,
        cancelled_retention_seconds=OLD_SECONDS,
        expired_retention_seconds=OLD_SECONDS,
    )
    cleaner = Cleaner(settings, database, lambda _seconds: None)

    def clean() -> None:
        idle = 0
        while idle < IDLE_ROUNDS:
            before, began = _shape(one), time.monotonic()
            counts = cleaner.run_once()
            seconds = time.monotonic() - began
            cleaning.longest = max(cleaning.longest, seconds)
            if not max(counts.values()) and _shape(one) == before:
                idle += 1
                continue
            cleaning.seconds += seconds
            if max(counts.values()) < BATCH:
                time.sleep(PAUSE_SECONDS)

    thread = threading.Thread(target=clean, daemon=True)
    thread.start()
    while thread.is_alive() or not cleaning.pickups:
        cleaning.pickups.append(_pickup(stack, one))
    thread.join()
    database.close()
    return cleaning


def _shape(one: Served) -> int:
    """What changes when a partition is replaced."""
    row = one.sql.execute("SELECT coalesce(sum(inhrelid::bigint), 0) FROM pg_inherits").fetchone()
    assert row is not None
    return int(row[0])


def _fill_partitions(sql: psycopg.Connection[Any], jobs: int) -> None:
    """Fill as many partitions as cover the time for which jobs are kept; the last one takes those to come."""
    host, port = sql.info.host, sql.info.port
    url = f"postgresql://{sql.info.user}@{host}:{port}/{sql.info.dbname}"
    database = Database(Settings(database_url=SecretStr(url)))
    size = jobs // PARTITIONS_A_RETENTION + 1
    with database.transaction() as connection:
        switching.add_bound(connection, 1)
        switching.switch(connection, upper=1, size=size)
    for number in range(2, PARTITIONS_A_RETENTION + 2):
        with database.transaction() as connection:
            layout = layouts.read(connection)
            assert layout is not None
            keeping.add_ahead(connection, layout.open, 1 + number * size, stored_like=switching.FIRST)
    database.close()
    fill(sql, jobs)


def _pickup(stack: Stack, one: Served) -> tuple[float, float]:
    with Client(one.port) as client:

        def create(number: int) -> None:
            body = {"queue": "bench", "type": "stamp", "payload": {"number": number}}
            client.post(request("/jobs/create", json.dumps(body).encode()))

        return pickup(stack, create, samples=SAMPLES)


def _count(one: Served) -> int:
    row = one.sql.execute("SELECT count(*) FROM jobs WHERE queue <> 'bench'").fetchone()
    assert row is not None
    return int(row[0])


def _url(one: Served) -> SecretStr:
    return SecretStr(one.environment["GOQUEUE_DATABASE_URL"])


if __name__ == "__main__":
    sys.exit(main())
