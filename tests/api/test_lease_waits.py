"""Long polls for jobs under the API's server: they get theirs as soon as there is one, and hold no thread."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.dev.embedded import free_port
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

NOOP = {"queue": "noop", "type": "noop", "payload": {}}
WANTED = {"worker": "w", "types": ["noop"], "wait_seconds": 30}


class Api:
    """One process of the API with two threads."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        worker = "goqueue.api.server.worker.BufferingWorker"
        command = [sys.executable, "-m", "gunicorn", "goqueue.wsgi:app", "-k", worker, "--threads", "2"]
        changed = settings.model_copy(
            update={"actors": ("tests.support.jobs.noop_jobs",), "heartbeat_seconds": 0.2}
        )
        environment = environment_of(changed)
        self.process = subprocess.Popen([*command, "-b", f"127.0.0.1:{self.port}"], env=environment)

    def send(self, path: str, body: Any) -> http.client.HTTPConnection:
        """Send a request, and read nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection

    def post(self, path: str, body: Any) -> Any:
        """Send a request; the document of its answer."""
        return answer_of(self.send(path, body))

    def lease(self, **members: Any) -> http.client.HTTPConnection:
        """Wait for a job."""
        return self.send("/queues/noop/lease", WANTED | members)

    def answers(self) -> bool:
        """Whether it is up."""
        with contextlib.suppress(OSError):
            return "id" in self.post("/jobs/create", NOOP)
        return False


def answer_of(connection: http.client.HTTPConnection) -> Any:
    """The document of the answer on a connection."""
    with contextlib.closing(connection):
        return json.loads(connection.getresponse().read() or "null")


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    """The API of this module's tests."""
    api = Api(settings)
    try:
        wait_until(api.answers, timeout_seconds=60)
        answer_of(api.lease(limit=100))
        yield api
    finally:
        api.process.terminate()
        api.process.wait()


def waits(database: Database, count: int) -> None:
    """Wait until so many workers are known: they look, and then wait."""
    with database.autocommit() as connection:
        wait_until(lambda: connection.exec_driver_sql("SELECT count(*) FROM workers").scalar_one() >= count)


def test_whoever_waits_gets_the_next_job(api: Api, database: Database) -> None:
    """More wait than there are threads, and each gets another job."""
    waiting = [api.lease(worker=f"w{number}") for number in range(8)]
    waits(database, 8)
    made = {api.post("/jobs/create", NOOP)["id"] for _ in range(8)}
    got = [answer_of(connection)["jobs"] for connection in waiting]
    assert {job["id"] for (job,) in got} == made


def test_a_wait_ends_with_its_time(api: Api) -> None:
    """With no job; and what was there at once is given at once."""
    assert answer_of(api.lease(wait_seconds=0.1))["jobs"] == []
    made = api.post("/jobs/create", NOOP)
    (job,) = answer_of(api.lease())["jobs"]
    assert job["id"] == made["id"]


def test_a_stop_reaches_who_waits(api: Api, database: Database) -> None:
    """Within a heartbeat; its lease was renewed until then."""
    waiting = api.lease(worker="stopped")
    waits(database, 1)
    with database.autocommit() as connection:
        (worker_id, since) = connection.exec_driver_sql(
            "SELECT id, heartbeat_at FROM workers WHERE remote_name = 'stopped'"
        ).one()
        renewed = "SELECT heartbeat_at > %(since)s FROM workers WHERE id = %(id)s"
        parameters = {"id": worker_id, "since": since}
        wait_until(lambda: connection.exec_driver_sql(renewed, parameters).scalar_one())
    api.post(f"/workers/{worker_id}/stop", {})
    answer = answer_of(waiting)
    assert (answer["stop"], answer["jobs"]) == (True, [])


def test_who_goes_away_takes_no_job_along(api: Api, database: Database) -> None:
    """The next one gets it."""
    gone = api.lease(worker="gone")
    waits(database, 1)
    gone.close()
    there = api.lease(worker="there")
    waits(database, 2)
    made = api.post("/jobs/create", NOOP)
    assert [job["id"] for job in answer_of(there)["jobs"]] == [made["id"]]
