"""The core of GoQueue through PgBouncer in transaction mode."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from pydantic import SecretStr

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.errors import ConfigurationError, DatabaseUnavailableError
from goqueue.ops.checks import check_database
from goqueue.scheduler import leadership_rows as leadership
from goqueue.scheduler.process import SchedulerProcess
from tests.support.engine import QUICK, Engine, process_of
from tests.support.servers.pgbouncer import POOL_SIZE, EmbeddedPgBouncer, program
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    program() is None and not os.environ.get("CI"), reason="pgbouncer is not installed: make setup-pgbouncer"
)


@pytest.fixture(scope="module")
def pgbouncer(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> Iterator[EmbeddedPgBouncer]:
    """PgBouncer before the PostgreSQL of the session."""
    with EmbeddedPgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres.url) as server:
        yield server


@pytest.fixture
def pooled(settings: Settings, pgbouncer: EmbeddedPgBouncer) -> Settings:
    """The test's database through PgBouncer; its sessions have the time-out that a role would have."""
    direct = settings.database_url
    name = direct.get_secret_value().rpartition("/")[2]
    with psycopg.connect(direct.get_secret_value(), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET statement_timeout = '30s'".encode())
    changes = {
        **QUICK,
        "database_url": SecretStr(pgbouncer.url_for(name)),
        "database_direct_url": direct,
        "scheduler_metrics_port": 0,
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def scheduler(pooled: Settings) -> Iterator[None]:
    """A whole `goqueue scheduler` in this process."""
    stopping = threading.Event()
    thread = threading.Thread(target=SchedulerProcess(pooled).run, args=(stopping,))
    thread.start()
    yield
    stopping.set()
    thread.join()


@pytest.mark.usefixtures("scheduler")
def test_jobs_run_through_a_pooler(pooled: Settings) -> None:
    """Creates by many threads, retries, run-ats, chains, results and a transaction of the caller all work."""
    with process_of(pooled) as broker:

        @goqueue.actor(queue="pooled", max_retries=1, jitter=False)
        def second_time(value: int) -> int:
            if goqueue.current_job().attempt == 1:
                raise ValueError(value)
            return value * 2

        @goqueue.actor(queue="pooled")
        def total() -> int:
            return sum(goqueue.current_job().parent_results().values())

        with Engine(broker, dispatches=False) as engine:
            with ThreadPoolExecutor(8) as threads:
                jobs = list(threads.map(lambda n: goqueue.enqueue(second_time, {"value": n}), range(200)))
            later = goqueue.enqueue(second_time, {"value": 7}, delay_seconds=0.5)
            child = goqueue.enqueue(total, {}, depends_on=[jobs[1], jobs[2]])
            with broker.database.transaction() as connection:
                own = goqueue.enqueue(second_time, {"value": 9}, session=connection)
            for number, job in enumerate(jobs):
                done = engine.wait_for(job)
                assert (done.attempts, done.result) == (2, number * 2)
            assert engine.wait_for(later).result == 14
            assert engine.wait_for(own).result == 18
            assert engine.wait_for(child).result == 6
            assert sessions(pooled) <= POOL_SIZE


def test_of_two_schedulers_behind_a_pooler_one_leads(pooled: Settings) -> None:
    """The sessions of schedulers go past the pooler: whoever takes the lead over ends those of the former."""
    first, second = SchedulerProcess(pooled), SchedulerProcess(pooled)
    try:
        assert first._leader.try_to_lead()  # noqa: SLF001  (the leader of a whole process)
        assert not second._leader.try_to_lead()  # noqa: SLF001  (the leader of a whole process)
        with first._database.autocommit() as connection:  # noqa: SLF001  (the leader of a whole process)
            assert leadership.is_led(connection)
        first._leader.resign()  # noqa: SLF001  (the leader of a whole process)
        wait_until(second._leader.try_to_lead, what="the other one to lead")  # noqa: SLF001  (the leader of a whole process)
        assert not first._leader.try_to_lead()  # noqa: SLF001  (the leader of a whole process)
    finally:
        for scheduler in (first, second):
            scheduler.close()


def test_times_are_in_utc_in_every_session(pooled: Settings) -> None:
    """Whichever session a statement gets, its time zone is UTC."""
    with psycopg.connect(pooled.without_pooler().database_url.get_secret_value(), autocommit=True) as direct:
        name = direct.info.dbname
        direct.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'".encode())
    database = Database(pooled, pool_size=8)

    def zone(_: int) -> str:
        with database.autocommit() as connection:
            return str(connection.exec_driver_sql("SHOW timezone").scalar())

    try:
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(zone, range(100))) == {"UTC"}
    finally:
        database.close()


def test_no_statement_is_prepared(pooled: Settings) -> None:
    """A statement that is run often is not prepared in a session that another client may get next."""
    database = Database(pooled)
    try:
        for _ in range(20):
            with database.autocommit() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("SELECT %s::int", [1])
                found = driver.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
                assert found == (0,)
    finally:
        database.close()


def test_a_pooler_without_a_time_out_is_a_problem(pooled: Settings, settings: Settings) -> None:
    """Sessions behind a pooler must have a statement time-out of the role or the database."""
    check_database(pooled)
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as direct:
        direct.execute(f"ALTER DATABASE {direct.info.dbname} SET statement_timeout = 0".encode())
        direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(ConfigurationError, match="statement_timeout"):
        wait_until(lambda: check_again(pooled), what="a new session")


def check_again(pooled: Settings) -> bool:
    """Check; False while PgBouncer has not noticed that its sessions were ended."""
    try:
        check_database(pooled)
    except DatabaseUnavailableError:
        return False
    return True


def sessions(pooled: Settings) -> int:
    """How many sessions PgBouncer has in the test's database: all but a scheduler's and the one that asks."""
    with psycopg.connect(pooled.without_pooler().database_url.get_secret_value()) as direct:
        row = direct.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
            "AND application_name NOT LIKE 'goqueue-scheduler %'"
        ).fetchone()
    assert row is not None
    return int(row[0])
