"""By whatever door a job is created, it is counted alike: once, as created or as suppressed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dramatiq
import pytest
from falcon import testing
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import goqueue
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.job_settings import JobSettings
from goqueue.engine.runway.runway import Runway
from goqueue.instance import GoQueue, default
from goqueue.jobs import JobStatus
from goqueue.schedules import scheduling
from goqueue.schedules.service import CronScheduler
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.waiting import wait_until

QUEUE = "doors"

#: The holder of the key is in the way whatever became of it.
UNIQUE = goqueue.Unique(
    key="the only one",
    while_=(JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.RUNNING, JobStatus.COMPLETED),
)


@dataclass
class House:
    """A process with one type whose jobs are all alike, and every door to it."""

    goqueue: GoQueue
    once: dramatiq.Actor[..., Any]
    parent: dramatiq.Actor[..., Any]
    client: testing.TestClient
    cleanup: ExitStack
    engine: Engine | None = None

    def rest(self, path: str, document: dict[str, Any], **headers: str) -> None:
        """Ask the API to create something."""
        result = self.client.simulate_post(path, json=document, headers=headers)
        assert result.status_code in {200, 201}, result.text

    def run_parent(self) -> None:
        """Run a job that sends another one at its end."""
        steps = [self.parent.message(), self.once.message_with_options(pipe_ignore=True)]
        if self.engine is None:
            # A broker has one worker in its life.
            self.engine = self.cleanup.enter_context(Engine(self.goqueue.broker))
        dramatiq.pipeline(steps).run()  # type: ignore[no-untyped-call]  # Dramatiq's
        unfinished = "SELECT 1 FROM jobs WHERE type = 'parent' AND status <> 'completed'"
        wait_until(lambda: not self._rows(unfinished), what="the first job to end")

    def _rows(self, sql: str) -> Sequence[Any]:
        with self.goqueue.database.autocommit() as connection:
            return connection.exec_driver_sql(sql).fetchall()

    def needs(self) -> set[tuple[tuple[str, ...], int]]:
        """What the jobs of the type require, and how many slots they take."""
        found = self._rows("SELECT requires, slots FROM jobs WHERE type = 'once' AND max_retries < 0")
        return {(tuple(requires), slots) for requires, slots in found}

    def costs(self) -> set[int]:
        """How many slots of limits the jobs of the type take."""
        return {row[0] for row in self._rows("SELECT limit_cost FROM jobs WHERE type = 'once'")}

    def tick(self, **options: Any) -> None:
        """Let a schedule be due once."""
        if not self.goqueue.schedules:
            self.goqueue.cron("* * * * *", **options)(self.once)
            scheduling.declare(self.goqueue.database, self.goqueue.schedules.values())
        with self.goqueue.database.autocommit() as connection:
            connection.exec_driver_sql("DELETE FROM schedule_ticks")
            connection.exec_driver_sql(
                "UPDATE schedules SET due_at = now(), next_at = now() - interval '60 s'"
            )
        cron = CronScheduler(self.goqueue.settings, self.goqueue.database, threading.Event().wait)
        assert sum(cron.run_once().values())

    def run_schedule(self, **said: Any) -> None:
        """Run a schedule by hand."""
        document = {"cron": "@yearly", "type": "once", "queue": QUEUE, "payload": {}, **said}
        assert self.client.simulate_put("/schedules/yearly", json=document).status_code in {200, 201}
        assert self.client.simulate_post("/schedules/yearly/run").status_code in {200, 201}

    def in_session(self, create: Callable[[Any], object]) -> None:
        """Create within a session of the application's own, and commit."""
        engine = create_engine(
            self.goqueue.settings.database_url.get_secret_value().replace(
                "postgresql://", "postgresql+psycopg://"
            )
        )
        with Session(engine) as session:
            create(session)
            session.commit()
        engine.dispose()

    def in_connection(self, create: Callable[[Any], object]) -> None:
        """Create within a bare connection of the application's own, and commit."""
        with self.goqueue.database.transaction() as connection:
            create(connection)


JOB = {"queue": QUEUE, "type": "once", "payload": {}}

DOORS: dict[str, Callable[[House], object]] = {
    "GoQueue.create": lambda house: house.goqueue.create(house.once, {}),
    "goqueue.enqueue": lambda house: goqueue.enqueue(house.once, {}),
    "goqueue.enqueue_many": lambda house: goqueue.enqueue_many(house.once, [{}]),
    "enqueue in a session": lambda house: house.in_session(
        lambda session: goqueue.enqueue(house.once, {}, session=session)
    ),
    "enqueue in a connection": lambda house: house.in_connection(
        lambda connection: goqueue.enqueue(house.once, {}, session=connection)
    ),
    "a chain": lambda house: goqueue.enqueue_chain((house.once, {})),
    "a chain in a session": lambda house: house.in_session(
        lambda session: goqueue.enqueue_chain((house.once, {}), session=session)
    ),
    "actor.send": lambda house: house.once.send(),
    "a follow-up": House.run_parent,
    "a tick of a schedule": House.tick,
    "a schedule that is run by hand": House.run_schedule,
    "POST /jobs/create": lambda house: house.rest("/jobs/create", JOB),
    "POST /jobs": lambda house: house.rest("/jobs", JOB),
    "POST /jobs/create with a key": lambda house: house.rest("/jobs/create", JOB, **idempotency_key(house)),
    "POST /jobs/batch": lambda house: house.rest("/jobs/batch", {"jobs": [JOB]}),
    "POST /jobs/batch with a key": lambda house: house.rest(
        "/jobs/batch", {"jobs": [JOB]}, **idempotency_key(house)
    ),
    "POST /jobs/create with jobs that follow": lambda house: house.rest(
        "/jobs/create", JOB | {"then": [{"queue": "elsewhere", "type": "parent", "payload": {}}]}
    ),
}


