"""Unique keys in the store: whatever happens at once, at most one live job has a key."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import dramatiq
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.create import JobCreator
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions import retry as retry_store
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import JobStatus, NewJob, UniqueMode, UniqueRule
from goqueue.scheduler.cleaner import Cleaner
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import set_status
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

LIVE = (JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.RUNNING)


@pytest.fixture
def submitter(settings: Settings, crowd: Database) -> Iterator[JobCreator]:
    """Creates jobs."""
    runway = Runway(settings)
    yield JobCreator(settings, crowd, runway)
    runway.close()


def unique_job(key: str = "k", **rule: Any) -> NewJob:
    """A no-op job with a unique key."""
    return NewJob("q", "noop", "{}", unique=UniqueRule(**({"key": key, "states": LIVE} | rule)))


def live_jobs(database: Database) -> list[tuple[str, int]]:
    """Each key and how many live jobs have it."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "SELECT unique_key, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY 1 ORDER BY 1"
        )
        return [(key, count) for key, count in rows]


def retry(database: Database, *job_ids: int) -> set[int]:
    """Replay jobs; those that were."""
    with database.autocommit() as connection:
        return {row[0] for row in retry_store.retry(connection, job_ids)}


def after(start: threading.Barrier, action: Callable[..., Any], *args: Any) -> Any:
    """Do something when everybody is there."""
    start.wait()
    return action(*args)


def held_lock(database: Database, key: str) -> Any:
    """A transaction of another session that has the key's row locked."""
    connection = database.checkout()
    connection.execution_options(isolation_level="READ COMMITTED")
    connection.begin()
    unique_keys.lock(connection, [key])
    return connection


def waiting_sessions(database: Database) -> int:
    """How many sessions of this database wait for a lock."""
    with database.autocommit() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).scalar_one()
        )


def test_fifty_threads_take_turns_and_never_two_hold_a_key(crowd: Database, submitter: JobCreator) -> None:
    """Fifty threads create, finish and replay jobs of three keys: at no moment a key has two live jobs."""
    stop = threading.Event()

    def watch() -> list[tuple[str, int]]:
        seen = []
        while not stop.is_set():
            seen += [pair for pair in live_jobs(crowd) if pair[1] > 1]
        return seen

    def churn(number: int) -> int:
        chance = random.Random(number)
        created = 0
        for _ in range(6):
            made = submitter.create(unique_job(chance.choice("abc")))
            created += not made.deduplicated
            if chance.random() < 0.5:
                set_status(crowd, made.job.id, chance.choice([JobStatus.FAILED, JobStatus.COMPLETED]))
            if chance.random() < 0.5:
                retry(crowd, made.job.id)
        return created

    with ThreadPoolExecutor(51) as threads:
        watcher = threads.submit(watch)
        try:
            created = sum(threads.map(churn, range(50)))
        finally:
            stop.set()
    assert watcher.result() == []
    assert all(count == 1 for _, count in live_jobs(crowd))
    assert 3 < created < 300


def test_who_waited_for_the_holder_sees_it(database: Database, submitter: JobCreator) -> None:
    """A create that waits while another transaction takes a free key over finds that one's new job.

    Its own statement began before that job was committed: asking in the same statement would not see it.
    """
    old = submitter.one(unique_job())
    set_status(database, old.id, JobStatus.COMPLETED)
    holder = held_lock(database, "k")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(submitter.create, unique_job())
        wait_until(lambda: waiting_sessions(database) == 1)
        (taker,) = holder.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload) VALUES ('q', 'noop', '{}') RETURNING id"
        ).fetchone()
        unique_keys.bind(holder, {taker: UniqueRule("k", LIVE)})
        holder.commit()
        holder.close()
        created = waiting.result(timeout=10)
    assert (created.job.id, created.deduplicated) == (taker, True)


def test_a_replay_and_a_create_do_not_pass_each_other(database: Database, submitter: JobCreator) -> None:
    """Of a failed job that is replayed and a new one of its key, at once, exactly one is live; many times."""
    for turn in range(25):
        key = f"k{turn}"
        failed = submitter.one(unique_job(key))
        set_status(database, failed.id, JobStatus.FAILED)
        start = threading.Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            replayed = threads.submit(after, start, retry, database, failed.id)
            made = threads.submit(after, start, submitter.create, unique_job(key))
        assert made.result().deduplicated == bool(replayed.result())
    assert {count for _, count in live_jobs(database)} == {1}


