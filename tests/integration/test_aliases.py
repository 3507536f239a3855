"""Renamed types: an alias is a type's former name, by which its jobs are created, run, edited and limited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.new_job import new_job
from goqueue.errors import InvalidJobError
from goqueue.instance import default
from goqueue.jobs import NewJob
from goqueue.limits import type_setting_rows as type_settings
from goqueue.worker.broker import JobBroker
from tests.support.engine import QUICK, Engine, process_of


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing takes long."""
    return QUICK


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process that knows two renamed types."""
    with process_of(settings) as broker:

        @goqueue.actor(aliases=("send_bill", "bill"), max_retries=1, min_backoff_seconds=0.01, jitter=False)
        def send_invoice(order: int) -> str:
            job = goqueue.current_job()
            if job.attempt <= job.max_retries and order < 0:
                raise ValueError(order)
            return f"{job.type} {order}"

        @dramatiq.actor(aliases=["old_plain"])
        def plain(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  (plain Dramatiq code)
            return order

        yield broker


@pytest.fixture
def engine(broker: JobBroker) -> Iterator[Engine]:
    """A running worker that knows them."""
    with Engine(broker) as engine:
        yield engine


@pytest.mark.parametrize(
    ("type_name", "payload", "result"),
    [
        pytest.param("send_invoice", '{"order": 7}', "send_invoice 7", id="the name"),
        pytest.param("send_bill", '{"order": 7}', "send_bill 7", id="an alias"),
        pytest.param("bill", '{"order": -7}', "bill -7", id="an alias, at its retry"),
        pytest.param("old_plain", '{"args": [7]}', 7, id="an alias of a plain actor"),
    ],
)
def test_a_job_runs_by_any_name_of_its_type(
    engine: Engine, type_name: str, payload: str, result: object
) -> None:
    """The handler is the renamed one, and the job keeps the type that it was created with."""
    (job_id,) = default().creator.many([NewJob("default", type_name, payload, max_retries=1)])
    job = engine.wait_for(job_id)
    assert (job.type, job.result) == (type_name, result)


def test_a_job_is_created_and_edited_by_an_alias(broker: JobBroker) -> None:
    """The payload is validated by the renamed type; the name that was said is the type of the job."""
    job = new_job(broker, "send_bill", {"order": 7})
    assert (job.type, job.queue, job.max_retries) == ("send_bill", "default", 1)
    with pytest.raises(InvalidJobError, match=r"payload\.order"):
        new_job(broker, "send_bill", {"order": "x"})
    created = default().creator.one(job)
    with pytest.raises(InvalidJobError, match=r"payload\.order"):
        default().edit(created.id, payload={"order": "x"})
    assert default().edit(created.id, payload={"order": 8}).payload == {"order": 8}


def test_a_message_of_an_undeclared_actor_is_refused_by_name(broker: JobBroker) -> None:
    """A plain Dramatiq message whose actor is not declared is an error that says which, and no job."""
    message: dramatiq.Message[Any] = dramatiq.Message("default", "nobody", (), {}, {})
    with pytest.raises(InvalidJobError, match="nobody"):
        broker.enqueue(message)


def test_the_old_name_has_its_own_limits(broker: JobBroker) -> None:
    """Limits hold for the stored type of jobs: those of an alias are set by its own name."""
    assert goqueue.configure_type("send_bill", concurrency=2).name == "send_bill"
    with broker.database.autocommit() as connection:
        assert [limited.name for limited in type_settings.all_limited(connection)] == ["send_bill"]


def test_every_name_is_told_with_a_hash_of_its_own(broker: JobBroker) -> None:
    """What a worker registers has all names of a type; no two of them share a hash."""
    names = {"send_invoice", "send_bill", "bill", "plain", "old_plain"}
    assert broker.type_names() == set(broker.known_types.types) == names
    assert len(set(broker.known_types.schemas)) == len(names)


@pytest.mark.parametrize("aliases", [("again",), ("send_bill",), ("send_invoice",), ("",), (7,), "old"])
@pytest.mark.usefixtures("broker")
def test_an_alias_that_is_not_free_is_refused(aliases: Any) -> None:
    """A name leads to one handler: a declaration that would make it ambiguous raises, and so does no name."""
    with pytest.raises(ValueError, match=r"aliases.*: (.* is not a free name|expected a list of names)"):

        @goqueue.actor(aliases=aliases)
        def again() -> None:
            """Never declared."""


@pytest.mark.usefixtures("broker")
def test_a_type_that_has_the_name_of_an_alias_is_refused() -> None:
    """A type cannot be declared under a name that leads to another one."""
    with pytest.raises(ValueError, match="alias of the type 'send_invoice'"):

        @goqueue.actor
        def send_bill() -> None:
            """Never declared."""
