# ruff: noqa: PLW0108, ARG001  (a table of calls, all alike; a broker that is only declared on)
"""What `goqueue` exports, called with what it cannot take: one clear error, and nothing is created."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import (
    BulkOperationNotFoundError,
    ConfigurationError,
    FailureNotFoundError,
    InvalidJobError,
    JobNotFoundError,
    QueueNotFoundError,
    TypeNotFoundError,
    WorkerNotFoundError,
)
from goqueue.worker.broker import JobBroker
from tests.support.engine import process_of


class _Unknown:
    """Something that GoQueue has never heard of; its text is the same in every process."""

    def __repr__(self) -> str:
        return "something unknown"


NOTHING_KNOWN = _Unknown()


#: Without its types: what is wrong here is what a type checker would find.
api: Any = goqueue

CLEAR = (
    InvalidJobError,
    TypeError,
    ValueError,
    ConfigurationError,
    JobNotFoundError,
    QueueNotFoundError,
    TypeNotFoundError,
    WorkerNotFoundError,
    BulkOperationNotFoundError,
    FailureNotFoundError,
)

#: What no argument of these functions may be, whatever it is called.
NONSENSE: list[Any] = [
    "x",
    "",
    None,
    1.5,
    float("nan"),
    True,
    -1,
    2**63,
    10**30,
    [],
    {},
    NOTHING_KNOWN,
    "a\0b",
    "\ud800",
]


class Order(BaseModel):
    """A payload."""

    number: int


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process with one declared type."""
    with process_of(settings) as broker:

        @goqueue.actor(queue="orders")
        def ship(order: Order) -> int:
            return order.number

        yield broker


def number_of_jobs(database: Database) -> int:
    """How many rows there are."""
    with database.autocommit() as connection:
        number: Any = connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
    return int(number)


def refused(call: Callable[[], Any], database: Database) -> str:
    """The text of the one error; nothing was created."""
    with pytest.raises(CLEAR) as caught:
        call()
    assert not isinstance(caught.value, UnicodeError)
    assert str(caught.value)
    assert number_of_jobs(database) == 0
    return str(caught.value)


SETTINGS: list[dict[str, Any]] = [
    {"delay": 5},
    {"delay": None},
    {"nonsense": 1},
    {"queue": ""},
    {"queue": "q" * 5000},
    {"queue": "a\nb"},
    {"queue": "\ud800"},
    {"queue": "a\0b"},
    {"queue": "quarantine"},
    {"queue": 5},
    {"priority": 101},
    {"priority": "1"},
    {"max_retries": -1},
    {"max_retries": 1.0},
    {"delay_seconds": -1},
    {"delay_seconds": float("nan")},
    {"delay_seconds": "5"},
    {"available_at": "tomorrow"},
    {"available_at": datetime(2026, 1, 1)},  # noqa: DTZ001  (that is what is wrong)
    {"time_limit_seconds": 0},
    {"concurrency_key": ""},
    {"concurrency_key": "\ud800"},
    {"unique": "k"},
    {"unique": api.Unique()},
    {"depends_on": 5},
    {"depends_on": ["x"]},
    {"on_parent_failure": "x"},
    {"tags": "x"},
    {"tags": ["\0"]},
    {"tags": ["\ud800"]},
    {"retry": 5},
    {"retry": api.RetryPolicy(max_retries=21)},
    {"retry": api.RetryPolicy(max_retries="3")},
    {"retry": api.RetryPolicy(min_backoff_seconds=-1)},
    {"retry": api.RetryPolicy(min_backoff_seconds=float("inf"))},
    {"retry": api.RetryPolicy(max_backoff_seconds="1")},
    {"retry": api.RetryPolicy(jitter=None)},
    {"session": "x"},
    {"session": 5},
    {"session": NOTHING_KNOWN},
]


@pytest.mark.parametrize("settings_", SETTINGS, ids=lambda said: repr(said)[:60])
def test_a_wrong_setting_is_refused_by_name(
    broker: JobBroker, database: Database, settings_: dict[str, Any]
) -> None:
    """`enqueue`, `enqueue_chain` and `cron` say which setting is wrong."""
    ship = broker.actors["ship"]
    (name,) = settings_
    assert name in refused(lambda: api.enqueue(ship, {"number": 1}, **settings_), database)
    assert name in refused(lambda: api.enqueue_many(ship, [{"number": 1}], **settings_), database)
    if name not in {"retry", "session"}:
        chain = (ship, {"number": 1}, settings_)
        assert name in refused(lambda: api.enqueue_chain(chain), database)
        assert name in refused(lambda: api.cron("@daily", job=settings_)(ship), database)


