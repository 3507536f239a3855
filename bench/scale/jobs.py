"""Creating, picking up and draining jobs beside a full table and beside a nearly empty one, in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import SecretStr

from bench.dashboard_pages import Served
from bench.enqueue import CREATE, create_requests
from bench.http_load import Client, request
from bench.pickup import pickup
from bench.processes import Child, wait_until
from bench.report import Row
from bench.stack import PROCESSES, THREADS, Stack
from bench.statistics import median
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.insight.counter import JobCounter

REQUESTS, SAMPLES, DRAINED, BATCH = 2_000, 60, 20_000, 10_000
SETTLE_SECONDS = 3.0
TARGET = 1.2

_LEFT = "SELECT count(*) FROM jobs WHERE queue = 'bench' AND status IN ('queued', 'running') AND id > %s"

_RATE = """
    SELECT count(*) / extract(epoch FROM max(finished_at) - min(started_at)) FROM jobs
    WHERE queue = 'bench' AND id > %s
"""
_WORKERS = (
    "SELECT count(*) FROM workers WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '5 seconds'"
)


def keep_counts(one: Served) -> None:
    """Do what the scheduler does while nothing happens: keep the counts of what is many."""
    settings = Settings(database_url=SecretStr(one.environment["GOQUEUE_DATABASE_URL"]))
    database = Database(settings)
    JobCounter(settings, database, lambda _seconds: None).run_once()
    database.close()


def measured(stack: Stack, large: Served, small: Served, rounds: int) -> list[Row]:
    """Create, pick up and drain, `rounds` times in turn."""
    creates: tuple[list[float], list[float]] = ([], [])
    picks: tuple[list[float], list[float]] = ([], [])
    drains: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for place, one in enumerate((large, small)):
            creates[place].append(create_requests(one.port, REQUESTS))
            one.sql.execute("DELETE FROM jobs WHERE queue = 'bench'")
            drains[place].append(_drain(stack, one))
            with working(stack, one):
                wait_for_workers(one)
                picks[place].append(_pickup(stack, one))
            one.sql.execute("DELETE FROM jobs WHERE queue = 'bench'")
    few = "with few"
    (create, create_few), (pick, pick_few), (drain, drain_few) = (
        map(median, pair) for pair in (creates, picks, drains)
    )
    least = 1 / TARGET
    return [
        Row("create", "POST /jobs/create", "req/s", create, create_few, few, "ratio", least),
        Row("pickup", "idle pickup p50, after the answer", "ms", pick, pick_few, few),
        Row("drain", f"drain of {DRAINED:,} no-op jobs", "jobs/s", drain, drain_few, few, "ratio", least),
    ]


@contextmanager
def working(stack: Stack, one: Served) -> Iterator[None]:
    """Workers and scheduler over one of the databases."""
    command = ["-m", "dramatiq", "goqueue.actors", "-p", str(PROCESSES), "-t", str(THREADS), "--skip-logging"]
    with (
        Child(["-m", "goqueue", "scheduler"], environment=one.environment, log=stack.log),
        Child(command, environment=one.environment, log=stack.log),
    ):
        yield


def wait_for_workers(one: Served) -> None:
    """Let a job through: every process has booted that far, and then settle."""
    with Client(one.port) as client:
        client.post(request("/jobs/create", json.dumps(CREATE).encode()))
    newest = one.sql.execute("SELECT max(id) - 1 FROM jobs").fetchone()
    assert newest is not None
    wait_until(lambda: not _left(one, newest), seconds=60, what="the workers work", poll=0.05)
    time.sleep(SETTLE_SECONDS)


def _pickup(stack: Stack, one: Served) -> float:
    with Client(one.port) as client:

        def create(number: int) -> None:
            body = {"queue": "bench", "type": "stamp", "payload": {"number": number}}
            client.post(request("/jobs/create", json.dumps(body).encode()))

        return pickup(stack, create, samples=SAMPLES)[0]


def _drain(stack: Stack, one: Served) -> float:
    """Jobs a second, from the first start to the last record; they are created in a paused queue."""
    newest = one.sql.execute("SELECT max(id) FROM jobs").fetchone()
    assert newest is not None
    body = json.dumps({"jobs": [{"queue": "bench", "type": "noop", "payload": {}}] * BATCH}).encode()
    with Client(one.port) as client, working(stack, one):
        client.post(request("/queues/bench/pause", b"{}"))
        for _ in range(DRAINED // BATCH):
            client.post(request("/jobs/batch", body))
        wait_until(lambda: _workers(one) >= PROCESSES, seconds=60, what="the workers are there", poll=0.05)
        time.sleep(SETTLE_SECONDS)
        client.post(request("/queues/bench/resume", b""))
        # Asked rarely: the answer costs PostgreSQL more the more jobs wait.
        wait_until(lambda: not _left(one, newest), seconds=300, what="all are recorded", poll=0.2)
    rate = one.sql.execute(_RATE, newest).fetchone()
    assert rate is not None
    return float(rate[0])


def _workers(one: Served) -> int:
    row = one.sql.execute(_WORKERS).fetchone()
    assert row is not None
    return int(row[0])


def _left(one: Served, newest: Sequence[int]) -> int:
    """Jobs of the measurement, above an id, that are not recorded."""
    row = one.sql.execute(_LEFT, newest).fetchone()
    assert row is not None
    return int(row[0])
