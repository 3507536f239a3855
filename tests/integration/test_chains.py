"""Dependencies and chains from Python, run by a whole engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import job_rows as job_store
from goqueue.errors import InvalidJobError
from goqueue.instance import default
from goqueue.jobs import Job
from goqueue.scheduler.releaser import Releaser
from goqueue.scheduler.rescuer import Rescuer
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of, running_engine
from tests.support.waiting import wait_until


def declare() -> None:
    """Declare the job types of these tests."""

    @goqueue.actor(max_retries=0, queue="chains")
    def give(value: int) -> int:
        return value

    @goqueue.actor(max_retries=0, queue="chains")
    def add_up() -> dict[str, int]:
        results = goqueue.current_job().parent_results()
        return {"total": sum(results.values()), "parents": len(results)}

    @goqueue.actor(max_retries=0, queue="chains")
    def collapse() -> None:
        raise ValueError("it always does")

    @goqueue.actor(max_retries=3, queue="chains")
    def flaky() -> int:
        if goqueue.current_job().attempt < 3:
            raise ValueError("not yet")
        return goqueue.current_job().attempt


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "chains", declare) as engine:
        yield engine


def actor(engine: Engine, name: str) -> Any:
    """A declared actor."""
    return engine.broker.actors[name]


def assert_in_order(before: Job, after: Job) -> None:
    """The second job started when the first had ended."""
    assert before.finished_at is not None
    assert after.started_at is not None
    assert before.finished_at <= after.started_at


def test_a_job_reads_what_its_parents_returned(engine: Engine) -> None:
    """A fan-in runs once all parents have completed, and gets their results by their ids."""
    parents = [goqueue.enqueue(actor(engine, "give"), {"value": value}) for value in (1, 20, 300)]
    child = goqueue.enqueue(actor(engine, "add_up"), {}, depends_on=parents)
    row = engine.wait_for(child)
    assert row.result == {"total": 321, "parents": 3}
    for parent in parents:
        assert_in_order(engine.job(parent), row)


def test_a_chain_runs_in_its_order(engine: Engine) -> None:
    """Each step of a chain starts after the one before has completed, and reads its result."""
    ids = goqueue.enqueue_chain(
        (actor(engine, "give"), {"value": 7}),
        (actor(engine, "add_up"), {}),
        (actor(engine, "give"), {"value": 8}, {"priority": 5}),
    )
    engine.wait_for(ids[2])
    rows = [engine.job(job_id) for job_id in ids]
    assert rows[1].result == {"total": 7, "parents": 1}
    assert rows[2].priority == 5
    for before, after in itertools.pairwise(rows):
        assert_in_order(before, after)


def test_a_chain_waits_for_retries(engine: Engine) -> None:
    """A parent that fails and is retried has not ended: its child runs after the attempt that completes."""
    first, second = goqueue.enqueue_chain((actor(engine, "flaky"), {}), (actor(engine, "add_up"), {}))
    assert engine.wait_for(second).result == {"total": 3, "parents": 1}
    assert engine.job(first).attempts == 3


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        pytest.param("fail", "failed", id="fail"),
        pytest.param("cancel", "cancelled", id="cancel"),
        pytest.param("run", "completed", id="run"),
    ],
)
def test_a_policy_decides_about_a_failed_parent(engine: Engine, policy: str, becomes: str) -> None:
    """A child of a dead letter fails, is cancelled, or runs and finds no result of it."""
    good = goqueue.enqueue(actor(engine, "give"), {"value": 5})
    bad = goqueue.enqueue(actor(engine, "collapse"), {})
    child = goqueue.enqueue(actor(engine, "add_up"), {}, depends_on=[good, bad], on_parent_failure=policy)
    row = engine.wait_for(child, becomes)
    if policy == "run":
        assert row.result == {"total": 5, "parents": 1}
    else:
        assert (row.reason, row.started_at) == ("parent_failed", None)


@pytest.mark.parametrize("how", ["session", "connection"])
def test_a_child_in_a_transaction_of_its_own(engine: Engine, how: str) -> None:
    """In a caller's transaction a chain and its edges exist when that commits, and not when it does not."""
    url = engine.settings.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    others = create_engine(url)
    parent = goqueue.enqueue(actor(engine, "give"), {"value": 1}, delay_seconds=900)
    steps: list[Any] = [
        (actor(engine, "give"), {"value": 2}, {"depends_on": [parent]}),
        (actor(engine, "add_up"), {}),
    ]
    ids: list[int] = []
    try:
        for commits in (False, True):
            with Session(others) as session:
                target = session if how == "session" else session.connection()
                ids = goqueue.enqueue_chain(*steps, session=target)
                if commits:
                    session.commit()
                else:
                    session.rollback()
                    assert engine.rows("SELECT FROM dependencies WHERE parent_id = %(id)s", id=parent) == []
    finally:
        others.dispose()
    assert [engine.job(job_id).status for job_id in ids] == ["blocked", "blocked"]
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET available_at = now() WHERE id = %s", (parent,))
    assert engine.wait_for(ids[1]).result == {"total": 2, "parents": 1}


WRONG: list[Any] = [
    pytest.param({"depends_on": 7}, "depends_on", id="no list"),
    pytest.param({"depends_on": "7"}, "depends_on", id="text"),
    pytest.param({"depends_on": ["7"]}, "depends_on[0]", id="id is text"),
    pytest.param({"depends_on": [[7]]}, "depends_on[0]", id="id is a list"),
    pytest.param({"depends_on": [True]}, "depends_on[0]", id="id is a boolean"),
    pytest.param({"depends_on": [2**63]}, "depends_on[0]", id="too large"),
    pytest.param({"depends_on": [10**9]}, "depends_on[0]", id="unknown"),
    pytest.param({"depends_on": [1, 1]}, "depends_on[1]", id="twice"),
    pytest.param({"depends_on": range(1, 1002)}, "depends_on", id="too many"),
    pytest.param({"on_parent_failure": "explode"}, "on_parent_failure", id="unknown policy"),
    pytest.param({"on_parent_failure": ["fail"]}, "on_parent_failure", id="policy is a list"),
]