@pytest.mark.parametrize("actor", [None, 5, len, NOTHING_KNOWN], ids=repr)
def test_what_is_no_actor_is_refused(broker: JobBroker, database: Database, actor: Any) -> None:
    """The error says what should be passed."""
    assert "actor" in refused(lambda: api.enqueue(actor, {"number": 1}), database)
    assert "actor" in refused(lambda: api.enqueue_many(actor, [{"number": 1}]), database)
    assert "actor" in refused(lambda: api.enqueue_chain((actor, {"number": 1})), database)
    assert "actor" in refused(lambda: api.cron("@daily")(actor), database)


@pytest.mark.parametrize("name", ["unknown", "", "a\0b", "\ud800"], ids=repr)
def test_a_name_of_no_type_is_refused(broker: JobBroker, database: Database, name: str) -> None:
    """A job type may be named by a text, if there is one of this name."""
    assert "type" in refused(lambda: api.enqueue(name, {"number": 1}), database)
    assert "type" in refused(lambda: api.enqueue_many(name, [{"number": 1}]), database)
    assert "type" in refused(lambda: api.enqueue_chain((name, {"number": 1})), database)


@pytest.mark.parametrize("steps", [(), (5,), ((),), (("a",),), ("abc",), (("a", 1, 2, 3),)], ids=repr)
def test_what_is_no_chain_is_refused(broker: JobBroker, database: Database, steps: Any) -> None:
    """A step is an actor and its payload, and perhaps settings."""
    refused(lambda: api.enqueue_chain(*steps), database)


@pytest.mark.parametrize("payloads", [None, 5, "abc", b"abc", {"number": 1}, len, NOTHING_KNOWN], ids=repr)
def test_what_are_no_payloads_is_refused(broker: JobBroker, database: Database, payloads: Any) -> None:
    """One payload is not many, however it can be iterated over."""
    assert "payloads" in refused(lambda: api.enqueue_many(broker.actors["ship"], payloads), database)


def test_what_cannot_be_joined_is_refused(broker: JobBroker, settings: Settings, database: Database) -> None:
    """The error says which kinds of sessions a job can be inserted with."""
    ship = broker.actors["ship"]
    url = settings.database_url.get_secret_value()
    asynchronous = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with psycopg.connect(url) as driver, Session(create_engine("sqlite://")) as other:
        for session in (
            driver,
            driver.cursor(),
            AsyncSession(asynchronous),
            asynchronous,
            other,
            other.connection(),
        ):
            said = refused(partial(api.enqueue, ship, {"number": 1}, session=session), database)
            assert "postgresql+psycopg" in said or "psycopg 3" in said
            refused(
                partial(api.enqueue_chain, (ship, {"number": 1}), session=session),
                database,
            )


def test_a_scoped_session_is_joined(broker: JobBroker, settings: Settings, database: Database) -> None:
    """What stands for a session is one."""
    engine = create_engine(
        settings.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    )
    session = scoped_session(sessionmaker(engine))
    api.enqueue(broker.actors["ship"], {"number": 1}, session=session)
    assert number_of_jobs(database) == 0
    session.commit()
    session.remove()
    engine.dispose()
    assert number_of_jobs(database) == 1