def idempotency_key(house: House) -> dict[str, str]:
    """Another key for each request: a repeated one creates nothing, and is counted as nothing."""
    with house.goqueue.database.autocommit() as connection:
        used = connection.exec_driver_sql("SELECT count(*) FROM idempotency_keys").scalar_one()
    return {"Idempotency-Key": f"key-{used}"}


@pytest.fixture
def house(settings: Settings, database: Database, runway: Runway) -> Iterator[House]:
    """A process of its own, with its types declared."""
    with process_of(settings.model_copy(update=QUICK)):
        once = goqueue.actor(name="once", queue=QUEUE, unique=UNIQUE, requires={"gpu": True}, slots=2)(
            _nothing
        )
        parent = goqueue.actor(name="parent", queue="elsewhere")(_nothing)
        client = testing.TestClient(create_app(settings, database=database, runway=runway))
        with ExitStack() as cleanup:
            yield House(default(), once, parent, client, cleanup)


def _nothing() -> None:
    """Do nothing."""


def created_and_suppressed() -> tuple[float, float]:
    """How many jobs of the queue were counted as created, and as suppressed."""
    return (
        counted("jobs_created_total", queue=QUEUE),
        counted("jobs_deduplicated_total", queue=QUEUE),
    )


@pytest.mark.parametrize("door", DOORS)
def test_every_door_counts_alike(house: House, door: str) -> None:
    """The first job through a door is created, the second, which is alike, suppressed."""
    created, suppressed = created_and_suppressed()
    DOORS[door](house)
    # A follow-up is counted by a thread of the worker.
    wait_until(lambda: created_and_suppressed() != (created, suppressed), what="the first to be counted")
    assert created_and_suppressed() == (created + 1, suppressed)
    assert house.needs() == {(("gpu=true",), 2)}
    DOORS[door](house)
    wait_until(lambda: created_and_suppressed() != (created + 1, suppressed), what="the second to be counted")
    assert created_and_suppressed() == (created + 1, suppressed + 1)


NEEDS: JobSettings = {"requires": {"region": "eu", "cores": 8}, "slots": 3, "limit_cost": 5}

#: Doors at which a job says itself what it requires.
SAYING: dict[str, Callable[[House], object]] = {
    "GoQueue.create": lambda house: house.goqueue.create(house.once, {}, **NEEDS),
    "goqueue.enqueue": lambda house: goqueue.enqueue(house.once, {}, **NEEDS),
    "a chain": lambda house: goqueue.enqueue_chain((house.once, {}, NEEDS)),
    "POST /jobs/create": lambda house: house.rest("/jobs/create", JOB | {**NEEDS}),
    "POST /jobs/batch": lambda house: house.rest("/jobs/batch", {"jobs": [JOB | {**NEEDS}]}),
    "a job that follows": lambda house: house.rest(
        "/jobs/create", {"queue": "elsewhere", "type": "parent", "payload": {}, "then": [JOB | {**NEEDS}]}
    ),
    "a schedule": lambda house: house.run_schedule(**NEEDS),
    "a schedule in code": lambda house: house.tick(job=NEEDS),
}


@pytest.mark.parametrize("door", SAYING)
def test_a_job_says_what_it_requires_at_every_door(house: House, door: str) -> None:
    """What it says counts instead of what its type says, as texts; no worker that runs has it."""
    SAYING[door](house)
    assert house.needs() == {(("cores=8", "region=eu"), 3)}
    assert house.costs() == {5}


def test_what_is_rolled_back_is_not_counted(house: House) -> None:
    """Neither a session's job nor one of a savepoint, and a later commit does not count it either."""
    created, suppressed = created_and_suppressed()
    url = house.goqueue.settings.database_url.get_secret_value()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        goqueue.enqueue(house.once, {}, session=session)
        session.rollback()
        session.commit()
        savepoint = session.begin_nested()
        goqueue.enqueue(house.once, {}, session=session)
        savepoint.rollback()
        session.commit()
        assert created_and_suppressed() == (created, suppressed)
        with session.begin_nested():
            goqueue.enqueue(house.once, {}, session=session)
        assert created_and_suppressed() == (created, suppressed)
        session.commit()
    engine.dispose()
    assert created_and_suppressed() == (created + 1, suppressed)
