"""Failed jobs in groups: on a real engine, and by the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db import statements as rows
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import job_rows as job_store
from goqueue.engine.fingerprints import kind_of
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.transitions.rescue import rescue
from goqueue.engine.transitions.retry import retry
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.insight import failure_rows as failure_store
from goqueue.insight.failure_rows import FailureFilter, FailureGroup
from goqueue.jobs import JobStatus
from goqueue.worker.recording.outcomes import KnownFailureKinds
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database


def look_up(name: str) -> None:
    """One place that raises."""
    raise LookupError(f"no customer {name}")


def look_elsewhere(name: str) -> None:
    """Another place that raises the same."""
    raise LookupError(f"no customer {name}")


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=0)
    def charge(customer: str, where: str = "here") -> None:
        (look_up if where == "here" else look_elsewhere)(customer)

    @goqueue.actor(max_retries=0)
    def refund(customer: str) -> None:
        look_up(customer)

    @goqueue.actor(max_retries=0, time_limit_seconds=0.1)
    def spin(times: int) -> None:
        for _ in range(times):
            end = time.monotonic() + 5
            while time.monotonic() < end:
                pass

    @goqueue.actor(max_retries=0)
    async def wait(seconds: int) -> None:
        await asyncio.sleep(0)
        look_up(f"{seconds}")

    @goqueue.actor(max_retries=0)
    def give_up(reason: str) -> None:
        raise goqueue.Discard(f"gave up: {reason}")

    @goqueue.actor(max_retries=0)
    def odd() -> None:
        raise Odd

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
    def recover() -> None:
        if goqueue.current_job().attempt == 1:
            look_up("1")


class Odd(Exception):  # noqa: N818  (an exception of a user)
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine with the actors of these tests, for all of them."""
    with running_engine(postgres, valkey, "failures_engine", declare) as engine:
        yield engine


def failed(engine: Engine, actor: str, *payloads: dict[str, Any]) -> list[FailureGroup]:
    """Run jobs that fail, and return the groups of their type."""
    declared: Any = engine.broker.get_actor(actor)
    for payload in payloads:
        engine.wait_for(goqueue.enqueue(declared, payload), JobStatus.FAILED)
    wait_until(lambda: all(group.exception for group in groups_of(engine, actor)), what="the kinds")
    return groups_of(engine, actor)


def groups_of(engine: Engine, job_type: str) -> list[FailureGroup]:
    """The groups of a type."""
    with engine.broker.database.autocommit() as connection:
        return failure_store.groups(connection, FailureFilter(type=job_type), limit=100)


def test_numbers_in_the_message_make_one_group(engine: Engine) -> None:
    """Two exceptions whose messages differ in a number are one group, and another function is another."""
    groups = failed(
        engine,
        "charge",
        {"customer": "17"},
        {"customer": "4711"},
        {"customer": "17", "where": "elsewhere"},
    )
    assert [(group.count, group.frame) for group in groups] == [
        (1, f"{__name__}.look_elsewhere"),
        (2, f"{__name__}.look_up"),
    ]
    first = groups[1]
    assert (first.type, first.exception, first.message) == ("charge", "LookupError", "no customer <n>")
    assert first.sample_error == "LookupError: no customer 4711"
    assert first.sample_traceback is not None
    assert first.sample_traceback.endswith("LookupError: no customer 4711\n")
    assert first.first_seen <= first.last_seen
    assert engine.job(first.sample_job_id).fingerprint == first.fingerprint


def test_another_type_is_another_group(engine: Engine) -> None:
    """The same error of another job type is another problem."""
    (group,) = failed(engine, "refund", {"customer": "17"})
    assert group.fingerprint not in {other.fingerprint for other in groups_of(engine, "charge")}


def test_a_time_limit_is_one_group(engine: Engine) -> None:
    """Wherever it strikes, a time limit is the handler's."""
    (group,) = failed(engine, "spin", {"times": 1}, {"times": 2})
    assert group.exception == "goqueue.worker.interrupts.TimeLimitExceeded"
    assert group.frame == f"{__name__}.declare.<locals>.spin"
    assert group.count == 2


def test_an_async_handler_has_its_own_function(engine: Engine) -> None:
    """What stands between a worker and a coroutine is not the user's code."""
    (group,) = failed(engine, "wait", {"seconds": 3})
    assert group.frame == f"{__name__}.look_up"


