"""The one way in: rows first, then the push; in one's own transaction; and what is refused."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, field_validator
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import create, new_job_rows
from goqueue.engine import job_rows as job_store
from goqueue.engine.create import JobCreator
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.new_job import new_job
from goqueue.engine.runway.runway import Runway, parse
from goqueue.errors import InvalidJobError
from goqueue.jobs import Job, NewJob
from goqueue.worker.broker import JobBroker
from tests.support.engine import process_of
from tests.support.waiting import wait_until

LATER = datetime(2033, 1, 1, tzinfo=UTC)


class Order(BaseModel):
    """A payload."""

    number: int


#: Whether the garbage collector was on, at each look.
collects: list[bool] = []


class Watched(BaseModel):
    """A payload that looks whether the garbage collector is on."""

    number: int

    @field_validator("number")
    @classmethod
    def watch(cls, number: int) -> int:
        """Look."""
        collects.append(gc.isenabled())
        return number


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process with one declared type."""
    with process_of(settings) as broker:

        @goqueue.actor(queue="orders", max_retries=5)
        def ship(order: Order) -> int:
            return order.number

        yield broker


@pytest.fixture
def submitter(settings: Settings, database: Database, runway: Runway) -> JobCreator:
    """A submitter of its own."""
    return JobCreator(settings, database, runway)


def on_runway(runway: Runway, queue: str) -> list[int]:
    """The ids on a runway, taken off it, once there are some."""
    found: list[bytes] = []

    def arrived() -> bool:
        found.extend(runway.fetch(queue, 100, block_seconds=0.05))
        return bool(found)

    wait_until(arrived, what="a push")
    messages = parse(found).messages
    return [message.job_id for message in messages]


def read(database: Database, job_id: int) -> Job:
    """The row as it is now."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id)


def number_of_jobs(database: Database) -> int:
    """How many rows there are."""
    with database.autocommit() as connection:
        number: Any = connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
    return int(number)


def test_one_job_is_a_row_and_a_message(submitter: JobCreator, database: Database, runway: Runway) -> None:
    """A created job is committed when the call returns, and its id is on the runway."""
    job = submitter.one(NewJob("q", "t", '{"a":1}'))
    assert read(database, job.id) == job
    assert on_runway(runway, "q") == [job.id]


def test_many_jobs_are_all_or_none(submitter: JobCreator, database: Database, runway: Runway) -> None:
    """One bad job of a batch leaves no row and no message of any."""
    with pytest.raises(goqueue.errors.DatabaseRefusedError):
        submitter.many([NewJob("q", "t", "{}"), NewJob("q", "t", "{}", priority=1000)])
    assert number_of_jobs(database) == 0
    ids = submitter.many([NewJob("q", "t", "{}") for _ in range(30)])
    assert number_of_jobs(database) == 30
    assert on_runway(runway, "q") == ids


def test_a_run_at_is_not_pushed(submitter: JobCreator, runway: Runway) -> None:
    """A job for later stays in PostgreSQL alone."""
    submitter.one(NewJob("q", "t", "{}", available_at=LATER))
    submitter.many([NewJob("q", "t", "{}", available_at=LATER)])
    now = submitter.one(NewJob("q", "t", "{}"))
    assert on_runway(runway, "q") == [now.id]


def test_without_redis_a_job_exists_all_the_same(settings: Settings, database: Database) -> None:
    """A push that fails is no error to the client; the dispatcher pushes later."""
    lost = Runway(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    job = JobCreator(settings, database, lost).one(NewJob("q", "t", "{}"))
    lost.close()
    runway = Runway(settings)
    Dispatcher(settings, database, runway).run_once()
    assert on_runway(runway, "q") == [job.id]
    runway.close()


def test_within_only_inserts(submitter: JobCreator, database: Database) -> None:
    """In a caller's transaction nothing exists before the commit."""
    with database.transaction() as connection:
        job_id = submitter.create_within(connection, [NewNode(NewJob("q", "t", "{}"))])[0].id
        assert number_of_jobs(database) == 0
    assert read(database, job_id).status == "queued"


@pytest.mark.parametrize("door", ["session", "connection"])
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
def test_enqueue_joins_the_callers_transaction(
    broker: JobBroker, settings: Settings, database: Database, runway: Runway, door: str, commits: Any
) -> None:
    """With the caller's commit the job exists and is dispatched; with its rollback nothing is left."""
    url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    ship = broker.actors["ship"]
    with Session(engine) as session, engine.connect() as connection:
        own: Session | Any = session if door == "session" else connection
        job_id = goqueue.enqueue(ship, Order(number=1), session=own)
        assert number_of_jobs(database) == 0
        if commits:
            own.commit()
        else:
            own.rollback()
    engine.dispose()
    assert number_of_jobs(database) == int(commits)
    Dispatcher(settings, database, runway).run_once()
    if commits:
        assert on_runway(runway, "orders") == [job_id]
    assert runway.lengths(["orders"])[0][0] == 0


