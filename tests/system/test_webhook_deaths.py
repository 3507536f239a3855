"""Feeders of webhooks that are killed at any point, several at once: each event is delivered once."""

from __future__ import annotations

import subprocess
import sys
import time

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


def test_killed_feeders_lose_and_double_nothing(
    settings: Settings, database: Database, make_job: JobFactory
) -> None:
    """Killed before and behind the commit, while others feed and while events keep coming."""
    webhooks = GoQueue(settings, database=database).webhooks
    for name in ("one", "other"):
        webhooks.create(name, "https://93.184.216.34/hook", events=["job.created"])
    armed = "before_webhook_commit:kill:0.1,after_webhook_commit:kill:0.1"
    environment = environment_of(settings.model_copy(update={"failpoints": armed}))
    environment["GOQUEUE_FAILPOINTS"] = armed
    feeders: list[subprocess.Popen[bytes]] = []
    deaths, ids = 0, []

    def tend() -> None:
        nonlocal deaths
        for feeder in list(feeders):
            if feeder.poll() is not None:
                assert feeder.returncode == KILLED
                deaths += 1
                feeders.remove(feeder)
        while len(feeders) < FEEDERS:
            feeders.append(subprocess.Popen([sys.executable, "-c", FEEDER], env=environment))

    try:
        for _ in range(EVENTS):
            ids.append(make_job().id)
            tend()
        until = time.monotonic() + 20
        wait_until(lambda: tend() or deaths >= 6 or time.monotonic() > until, 30, "some to be killed")
    finally:
        for feeder in feeders:
            feeder.kill()
            feeder.wait()
    assert deaths > 0
    last = WebhookFeeder(settings, database, lambda _: None)
    while last.run_once()["events"]:
        pass
    for name in ("one", "other"):
        webhook = webhooks.get(name)
        with database.autocommit() as connection:
            rows = connection.exec_driver_sql(
                "SELECT about_job_id, job_id, kind FROM webhook_deliveries WHERE subscription_id = %(id)s "
                "ORDER BY id",
                {"id": webhook.id},
            ).fetchall()
        assert [row[0] for row in rows] == ids
        assert {row[2] for row in rows} == {"job.created"}
    with database.autocommit() as connection:
        jobs = connection.exec_driver_sql(
            "SELECT count(*), count(DISTINCT payload::text) FROM jobs WHERE type = %(type)s",
            {"type": DELIVERY_TYPE},
        ).one()
        with_jobs = connection.exec_driver_sql(
            "SELECT count(*) FROM webhook_deliveries WHERE job_id IS NOT NULL"
        ).scalar_one()
    assert tuple(jobs) == (with_jobs, with_jobs)