def test_a_job_that_fails_while_it_is_replayed_loses_its_key(
    database: Database, submitter: JobCreator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay asks for the key of a job that has not failed yet, too: it may fail and lose it just then."""
    job = submitter.one(unique_job())
    original = unique_keys.keyed

    def fails_meanwhile(connection: Any, job_ids: Iterable[int]) -> dict[int, str]:
        found = original(connection, job_ids)
        set_status(database, job.id, JobStatus.FAILED)
        assert not submitter.create(unique_job()).deduplicated
        return found

    monkeypatch.setattr(unique_keys, "keyed", fails_meanwhile)
    assert retry(database, job.id) == set()
    assert live_jobs(database) == [("k", 1)]


def test_of_two_failed_jobs_of_a_key_one_is_replayed(database: Database, submitter: JobCreator) -> None:
    """A bulk replay of alike jobs runs the first one again and leaves the others as they are."""
    ids = []
    for _ in range(3):
        ids.append(submitter.one(unique_job()).id)
        set_status(database, ids[-1], JobStatus.FAILED)
    plain = submitter.one(NewJob("q", "noop", "{}")).id
    set_status(database, plain, JobStatus.FAILED)
    assert retry(database, *ids, plain) == {ids[0], plain}
    assert submitter.create(unique_job()).job.id == ids[0]


def test_a_replayed_job_keeps_the_states_of_its_key(database: Database, submitter: JobCreator) -> None:
    """A holder that ran again has its key in the states that it was created with."""
    job = submitter.one(unique_job(states=(JobStatus.QUEUED,)))
    set_status(database, job.id, JobStatus.FAILED)
    assert retry(database, job.id) == {job.id}
    assert submitter.create(unique_job()).deduplicated
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'running', rank = NULL")
    assert not submitter.create(unique_job()).deduplicated


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["create", "batch", "finish", "fail", "retry", "clean"]),
            st.integers(0, 5),
            st.sampled_from("ab"),
        ),
        min_size=1,
        max_size=25,
    )
)
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_leaves_one_live_job_a_key(
    settings: Settings, database: Database, submitter: JobCreator, steps: list[tuple[str, int, str]]
) -> None:
    """Whatever happens in any order: a create is suppressed exactly while a live job has the key."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("TRUNCATE jobs, unique_keys")
    cleaner = Cleaner(
        settings.model_copy(update={"completed_retention_seconds": 0.001}), database, lambda _: None
    )
    history: list[tuple[int, str]] = []
    live: dict[str, int] = {}
    for action, number, key in steps:
        chosen, its_key = history[number % len(history)] if history else (0, "a")
        if action == "create":
            made = submitter.create(unique_job(key))
            assert made.deduplicated == (key in live)
            assert made.job.id == live.setdefault(key, made.job.id)
            history.append((made.job.id, key))
        elif action == "batch":
            jobs = [unique_job(key), unique_job("b"), unique_job("a")]
            created = submitter.create_many([NewNode(job) for job in jobs])
            for row, taken in zip(created, (key, "b", "a"), strict=True):
                assert row.deduplicated == (taken in live)
                assert row.id == live.setdefault(taken, row.id)
                history.append((row.id, taken))
        elif action in {"finish", "fail"} and live.get(its_key) == chosen:
            assert set_status(
                database, chosen, JobStatus.COMPLETED if action == "finish" else JobStatus.FAILED
            )
            del live[its_key]
        elif action == "retry" and history and live.get(its_key) != chosen:
            if retry(database, chosen):
                assert its_key not in live
                live[its_key] = chosen
        elif action == "clean":
            cleaner.run_once()
    assert live_jobs(database) == [(key, 1) for key in sorted(live)]


def test_batches_in_opposite_orders_do_not_deadlock(database: Database, submitter: JobCreator) -> None:
    """Batches take their keys in one order, whatever order their jobs have."""
    keys = [f"k{number}" for number in range(40)]

    def batch(reverse: int) -> list[int]:
        order = sorted(keys, reverse=bool(reverse % 2))
        ids = submitter.many([unique_job(key) for key in order])
        return [job_id for _, job_id in sorted(zip(order, ids, strict=True))]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(batch, range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert live_jobs(database) == [(key, 1) for key in sorted(keys)]


@pytest.mark.parametrize("at", ["key", "job"])
def test_a_create_that_is_killed_leaves_neither_key_nor_job(
    database: Database, submitter: JobCreator, at: str
) -> None:
    """Whoever dies between taking the key and the commit leaves the key free."""
    holder = held_lock(database, "k")
    if at == "job":
        (job_id,) = holder.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload) VALUES ('q', 'noop', '{}') RETURNING id"
        ).fetchone()
        unique_keys.bind(holder, {job_id: UniqueRule("k", LIVE)})
    pid = holder.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(submitter.create, unique_job())
        wait_until(lambda: waiting_sessions(database) == 1)
        with database.autocommit() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
        created = waiting.result(timeout=10)
    holder.invalidate()
    holder.close()
    assert not created.deduplicated
    assert live_jobs(database) == [("k", 1)]


