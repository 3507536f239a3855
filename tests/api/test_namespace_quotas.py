"""Quotas of a namespace at every door that creates jobs, and what the answers tell of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from falcon import testing

from goqueue.access.quotas import QuotaChanges, Quotas
from goqueue.api.app import open_goqueue
from goqueue.api.key_routing import create_key_router
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.callers_transaction import CallersTransaction
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.runway.runway import Runway
from goqueue.errors import InvalidJobError, QuotaExceededError
from goqueue.instance import GoQueue
from goqueue.jobs import JobStatus, NewJob
from goqueue.schedules.service import CronScheduler
from tests.api.conftest import NOOP
from tests.support.dashboard.client import DashboardClient
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import own_settings
from tests.support.waiting import wait_until

EMPTIED = ("jobs", "create_tokens", "queues", "idempotency_keys", "schedules", "schedule_ticks")


@pytest.fixture(scope="module")
def home(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[GoQueue]:
    """An installation with one namespace, acme."""
    with own_settings(postgres, valkey, "quotas", allowed_hosts=("falconframework.org",)) as settings:
        goqueue = open_goqueue(settings)
        goqueue.namespaces.create("acme")
        yield goqueue
        goqueue.close()


class Doors:
    """A namespace with quotas of a test, and every way to create a job in it; each tells a status of HTTP."""

    def __init__(self, home: GoQueue, quotas: Quotas) -> None:
        self.home = home
        self.quotas = quotas
        changes = {name: getattr(quotas, name) for name in QuotaChanges.model_fields}
        home.namespaces.change("acme", QuotaChanges(**changes))
        self.router = create_key_router(home.settings, site=DASHBOARD)
        self.goqueue = open_goqueue(home.settings.within("acme"))
        self.client = testing.TestClient(self.router)
        with self.goqueue.database.autocommit() as connection:
            connection.exec_driver_sql("; ".join(f"DELETE FROM {table}" for table in EMPTIED))

    def close(self) -> None:
        """Close the connections."""
        self.goqueue.close()
        self.router.close()

    def post(self, path: str, document: Any, **headers: str) -> testing.Result:
        """Ask the API of the namespace."""
        return self.client.simulate_post(f"/ns/acme{path}", json=document, headers=headers)

    def rest(self, **members: Any) -> int:
        """POST /jobs/create."""
        return self.post("/jobs/create", NOOP | members).status_code

    def idempotent(self, **members: Any) -> int:
        """The same, with a key that makes it safe to repeat."""
        return self.post("/jobs/create", NOOP | members, **{"Idempotency-Key": "new"}).status_code

    def chain(self, **members: Any) -> int:
        """POST /jobs with jobs that follow."""
        return self.post("/jobs", NOOP | members | {"then": [NOOP]}).status_code

    def batch(self, **members: Any) -> int:
        """POST /jobs/batch."""
        return self.post("/jobs/batch", {"jobs": [NOOP | members]}).status_code

    def page(self) -> int:
        """The form of the dashboard."""
        browser = DashboardClient(self.client, "/ns/acme")
        return browser.post("/dashboard/create", type="noop", queue=NOOP["queue"]).status_code

    def python(self, payload: Any = None) -> int:
        """`GoQueue.create` and its like."""
        job = NewJob("noop", "noop", orjson.dumps(payload or {}).decode())
        return self._status(lambda: self.goqueue.creator.one(job))

    def session(self, payload: Any = None) -> int:
        """In a transaction of the caller's, which is in another schema."""
        job = NewJob("noop", "noop", orjson.dumps(payload or {}).decode())

        def create() -> None:
            with self.home.database.transaction() as connection:
                transaction: CallersTransaction = connection
                self.goqueue.creator.create_within(transaction, [NewNode(job)])
                left = connection.exec_driver_sql("SELECT current_schema()").scalar()
                assert left == "public"

        return self._status(create)

    def run_now(self, **members: Any) -> int:
        """A schedule that somebody runs now."""
        schedule = {"cron": "0 3 * * *", **NOOP} | members
        made = self.client.simulate_put("/ns/acme/schedules/now", json=schedule)
        assert made.status_code in {200, 201}
        return self.post("/schedules/now/run", {}).status_code

    def tick(self, **members: Any) -> int:
        """A tick of a schedule, which is refused as a line of its history."""
        schedule = {"cron": "* * * * *", **NOOP} | members
        self.client.simulate_delete("/ns/acme/schedules/ticks")
        assert self.client.simulate_put("/ns/acme/schedules/ticks", json=schedule).status_code == 201
        with self.goqueue.database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE schedules SET next_at = date_trunc('minute', now()), due_at = now() "
                "WHERE name = 'ticks'"
            )
        CronScheduler(self.goqueue.settings, self.goqueue.database, bool).run_once()
        (tick,) = self.client.simulate_get("/ns/acme/schedules/ticks/ticks").json
        return {"fired": 201, "over_quota": 429}[tick["outcome"]]

    def _status(self, create: Callable[[], object]) -> int:
        try:
            create()
        except QuotaExceededError:
            return 429
        except InvalidJobError:
            return 400
        return 201


