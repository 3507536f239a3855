"""Creates of several threads that meet: one INSERT for all, and each gets what it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import combined_creates
from goqueue.engine import job_rows as job_store
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Runway, parse
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError
from goqueue.jobs import Job, JobStatus, NewJob
from goqueue.observability.job_context import job_context
from tests.support.counted import counted
from tests.support.waiting import wait_until

PLAIN = NewJob("q", "t", '{"a":1}')
#: What a thread has that runs the handler of a job.
HANDLED: Any = SimpleNamespace(log_fields={"job_id": 1})
REFUSED = NewJob("q", "t", "{}", priority=1000)


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing waits for a lock for longer."""
    return {"database_lock_timeout_seconds": 2.0}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is away at a time, and however slow the machine is, the others wait until it is back."""
    monkeypatch.setattr(combined_creates, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(combined_creates, "AWAY_MAX", 1)


@pytest.fixture
def creator(settings: Settings, database: Database, runway: Runway) -> JobCreator:
    """A creator of its own."""
    return JobCreator(settings, database, runway)


@contextmanager
def nobody_may_insert(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A foreign transaction keeps every INSERT waiting inside the block."""
    with psycopg.connect(settings.without_pooler().database_url.get_secret_value()) as connection:
        connection.execute("LOCK TABLE jobs IN SHARE MODE")
        yield connection
        connection.rollback()


def created_while_one_is_away(
    settings: Settings, creator: JobCreator, jobs: Sequence[NewJob], threads: ThreadPoolExecutor
) -> list[Future[Job]]:
    """Create a first job, whose INSERT has to wait, and the others while it does."""
    with nobody_may_insert(settings) as connection:
        first = threads.submit(creator.one, PLAIN)
        wait_until(lambda: creator.combined.away, what="the first to leave")
        others = [threads.submit(creator.one, job) for job in jobs]
        wait_until(lambda: creator.combined.waiting == len(jobs), what="the others to wait")
        connection.rollback()
        return [first, *others]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that create."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def rows_of_each_commit(database: Database) -> list[int]:
    """How many rows came with each transaction, in their order."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "SELECT count(*) FROM jobs WHERE queue = 'q' GROUP BY xmin::text ORDER BY min(id)"
        )
        return [row[0] for row in rows]


def test_creates_that_meet_share_an_insert(
    settings: Settings, database: Database, runway: Runway, creator: JobCreator, threads: ThreadPoolExecutor
) -> None:
    """Who comes while one is away goes with the others that did: a row, a push and a count each."""
    wait_until(lambda: _is_pushed(creator, runway), what="a connection to Redis")
    before = counted("jobs_created_total", queue="q")
    jobs = [NewJob("q", "t", f'{{"n":{number}}}') for number in range(7)]
    created = [future.result() for future in created_while_one_is_away(settings, creator, jobs, threads)]
    assert rows_of_each_commit(database) == [1, 7]
    assert sorted(job.payload["n"] for job in created[1:]) == list(range(7))
    with database.autocommit() as connection:
        assert [job_store.get(connection, job.id) for job in created] == created
    creator.flush()
    messages = parse(runway.fetch("q", 100, block_seconds=5))[0]
    assert {message.job_id for message in messages} == {job.id for job in created}
    assert counted("jobs_created_total", queue="q") == before + 8


def test_a_refused_job_fails_alone(
    settings: Settings, database: Database, creator: JobCreator, threads: ThreadPoolExecutor
) -> None:
    """PostgreSQL refuses one of those that went together: the others are created, each once."""
    futures = created_while_one_is_away(settings, creator, [PLAIN, REFUSED, PLAIN], threads)
    with pytest.raises(DatabaseRefusedError, match="jobs_counters_check"):
        futures[2].result()
    ids = {futures[place].result().id for place in (0, 1, 3)}
    with database.autocommit() as connection:
        assert {row[0] for row in connection.exec_driver_sql("SELECT id FROM jobs")} == ids


def test_an_outage_is_everybodys(
    settings: Settings, database: Database, creator: JobCreator, threads: ThreadPoolExecutor
) -> None:
    """Where nobody knows what became of the INSERT, nobody tries again: each is told so."""
    with nobody_may_insert(settings):
        first = threads.submit(creator.one, PLAIN)
        wait_until(lambda: creator.combined.away, what="the first to leave")
        others = [threads.submit(creator.one, PLAIN) for _ in range(3)]
        errors = [future.exception() for future in (first, *others)]
    assert [type(error) for error in errors] == [DatabaseUnavailableError] * 4
    assert len({id(error) for error in errors}) == 4
    assert rows_of_each_commit(database) == []
    assert creator.one(PLAIN).id


def test_what_is_not_plain_goes_its_own_way(
    settings: Settings, database: Database, creator: JobCreator, threads: ThreadPoolExecutor
) -> None:
    """A job with a setting of its own does not wait for others, nor they for it."""
    started = threading.Barrier(3)

    def in_a_handler() -> Job:
        job_context.set(HANDLED)
        started.wait()
        return creator.one(PLAIN)

    def with_a_key() -> Job:
        started.wait()
        return creator.one(NewJob("q", "t", "{}", concurrency_key="k"))

    with nobody_may_insert(settings) as connection:
        first = threads.submit(creator.one, PLAIN)
        wait_until(lambda: creator.combined.away, what="the first to leave")
        own = [first, threads.submit(in_a_handler), threads.submit(with_a_key)]
        started.wait()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'jobs'::regclass"
        wait_until(lambda: _asked(database, waiting) == 3, what="each to wait for PostgreSQL itself")
        connection.rollback()
    assert all(future.result() for future in own)
    assert rows_of_each_commit(database) == [1, 1, 1]
    child = creator.one(NewJob("q", "t", "{}", depends_on=(own[0].result().id,)))
    assert child.status is JobStatus.BLOCKED


def _is_pushed(creator: JobCreator, runway: Runway) -> bool:
    """Whether a job of another queue arrives: a connection that takes long to open is not waited for."""
    creator.one(NewJob("another", "t", "{}"))
    creator.flush()
    return bool(runway.fetch("another", 1, block_seconds=0.1))


def _asked(database: Database, question: str) -> Any:
    with database.autocommit() as connection:
        return connection.exec_driver_sql(question).scalar_one()