def test_creators_that_are_killed_at_random_leave_at_most_one_job_a_key(
    settings: Settings, database: Database, submitter: JobCreator
) -> None:
    """Twenty sessions killed while eight threads create: every create that was answered tells the truth."""
    stop = threading.Event()

    def create_until_stopped(number: int) -> list[int]:
        answered = []
        chance = random.Random(number)
        while not stop.is_set():
            try:
                answered.append(submitter.one(unique_job(chance.choice("abcd"))).id)
            except DatabaseUnavailableError:
                continue
            if chance.random() < 0.3:
                finish_quietly(database, answered[-1])
        return answered

    with ThreadPoolExecutor(8) as threads:
        creators = [threads.submit(create_until_stopped, number) for number in range(8)]
        killed = sum(kill_one(settings) for _ in range(20))
        stop.set()
        answered = {job_id for creator in creators for job_id in creator.result()}
    assert killed > 0
    assert all(count == 1 for _, count in live_jobs(database))
    with database.autocommit() as connection:
        existing = {row[0] for row in connection.exec_driver_sql("SELECT id FROM jobs")}
    assert answered <= existing


def finish_quietly(database: Database, job_id: int) -> None:
    """Finish a job, unless the connection is killed just then."""
    with suppress(DatabaseUnavailableError):
        set_status(database, job_id, JobStatus.COMPLETED)


def kill_one(settings: Settings) -> int:
    """Kill one session that is in a transaction; how many there were to kill."""
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        found: list[Any] = []

        def kill() -> bool:
            found[:] = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL LIMIT 1"
            ).fetchall()
            return bool(found)

        wait_until(kill)
        return len(found)


def test_a_session_of_the_caller_decides(settings: Settings, database: Database) -> None:
    """Within a caller's transaction the key is taken when it commits, and free when it rolls back."""
    with process_of(settings) as broker:

        @goqueue.actor(name="noop", queue="q")
        def noop() -> None:
            """Do nothing."""

        said = goqueue.Unique(key="k")
        with Session(broker.database.engine.execution_options(isolation_level="READ COMMITTED")) as session:
            first = goqueue.enqueue(noop, {}, session=session, unique=said)
            assert goqueue.enqueue(noop, {}, session=session, unique=said) == first
            session.rollback()
            second = goqueue.enqueue(noop, {}, session=session, unique=said)
            session.commit()
        assert goqueue.enqueue(noop, {}, unique=said) == second != first
    assert live_jobs(database) == [("k", 1)]


def test_a_type_may_make_its_jobs_unique(settings: Settings, database: Database) -> None:
    """`@goqueue.actor(unique=…)` holds for every way to create its jobs, unless the job says otherwise."""
    with process_of(settings) as broker:

        @goqueue.actor(name="sync", queue="q", unique=goqueue.Unique(fields=("user_id",)))
        def sync(user_id: int, text: str = "") -> None:
            """Do nothing."""

        first = goqueue.enqueue(sync, {"user_id": 1})
        assert goqueue.enqueue(sync, {"user_id": 1, "text": "other"}) == first
        assert sync.send(user_id=1).options["job_id"] == first
        assert goqueue.enqueue(sync, {"user_id": 2}) != first
        assert goqueue.enqueue(sync, {"user_id": 1}, unique=goqueue.Unique(key="k")) != first
        assert [count for _, count in live_jobs(database)] == [1, 1, 1]
        assert broker.job_types["sync"].unique is not None
        with pytest.raises(ValueError, match="expected either key or fields"):
            goqueue.actor(name="wrong", unique=goqueue.Unique())(lambda _user_id: None)


def test_a_repeatable_read_transaction_is_refused_what_it_cannot_see(
    database: Database, submitter: JobCreator
) -> None:
    """A caller's snapshot that is older than the holder gets a serialization failure, never a duplicate."""
    with database.connection() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.begin()
        connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one()
        submitter.one(unique_job())
        with pytest.raises(psycopg.errors.SerializationFailure):
            submitter.create_within(connection, [NewNode(unique_job())])
        connection.rollback()
    assert live_jobs(database) == [("k", 1)]


def test_in_a_batch_the_later_one_changes_the_earlier(database: Database, submitter: JobCreator) -> None:
    """The modes hold within a batch too."""
    rule: dict[str, Any] = {"mode": UniqueMode.REPLACE_PAYLOAD, "states": (JobStatus.QUEUED,)}
    jobs = [unique_job(**rule), replace(unique_job(**rule), payload='{"number":2}')]
    first, second = submitter.many(jobs)
    assert first == second
    with database.autocommit() as connection:
        assert job_store.get(connection, first).payload == {"number": 2}


