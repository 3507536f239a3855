"""The dispatcher in tests that look at one round of it, and what a worker would fetch behind it."""

from __future__ import annotations

import math

import pytest

from goqueue.db.database import Database
from goqueue.dispatch import dispatcher, ready_looks, runway_state, unlimited_queues
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Runway, parse
from goqueue.engine.transitions import claim as claim_store
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob, Job
from tests.support.factories import JobFactory


def do_everything_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in each round what is done now and then, so that one round shows it."""
    for name in ("WORKERS_SECONDS", "WAITING_SECONDS"):
        monkeypatch.setattr(dispatcher, name, 0.0)
    for name in ("FIRST_ROW_SECONDS", "FIRST_ROW_REST"):
        monkeypatch.setattr(runway_state, name, 0.0)
    monkeypatch.setattr(unlimited_queues, "LANES_REST", 0.0)
    monkeypatch.setattr(ready_looks, "SLOW_SECONDS", math.inf)


def fetch(runway: Runway, known: KnownTypes | None = None, queue: str = "default") -> list[int]:
    """Fetch everything that a worker that can run this would; None: from the runway itself alone."""
    found: list[int] = []
    while True:
        signature = known.signature if known else ""
        messages = parse(runway.fetch(queue, 100, block_seconds=0.01, signature=signature)).messages
        if not messages:
            return sorted(found)
        found += [message.job_id for message in messages]


def worker_of(make_job: JobFactory, known: KnownTypes) -> int:
    """A live worker that can run this, and serves the quarantine as well."""
    return make_job.worker(queues=["default", QUARANTINE_QUEUE], known=known, threads=known.slots)


def claim(database: Database, worker_id: int, job: Job, known: KnownTypes) -> list[ClaimedJob]:
    """Claim a job as a worker that can run this."""
    with database.autocommit() as connection:
        return claim_store.claim(
            connection, [(job.id, job.fence)], worker_id=worker_id, lease_seconds=15, known=known
        )