@pytest.mark.parametrize(("settings", "field"), WRONG)
def test_wrong_dependencies_are_refused(engine: Engine, settings: dict[str, Any], field: str) -> None:
    """What cannot be waited for is an InvalidJobError that names it, in a chain with the step."""
    give = actor(engine, "give")
    with pytest.raises(InvalidJobError) as one:
        goqueue.enqueue(give, {"value": 1}, **settings)
    assert list(one.value.fields) == [field]
    step: Any = (give, {"value": 1}, settings)
    with pytest.raises(InvalidJobError) as chain:
        goqueue.enqueue_chain((give, {"value": 1}), step)
    assert list(chain.value.fields) == [f"steps[1].{field}"]


def test_a_chain_of_nothing_is_refused(engine: Engine) -> None:
    """A chain has at least one step, and every payload fits its type."""
    with pytest.raises(InvalidJobError, match="steps: expected at least one"):
        goqueue.enqueue_chain()
    with pytest.raises(InvalidJobError) as error:
        goqueue.enqueue_chain((actor(engine, "give"), {"value": 1}), (actor(engine, "give"), {"value": "x"}))
    assert [name for name in error.value.fields if not name.startswith("steps[1].payload")] == []


def test_a_pipeline_and_dependencies_go_together(engine: Engine) -> None:
    """A job that others wait for and that sends the next of a Dramatiq pipe does both at its end."""
    give, add_up = actor(engine, "give"), actor(engine, "add_up")
    message = give.message(value=1)
    target = add_up.message_with_options(pipe_ignore=True)
    message = message.copy(options={"pipe_target": target.asdict()})
    first = default().broker.enqueue(message, delay=300).options["job_id"]
    child = goqueue.enqueue(add_up, {}, depends_on=[first])
    assert engine.job(child).status == "blocked"
    assert engine.wait_for(child).result == {"total": 1, "parents": 1}
    piped = "SELECT count(*) FROM jobs WHERE type = 'add_up' AND id > %(id)s AND status = 'completed'"
    wait_until(lambda: engine.rows(piped, id=child) == [(1,)], what="the next of the pipe")


def test_a_rescue_that_ends_a_job_releases_its_children(engine: Engine) -> None:
    """A job whose worker died too often is failed by the rescuer, and its children are decided with it."""
    parent = goqueue.enqueue(actor(engine, "give"), {"value": 1}, delay_seconds=900)
    child = goqueue.enqueue(actor(engine, "add_up"), {}, depends_on=[parent], on_parent_failure="run")
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'running', worker_id = 0, fence = 1, attempts = 1, started_at = now(), "
            "quarantined = true, suspicion = 2, deaths = 2 "
            "WHERE id = %s",
            (parent,),
        )
    Rescuer(engine.settings, engine.broker.database, lambda _seconds: None).run_once()
    assert engine.wait_for(child).result == {"total": 0, "parents": 0}
    assert engine.job(parent).status == "failed"


def test_a_dropped_parent_decides_about_its_children(engine: Engine) -> None:
    """A job that admission drops, because its queue is full, has ended for those that wait for it."""
    give = actor(engine, "give")
    goqueue.enqueue(give, {"value": 1}, queue="full", delay_seconds=900)
    goqueue.configure_queue("full", concurrency=1, on_conflict="drop_new")
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, started_at) "
            "VALUES ('full', 'give', '{\"value\":1}', 'running', now())"
        )
    parent = goqueue.enqueue(give, {"value": 1}, queue="full")
    child = goqueue.enqueue(actor(engine, "add_up"), {}, depends_on=[parent], on_parent_failure="cancel")
    assert engine.wait_for(child, "cancelled").reason == "parent_failed"
    assert engine.job(parent).reason == "dropped"


def test_the_releaser_finds_what_nobody_released(engine: Engine) -> None:
    """A job that was ended by a statement of somebody's own blocks its child no longer than one round."""
    parent = goqueue.enqueue(actor(engine, "give"), {"value": 1}, delay_seconds=900)
    child = goqueue.enqueue(actor(engine, "add_up"), {}, depends_on=[parent])
    releaser = Releaser(engine.settings, engine.broker.database, lambda _seconds: None, engine.broker.runway)
    assert releaser.run_once() == {"released": 0}
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'completed', result = '41', finished_at = now() WHERE id = %s",
            (parent,),
        )
    before = counted("jobs_left_blocked_total")
    assert releaser.run_once() == {"released": 1}
    assert counted("jobs_left_blocked_total") == before + 1
    assert engine.wait_for(child).result == {"total": 41, "parents": 1}
    assert releaser.run_once() == {"released": 0}


def test_a_released_job_is_pushed_without_the_dispatcher(settings: Settings, database: Database) -> None:
    """The recorder pushes what it releases: a chain needs no dispatcher."""
    with process_of(settings.model_copy(update=QUICK)) as broker:
        declare()
        with Engine(broker, dispatches=False) as engine:
            ids = goqueue.enqueue_chain(*[(actor(engine, "give"), {"value": n}) for n in range(5)])
            engine.wait_for(ids[-1])
    with database.autocommit() as connection:
        assert {job_store.get(connection, job_id).attempts for job_id in ids} == {1}