def test_a_payload_is_not_lost_to_a_holder_that_starts_just_then(
    database: Database, submitter: JobCreator
) -> None:
    """A create that meets a holder which a worker claims meanwhile makes a job of its own."""
    rule: dict[str, Any] = {"mode": UniqueMode.REPLACE_PAYLOAD, "states": (JobStatus.QUEUED,)}
    old = submitter.one(unique_job(**rule))
    with database.transaction() as claiming, ThreadPoolExecutor(1) as threads:
        claiming.exec_driver_sql("UPDATE jobs SET status = 'running', rank = NULL")
        waiting = threads.submit(submitter.create, replace(unique_job(**rule), payload='{"number":2}'))
        wait_until(lambda: waiting_sessions(database) == 1)
        claiming.commit()
        created = waiting.result(timeout=10)
    assert not created.deduplicated
    assert created.job.payload == {"number": 2}
    with database.autocommit() as connection:
        assert job_store.get(connection, old.id).payload == {}


def test_a_job_that_follows_another_is_unique_too(settings: Settings, database: Database) -> None:
    """A pipeline whose second job is there already adds no second one; its first job is completed."""
    with process_of(settings.model_copy(update=QUICK)) as broker:

        @goqueue.actor(name="first", queue="q")
        def first() -> int:
            return 1

        @goqueue.actor(name="second", queue="elsewhere", unique=goqueue.Unique(key="k"))
        def second(number: int) -> None:
            """Do nothing."""

        holder = goqueue.enqueue(second, {"number": 0}, delay_seconds=1000)
        with Engine(broker) as engine:
            dramatiq.pipeline([first.message(), second.message()]).run()  # type: ignore[no-untyped-call]  # Dramatiq's
            (job_id,) = engine.rows("SELECT id FROM jobs WHERE type = 'first'")[0]
            engine.wait_for(job_id)
            assert engine.rows("SELECT id FROM jobs WHERE type = 'second'") == [(holder,)]
    assert live_jobs(database) == [("k", 1)]


def test_who_waits_for_a_suppressed_job_waits_for_the_holder(
    database: Database, submitter: JobCreator
) -> None:
    """A job of a batch that comes after a suppressed one depends on the job that is there."""
    holder = submitter.one(unique_job())
    nodes = [NewNode(unique_job()), NewNode(NewJob("q", "noop", "{}"), after=(0,))]
    first, child = submitter.create_many(nodes)
    assert (first.id, first.deduplicated, child.status) == (holder.id, True, JobStatus.BLOCKED)
    with database.autocommit() as connection:
        edges = connection.exec_driver_sql("SELECT job_id, parent_id FROM dependencies").fetchall()
    assert [tuple(edge) for edge in edges] == [(child.id, holder.id)]


def test_the_cleaner_forgets_keys_that_are_of_no_use(
    settings: Settings, database: Database, submitter: JobCreator
) -> None:
    """A key goes when its job is completed or gone; it stays while its job waits, runs, or may run again."""
    endings = {
        "a": None,
        "b": JobStatus.COMPLETED,
        "c": JobStatus.FAILED,
        "d": JobStatus.EXPIRED,
        "e": JobStatus.CANCELLED,
    }
    for key, status in endings.items():
        job = submitter.one(unique_job(key))
        if status:
            set_status(database, job.id, status)
    every = submitter.one(unique_job("f", states=tuple(JobStatus)))
    set_status(database, every.id, JobStatus.COMPLETED)
    gone = submitter.one(unique_job("g"))
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE id = %(id)s", {"id": gone.id})
    assert Cleaner(settings, database, lambda _: None).run_once()["unique_keys"] == 3
    assert keys_of(database) == ["a", "c", "e", "f"]
    with database.autocommit() as connection:
        page = unique_keys.forget(connection, after_key="", limit=2)
        assert (page.keys, page.after_key) == (0, "c")
        assert unique_keys.forget(connection, after_key="c", limit=3).after_key is None


def test_the_cleaner_leaves_a_key_that_is_taken_over_meanwhile(
    database: Database, submitter: JobCreator
) -> None:
    """A key that a new job takes while the cleaner waits for its row stays that job's."""
    old = submitter.one(unique_job())
    set_status(database, old.id, JobStatus.COMPLETED)
    holder = held_lock(database, "k")

    def clean() -> int:
        with database.autocommit() as connection:
            return unique_keys.forget(connection, after_key="", limit=10).keys

    with ThreadPoolExecutor(1) as threads:
        cleaning = threads.submit(clean)
        wait_until(lambda: waiting_sessions(database) == 1)
        (taker,) = holder.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload) VALUES ('q', 'noop', '{}') RETURNING id"
        ).fetchone()
        unique_keys.bind(holder, {taker: UniqueRule("k", LIVE)})
        holder.commit()
        holder.close()
        assert cleaning.result(timeout=10) == 0
    assert submitter.create(unique_job()).job.id == taker


def keys_of(database: Database) -> list[str]:
    """The keys that there are."""
    with database.autocommit() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT key FROM unique_keys ORDER BY key")]