#: Functions of an id, of a name, and of what they are.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "cancel_job": lambda value: api.cancel_job(value),
    "job_progress": lambda value: api.job_progress(value),
    "job_log": lambda value: api.job_log(value),
    "job_versions": lambda value: api.job_versions(value),
    "edit_job": lambda value: api.edit_job(value, priority=1),
    "retry_job": lambda value: api.retry_job(value),
    "explain": lambda value: api.explain(value),
    "bulk_operation": lambda value: api.bulk_operation(value),
    "abort_bulk_operation": lambda value: api.abort_bulk_operation(value),
    "quiet_worker": lambda value: api.quiet_worker(value),
    "resume_worker": lambda value: api.resume_worker(value),
    "stop_worker": lambda value: api.stop_worker(value),
    "retry_failures": lambda value: api.retry_failures(value),
    "start_bulk_operation": lambda value: api.start_bulk_operation(value, queue="orders"),
    "preview_bulk_operation": lambda value: api.preview_bulk_operation(value, queue="orders"),
    "start_bulk_operation queue": lambda value: api.start_bulk_operation("retry", queue=[value]),
    "start_bulk_operation rate": lambda value: api.start_bulk_operation(
        "retry", queue="orders", rate=str(value)
    ),
    "start_bulk_operation ids": lambda value: api.start_bulk_operation("retry", ids=value),
    "start_bulk_operation nonsense": lambda value: api.start_bulk_operation("retry", nonsense=value),
    "configure_queue": lambda value: api.configure_queue(value, concurrency=1),
    "configure_queue concurrency": lambda value: api.configure_queue("orders", concurrency=str(value)),
    "configure_queue nonsense": lambda value: api.configure_queue("orders", nonsense=value),
    "configure_key": lambda value: api.configure_key(value, "k", weight=1),
    "configure_key key": lambda value: api.configure_key("orders", value if value != "x" else "", weight=1),
    "configure_type": lambda value: api.configure_type(value, concurrency=1),
    "pause_queue": lambda value: api.pause_queue(value),
    "pause_queue until": lambda value: api.pause_queue("orders", until=str(value)),
    "resume_queue": lambda value: api.resume_queue(value),
    "autoscale": lambda value: api.autoscale(value),
    "autoscale window": lambda value: api.autoscale("orders", window_seconds=str(value)),
    "job_log after": lambda value: api.job_log(1, after=str(value)),
    "edit_job payload": lambda value: api.edit_job(1, payload=value),
    "edit_job author": lambda value: api.edit_job(1, priority=1, author=[value]),
    "cron": lambda value: api.cron(value)(_ship()),
    "cron name": lambda value: api.cron("@daily", name=[value])(_ship()),
    "cron nonsense": lambda value: api.cron("@daily", nonsense=value)(_ship()),
    "enqueue payload": lambda value: api.enqueue(_ship(), value),
    "actor": lambda value: api.actor(value) if value is not None else api.actor(5),
    "actor queue": lambda value: api.actor(queue=[value])(lambda: None),
    "actor max_retries": lambda value: api.actor(max_retries=str(value))(lambda: None),
    "actor nonsense": lambda value: api.actor(nonsense=value)(lambda: None),
    "wait": lambda value: api.wait(value, timeout_seconds=0),
    "wait timeout": lambda value: api.wait(1, timeout_seconds=str(value)),
    "listen": lambda value: api.listen(value),
    "listen queue": lambda value: api.listen(queue=[value]),
    "declare_type": lambda value: api.declare_type(value if value != "x" else "", schema={}, queue="orders"),
    "declare_type schema": lambda value: api.declare_type("t", schema=[value], queue="orders"),
    "declare_type nonsense": lambda value: api.declare_type("t", nonsense=value),
    "remove_type": lambda value: api.remove_type(value),
    "rotate_type_secret": lambda value: api.rotate_type_secret(value),
    "Unique": lambda value: api.enqueue(_ship(), {"number": 1}, unique=api.Unique(fields=[value])),
    "Snooze": lambda value: api.Snooze(str(value)),
    "RetryAfter": lambda value: api.RetryAfter(str(value)),
    "BatchFailed": lambda value: api.BatchFailed([value]),
}


def _ship() -> Any:
    from goqueue.instance import default  # noqa: PLC0415

    return default().broker.actors["ship"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nonsense_is_a_clear_error(broker: JobBroker, database: Database, name: str) -> None:
    """No function takes nonsense for something else, and none raises what only its inside explains."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('orders') ON CONFLICT DO NOTHING")
    for value in NONSENSE:
        refused(partial(FUNCTIONS[name], value), database)


def test_every_export_is_tried_here() -> None:
    """A function that is added is tried as well."""
    tried = {name.split()[0] for name in FUNCTIONS}
    others = {"enqueue", "enqueue_chain", "enqueue_many", "current_job", "current_batch", "CurrentBatch"}
    others |= {"RetryPolicy", "Discard", "GoQueue"}
    # Decorators and what stands in signatures are refused where they are declared.
    others |= {"Batch", "Depends", "lifespan", "override_dependency"}
    assert set(goqueue.__all__) == tried | others


def declared(**options: Any) -> Any:
    """An actor with these options."""
    return api.actor(**options)(lambda: None)


def test_a_declared_name_is_one_that_rest_takes(broker: JobBroker, database: Database) -> None:
    """A queue and a type that are declared can be named over REST."""
    for wrong in ("", "a\nb", "\ud800", "q" * 201, "quarantine"):
        refused(partial(declared, queue=wrong), database)
        if wrong != "quarantine":
            refused(partial(declared, name=wrong), database)