DOORS = ["rest", "idempotent", "chain", "batch", "page", "python", "session", "run_now", "tick"]


@pytest.fixture
def doors(home: GoQueue) -> Iterator[Callable[..., Doors]]:
    """Makes the doors of a namespace with these quotas."""
    made = []

    def make(**quotas: Any) -> Doors:
        made.append(Doors(home, Quotas(**quotas)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def is_created(status: int) -> bool:
    """Whether a door let a job be created; the form of a page leads to it."""
    return status in {201, 303}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_holds_to_the_jobs_that_wait(doors: Callable[..., Doors], door: str) -> None:
    """As many as the quota says, and no more; where there is none, all."""
    full = doors(max_waiting_jobs=1)
    JobFactory(full.goqueue.database)(queue="noop")
    assert getattr(full, door)() == 429
    assert counted(full) == 1
    assert is_created(getattr(doors(), door)())


@pytest.mark.parametrize("door", DOORS)
def test_every_door_holds_to_the_rate(doors: Callable[..., Doors], door: str) -> None:
    """The bucket of the namespace is one, whoever takes from it."""
    slow = doors(creates_per_second=0.01)
    assert is_created(slow.python())
    assert getattr(slow, door)() == 429
    assert counted(slow) == 1


@pytest.mark.parametrize("door", [door for door in DOORS if door != "page"])  # whose form has no such field
def test_every_door_holds_to_the_size_of_payloads(doors: Callable[..., Doors], door: str) -> None:
    """Counted in bytes of UTF-8."""
    small = doors(max_payload_bytes=20)
    large = {"payload": {"text": "é" * 10}}
    assert getattr(small, door)(**large) in {400, 429}
    assert counted(small) == 0
    assert is_created(getattr(small, door)(payload={"text": "e"}))


def counted(doors: Doors) -> int:
    """How many jobs there are."""
    with doors.goqueue.database.autocommit() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one())


def test_a_refusal_says_when_to_come_again(doors: Callable[..., Doors]) -> None:
    """By Retry-After, and by headers of draft-ietf-httpapi-ratelimit-headers, as answers to creates do."""
    slow = doors(creates_per_second=2)
    first = slow.post("/jobs/create", NOOP)
    assert first.headers["RateLimit-Policy"] == '"creates_per_second";q=2;w=1'
    assert first.headers["RateLimit"] == '"creates_per_second";r=1;t=1'
    refused = slow.post("/jobs/batch", {"jobs": [NOOP] * 50})
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["RateLimit"].startswith('"creates_per_second";r=1;t=')
    assert refused.json["error"] == "the namespace may create 2 jobs a second"
    full = doors(max_waiting_jobs=3)
    assert full.post("/jobs/batch", {"jobs": [NOOP] * 4}).headers["RateLimit"] == '"max_waiting_jobs";r=3;t=1'
    assert "RateLimit" not in full.post("/jobs/create", NOOP).headers


def test_processes_share_the_rate(doors: Callable[..., Doors]) -> None:
    """Each takes from the same bucket, also where they take many at once; what is owed is paid first."""
    first = doors(creates_per_second=100)
    others = [open_goqueue(first.home.settings.within("acme")) for _ in range(2)]
    created, jobs = 0, [NewJob("noop", "noop", "{}")]
    began = time.monotonic()
    for goqueue in [first.goqueue, *others] * 100:
        with suppress(QuotaExceededError):
            goqueue.creator.many(jobs)
            created += 1
    seconds = time.monotonic() - began
    assert 50 <= created <= 100 + 100 * seconds
    for goqueue in others:
        goqueue.close()


def test_a_batch_is_created_whole_and_owed(doors: Callable[..., Doors]) -> None:
    """One of any size passes when the bucket is full, and those that follow wait until it is paid."""
    slow = doors(creates_per_second=10)
    assert slow.post("/jobs/batch", {"jobs": [NOOP] * 40}).status_code == 201
    refused = slow.post("/jobs/create", NOOP)
    assert (refused.status_code, int(refused.headers["Retry-After"])) in [(429, 3), (429, 4)]
    use = slow.client.simulate_get("/namespaces/acme").json["use"]
    assert -30 <= use["creates_left"] < -20


def test_what_has_begun_makes_room(doors: Callable[..., Doors]) -> None:
    """Jobs that are done are counted no more, within a second."""
    full = doors(max_waiting_jobs=2)
    assert full.post("/jobs/batch", {"jobs": [NOOP] * 2}).status_code == 201
    assert full.rest() == 429
    with full.goqueue.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    wait_until(lambda: full.rest() == 201, 10, "room for a job")


def test_a_repeat_is_answered_whatever_the_quota_says(doors: Callable[..., Doors]) -> None:
    """What was created once with an idempotency key is told again, and takes nothing."""
    full = doors(max_waiting_jobs=1)
    assert full.idempotent() == 201
    assert full.rest() == 429
    assert full.idempotent() == 201
    assert counted(full) == 1


def test_the_namespace_tells_its_use_and_its_quotas(doors: Callable[..., Doors]) -> None:
    """By REST to all who see it, and by the metrics to those who may act in all."""
    used = doors(max_waiting_jobs=10, max_running_jobs=2)
    assert used.rest() == 201
    JobFactory(used.goqueue.database)(JobStatus.RUNNING)
    told = used.client.simulate_get("/namespaces/acme").json
    assert told["use"] == {"waiting_jobs": 1, "running_jobs": 1, "creates_left": None}
    assert told["quotas"] == {
        "max_waiting_jobs": 10,
        "creates_per_second": None,
        "max_payload_bytes": None,
        "max_running_jobs": 2,
        "share": 1,
    }
    text = used.client.simulate_get("/metrics").text
    assert 'namespace_waiting_jobs{namespace="acme"} 1.0' in text
    assert 'namespace_quota{namespace="acme",quota="max_running_jobs"} 2.0' in text
    assert "namespace_quota" not in used.client.simulate_get("/ns/acme/metrics").text


def test_so_many_jobs_run_and_explain_says_so(doors: Callable[..., Doors]) -> None:
    """Over all queues, which take turns; those that come later are held to it as well."""
    limited = doors(max_running_jobs=3)
    settings, database = limited.goqueue.settings, limited.goqueue.database
    make_job = JobFactory(database)
    make_job.worker(threads=50, queues=["one", "two", "three"])
    running = make_job(JobStatus.RUNNING, queue="one")
    for queue in ("one", "two", "three"):
        for _ in range(4):
            make_job(queue=queue)
    own_runway = Runway(settings)
    dispatcher = Dispatcher(settings, database, own_runway)
    dispatcher.run_once()
    assert in_admission(database) == 2
    set_status(database, running.id, JobStatus.COMPLETED)
    dispatcher.run_once()
    assert in_admission(database) == 3
    dispatcher.run_once()
    assert in_admission(database) == 3
    waiting = make_job(queue="two")
    why = limited.goqueue.explain(waiting.id)
    assert why.reasons[0].code == "limit_reached"
    assert "the namespace 'acme' runs at most 3 jobs at once" in why.summary
    limited.home.namespaces.change("acme", QuotaChanges(max_running_jobs=None))
    assert in_admission(database) == 0
    assert limited.goqueue.explain(waiting.id).reasons[0].code != "limit_reached"
    own_runway.close()


def in_admission(database: Database) -> int:
    """How many jobs were let in and have not started."""
    with database.autocommit() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM jobs WHERE admitted").scalar_one())
