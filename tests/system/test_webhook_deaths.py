"""Feeders of webhooks that are killed at any point, several at once: each event is delivered once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.instance import GoQueue
from goqueue.webhooks.filters import DELIVERY_TYPE
from goqueue.webhooks.service import WebhookFeeder
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

pytestmark = pytest.mark.timeout(300)

EVENTS = 400
FEEDERS = 3
DEATHS = 5
KILLED = -9

#: A scheduler that does nothing but feed webhooks, a few events at a time.
FEEDER = """
import threading
from goqueue import failpoints
from goqueue.config.settings import get_settings
from goqueue.db.database import Database
from goqueue.webhooks import service
service.BATCH = 7
settings = get_settings()
failpoints.configure(settings.failpoints)
feeder = service.WebhookFeeder(settings, Database(settings), lambda _: None)
while not threading.Event().wait(0.005):
    feeder.run_once()
"""


class Feeders:
    """Three processes that feed and are killed; whoever is dead is replaced.

    Attributes:
        deaths: how many were.
    """

    def __init__(self, settings: Settings) -> None:
        armed = "before_webhook_commit:kill:0.1,after_webhook_commit:kill:0.1"
        self.environment = environment_of(settings.model_copy(update={"failpoints": armed}))
        self.environment["GOQUEUE_FAILPOINTS"] = armed
        self.processes: list[subprocess.Popen[bytes]] = []
        self.deaths = 0

    def tend(self) -> bool:
        """Bring the number back to three; whether enough were killed."""
        for process in list(self.processes):
            if process.poll() is not None:
                assert process.returncode == KILLED
                self.deaths += 1
                self.processes.remove(process)
        while len(self.processes) < FEEDERS:
            command = [sys.executable, "-c", FEEDER]
            self.processes.append(subprocess.Popen(command, env=self.environment))
        return self.deaths >= DEATHS

    def end(self) -> None:
        """Kill all that are left."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def feeders(settings: Settings) -> Iterator[Feeders]:
    """Feeders on the database of the test."""
    made = Feeders(settings)
    yield made
    made.end()


def rows(database: Database, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with database.autocommit() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, parameters).fetchall()]


def test_killed_feeders_lose_and_double_nothing(
    settings: Settings, database: Database, make_job: JobFactory, feeders: Feeders
) -> None:
    """Killed before and behind the commit, while others feed and while events keep coming."""
    webhooks = GoQueue(settings, database=database).webhooks
    for name in ("one", "other"):
        webhooks.create(name, "https://93.184.216.34/hook", events=["job.created"])
    ids = []
    for _ in range(EVENTS):
        ids.append(make_job().id)
        feeders.tend()
    wait_until(feeders.tend, 60, "some to be killed")
    feeders.end()
    last = WebhookFeeder(settings, database, lambda _: None)
    while last.run_once()["events"]:
        pass
    for webhook in webhooks.list():
        delivered = rows(
            database,
            "SELECT about_job_id, kind FROM webhook_deliveries WHERE subscription_id = %(id)s ORDER BY id",
            id=webhook.id,
        )
        assert delivered == [(job_id, "job.created") for job_id in ids]
    (jobs,) = rows(
        database,
        "SELECT count(*), count(DISTINCT payload::text) FROM jobs WHERE type = %(type)s",
        type=DELIVERY_TYPE,
    )
    (with_jobs,) = rows(database, "SELECT count(*) FROM webhook_deliveries WHERE job_id IS NOT NULL")[0]
    assert jobs == (with_jobs, with_jobs)