def test_enqueue_takes_everything_from_the_type_or_the_call(broker: JobBroker, database: Database) -> None:
    """Queue, retries, priority and times come from the type unless the call says otherwise."""
    ship = broker.actors["ship"]
    plain = read(database, goqueue.enqueue(ship, {"number": 1}))
    assert (plain.queue, plain.max_retries, plain.priority, plain.payload) == ("orders", 5, 0, {"number": 1})
    own = read(
        database,
        goqueue.enqueue(
            ship,
            Order(number=2),
            queue="express",
            priority=7,
            max_retries=0,
            available_at=LATER,
            time_limit_seconds=1.5,
        ),
    )
    assert (own.queue, own.max_retries, own.priority) == ("express", 0, 7)
    assert (own.available_at, own.time_limit_seconds) == (LATER, 1.5)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        pytest.param({"number": "many"}, "payload.number", id="wrong type"),
        pytest.param({}, "payload.number", id="missing"),
        pytest.param({"number": object()}, "payload", id="not json"),
        pytest.param({"number": 1, "text": "a\0b"}, "payload", id="nul"),
        pytest.param({"number": 1, "text": "\ud800"}, "payload", id="surrogate"),
        pytest.param([1], "payload", id="no object"),
        pytest.param(None, "payload", id="nothing"),
    ],
)
def test_what_does_not_fit_makes_no_row(
    broker: JobBroker, database: Database, payload: Any, field: str
) -> None:
    """A payload that its type refuses is an error that names the field, and no row."""
    with pytest.raises(InvalidJobError) as caught:
        goqueue.enqueue(broker.actors["ship"], payload)
    assert field in caught.value.fields
    assert number_of_jobs(database) == 0


def test_an_unknown_type_is_refused(broker: JobBroker) -> None:
    """A type that nobody declared has no jobs."""
    with pytest.raises(InvalidJobError, match="unknown job type 'nobody'"):
        new_job(broker, "nobody", {})


def test_many_payloads_are_many_jobs(broker: JobBroker, database: Database) -> None:
    """One call makes a job of each payload, in their order, each with the settings of the call."""
    ids = goqueue.enqueue_many(broker.actors["ship"], ({"number": n} for n in range(5)), priority=7)
    rows = [read(database, job_id) for job_id in ids]
    assert [row.payload for row in rows] == [{"number": n} for n in range(5)]
    assert {(row.queue, row.max_retries, row.priority) for row in rows} == {("orders", 5, 7)}
    own = goqueue.RetryPolicy(max_retries=1, min_backoff_seconds=2)
    (job_id,) = goqueue.enqueue_many(broker.actors["ship"], [Order(number=9)], retry=own)
    assert read(database, job_id).max_retries == 1
    assert goqueue.enqueue_many(broker.actors["ship"], []) == []


def test_nothing_is_collected_while_many_jobs_are_made(settings: Settings) -> None:
    """The collector would walk over all of them again and again; what makes the payloads is not held up."""
    collects.clear()

    def payloads() -> Iterator[dict[str, int]]:
        collects.append(gc.isenabled())
        yield {"number": 1}

    with process_of(settings):

        @goqueue.actor(queue="orders")
        def watched(order: Watched) -> None: ...

        goqueue.enqueue_many(watched, payloads())
    assert collects[0]
    assert len(collects) > 1
    assert not any(collects[1:])
    assert gc.isenabled()


def test_one_wrong_payload_of_many_makes_no_row(broker: JobBroker, database: Database) -> None:
    """Its place is told, and nothing is created; a setting that is wrong has no place."""
    with pytest.raises(InvalidJobError) as caught:
        goqueue.enqueue_many(broker.actors["ship"], [{"number": 1}, {"number": "many"}, {"number": 3}])
    assert set(caught.value.fields) == {"payloads[1].number"}
    with pytest.raises(InvalidJobError) as caught:
        goqueue.enqueue_many(broker.actors["ship"], [{"number": 1}], priority=1000)
    assert set(caught.value.fields) == {"priority"}
    assert number_of_jobs(database) == 0


def test_many_payloads_join_the_callers_transaction(broker: JobBroker, database: Database) -> None:
    """A rollback leaves none of them."""
    with pytest.raises(RuntimeError, match="no"), database.transaction() as connection:  # noqa: PT012
        ids = goqueue.enqueue_many(broker.actors["ship"], [{"number": 1}] * 3, session=connection)
        assert len(set(ids)) == 3
        raise RuntimeError("no")
    assert number_of_jobs(database) == 0


@pytest.mark.parametrize("own", [{}, {"tags": ["a"]}], ids=["plain", "with tags"])
def test_more_than_a_statement_holds_are_all_or_none(
    broker: JobBroker, database: Database, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any]
) -> None:
    """Several statements are one transaction, and the ids come in the order of the payloads."""
    monkeypatch.setattr(new_job_rows, "STATEMENT_MAX", 3)
    monkeypatch.setattr(create, "STATEMENT_MAX", 3)
    ship = broker.actors["ship"]
    ids = goqueue.enqueue_many(ship, [{"number": n} for n in range(8)], **own)
    assert [read(database, job_id).payload["number"] for job_id in ids] == list(range(8))
    with database.autocommit() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs ADD CHECK ((payload ->> 'number')::int < 107)")
    with pytest.raises(goqueue.errors.DatabaseRefusedError):
        goqueue.enqueue_many(ship, [{"number": n} for n in range(100, 108)], **own)
    assert number_of_jobs(database) == 8