def test_a_discarded_job_is_in_a_group(engine: Engine) -> None:
    """A handler's own verdict is a kind of failure, by its reason."""
    (group,) = failed(engine, "give_up", {"reason": "order 1"}, {"reason": "order 2"})
    assert (group.exception, group.message) == ("goqueue.errors.Discard", "gave up: order <n>")
    assert (group.count, group.sample_reason) == (2, "discarded")


def test_an_exception_without_a_text_is_in_a_group(engine: Engine) -> None:
    """An exception whose text cannot be had fails its job all the same."""
    (group,) = failed(engine, "odd", {})
    assert (group.exception, group.message) == (f"{__name__}.Odd", "its text cannot be had")


def test_a_job_that_recovers_is_in_no_group(engine: Engine) -> None:
    """An attempt that failed and was retried with success leaves no group, and the job no fingerprint."""
    declared: Any = engine.broker.get_actor("recover")
    job = engine.wait_for(goqueue.enqueue(declared, {}))
    assert job.fingerprint is None
    assert groups_of(engine, "recover") == []


def test_completed_jobs_have_no_kind(engine: Engine) -> None:
    """A success computes and writes nothing about failures."""
    assert {name for (name,) in engine.rows("SELECT fingerprint FROM jobs WHERE status = 'completed'")} <= {
        None
    }


def group_documents(database: Database, **wanted: Any) -> list[FailureGroup]:
    """The groups of a database."""
    with database.autocommit() as connection:
        return failure_store.groups(connection, FailureFilter(**wanted), limit=100)


@pytest.fixture
def kind(database: Database) -> str:
    """The fingerprint of a kind that was written."""
    kind = kind_of("noop", "ValueError", "no customer 4", "app.run")
    with database.autocommit() as connection:
        failure_store.insert_kinds(connection, [kind, kind])
    return kind.fingerprint


def test_a_job_that_killed_its_workers_is_in_a_group(database: Database, make_job: JobFactory) -> None:
    """What the rescuer fails has no exception: its group is its type and reason, whatever it had before."""
    for job_type in ("noop", "noop", "other"):
        worker = make_job.worker()
        dies_again = {"quarantined": True, "suspicion": 2, "deaths": 2}
        make_job("running", type=job_type, **dies_again, worker_id=worker, fingerprint="0" * 16)
        with database.autocommit() as connection:
            worker_store.stop(connection, worker)
    with database.autocommit() as connection:
        rescue(connection, max_deaths=3)
    groups = {group.type: group for group in group_documents(database)}
    assert {(name, group.count) for name, group in groups.items()} == {("noop", 2), ("other", 1)}
    assert groups["noop"].exception is None
    assert (groups["noop"].message, groups["noop"].sample_reason) == ("worker_died", "worker_died")
    assert len(groups["noop"].fingerprint) == 16
    with database.autocommit() as connection:
        job = job_store.get(connection, groups["noop"].sample_job_id)
        found, _ = job_lists.page(connection, JobFilter(fingerprint=job.fingerprint), limit=10)
    assert job.fingerprint == groups["noop"].fingerprint
    assert len(found) == 2


@pytest.mark.parametrize("reason", ["parent_failed", "deadline", "skipped", None])
def test_every_failed_job_is_in_a_group(database: Database, make_job: JobFactory, reason: str | None) -> None:
    """Whoever failed a job, with a reason or without, it is counted."""
    make_job("failed", reason=reason, error="it went wrong")
    (group,) = group_documents(database)
    assert (group.count, group.message) == (1, reason or "it went wrong")


def test_groups_are_filtered_and_ordered(database: Database, make_job: JobFactory, kind: str) -> None:
    """Queue, type, time and fingerprint choose; the latest or the largest comes first."""
    now = datetime.now(UTC)
    for hours in (3, 2):
        make_job("failed", queue="a", fingerprint=kind, finished_at=now - timedelta(hours=hours))
    make_job("failed", queue="b", fingerprint="f" * 16, type="other", finished_at=now)
    make_job("completed", fingerprint=None)
    assert [group.count for group in group_documents(database)] == [1, 2]
    with database.autocommit() as connection:
        ordered = failure_store.groups(connection, FailureFilter(), order="count", limit=1)
    assert [group.count for group in ordered] == [2]
    assert [g.fingerprint for g in group_documents(database, queue="a")] == [kind]
    assert [g.type for g in group_documents(database, type="other")] == ["other"]
    (late,) = group_documents(database, queue="a", since=now - timedelta(hours=2, minutes=1))
    assert (late.count, late.first_seen) == (1, now - timedelta(hours=2))
    assert [g.fingerprint for g in group_documents(database, fingerprint=kind)] == [kind]


def test_a_retried_job_leaves_its_group(database: Database, make_job: JobFactory, kind: str) -> None:
    """A group is of the jobs that are failed now; the last one takes it along."""
    job = make_job("failed", fingerprint=kind)
    with database.autocommit() as connection:
        retry(connection, [job.id])
        assert job_store.get(connection, job.id).fingerprint is None
    assert group_documents(database) == []


def test_a_kind_that_was_not_written_is_known_by_its_newest_job(
    database: Database, make_job: JobFactory
) -> None:
    """A group whose kind is missing shows the error of its sample."""
    make_job("failed", fingerprint="a" * 16, error="ValueError: 1", reason="failed")
    (group,) = group_documents(database)
    assert (group.exception, group.message) == (None, "ValueError: 1")


def test_each_kind_is_written_once_by_a_process(database: Database) -> None:
    """What this process has written it does not write again; another process may, and nothing changes."""
    kind = kind_of("noop", "ValueError", "1", None)
    first, second = KnownFailureKinds(database), KnownFailureKinds(database)
    first.write([kind])
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM failure_kinds")
    first.write([kind])
    assert kinds_in(database) == 0
    second.write([kind, kind])
    first.write([kind_of("noop", "ValueError", "x", None)])
    assert kinds_in(database) == 2


def test_an_outage_costs_only_the_kind(settings: Settings) -> None:
    """Without PostgreSQL nothing is raised; the kind is written with its next failure."""
    away = Database(settings.model_copy(update={"database_url": unreachable(settings)}))
    known = KnownFailureKinds(away)
    known.write([kind_of("noop", "ValueError", "1", None)])
    assert known._written == {}  # noqa: SLF001  (what is remembered is told nowhere)


def unreachable(settings: Settings) -> Any:
    """The URL of a port that nobody listens to."""
    text = settings.database_url.get_secret_value()
    return type(settings.database_url)(text.rpartition("@")[0] + "@127.0.0.1:1/none")


def test_kinds_are_forgotten_after_their_dead_letters(
    database: Database, make_job: JobFactory, kind: str
) -> None:
    """The cleaner deletes old kinds that no failed job has."""
    job = make_job("failed", fingerprint=kind)
    with database.autocommit() as connection:
        assert cleaning.delete_failure_kinds(connection, age_seconds=0, limit=10) == 0
        retry(connection, [job.id])
        assert cleaning.delete_failure_kinds(connection, age_seconds=60, limit=10) == 0
        assert cleaning.delete_failure_kinds(connection, age_seconds=0, limit=10) == 1


def kinds_in(database: Database) -> int:
    """Rows of `failure_kinds`."""
    with database.autocommit() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM failure_kinds").scalar_one())


def test_counting_reads_the_index_of_failed_jobs(database: Database) -> None:
    """Neither the list nor one group reads the table: with many jobs both are walks along one index."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, finished_at, fingerprint) "
            "SELECT 'default', 'noop', CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'completed' END, '{}', "
            "now(), CASE WHEN n %% 10 = 0 THEN lpad(to_hex(n %% 7), 16, '0') END "
            "FROM generate_series(1, 20000) AS n"
        )
    with database.connection() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
        for wanted in (FailureFilter(), FailureFilter(fingerprint="0" * 16)):
            plan = plan_of(connection, wanted)
            assert "Index Only Scan using jobs_failure_idx" in plan, plan
            assert "Seq Scan on jobs" not in plan, plan


def plan_of(connection: Any, wanted: FailureFilter) -> str:
    """How PostgreSQL finds the groups."""
    plans: list[str] = []
    original = rows.fetch_all

    def explain(connection: Any, sql: str, parameters: Any) -> Any:
        plans.append("\n".join(row[0] for row in original(connection, f"EXPLAIN {sql}", parameters)))
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failure_store, "fetch_all", explain)
        failure_store.groups(connection, wanted, limit=10)
    return plans[0]
