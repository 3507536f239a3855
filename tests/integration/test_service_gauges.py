"""What PostgreSQL knows and Prometheus is told: depths, ages, workers, and what holds back vacuum."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from falcon import testing
from pydantic import SecretStr
from structlog.testing import capture_logs

from goqueue.api.app import create_app
from goqueue.api.frame.reading import Reading
from goqueue.api.service_gauges import ServiceGaugesCollector
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseUnavailableError
from goqueue.insight import gauge_rows as gauges
from goqueue.insight.gauge_rows import QueueGauges
from goqueue.scheduler.horizon_watch import HorizonWatch
from tests.support.database.plans import nodes
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

NOWHERE = SecretStr("postgresql://postgres@127.0.0.1:1/nothing")


def read(database: Database) -> dict[str, QueueGauges]:
    """The gauges of each queue."""
    with database.autocommit() as connection:
        return {queue.name: queue for queue in gauges.read(connection, lease_seconds=15).queues}


def values_of(client: testing.TestClient, name: str) -> dict[str, float]:
    """The samples of a metric as the API tells them, by the text of their labels."""
    result = client.simulate_get("/metrics")
    assert (result.status_code, result.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    samples = [line for line in result.text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return {line[len(name) :].rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in samples}


@pytest.fixture
def client(settings: Settings, database: Database, runway: Runway) -> testing.TestClient:
    """A client of the API."""
    return testing.TestClient(create_app(settings, database=database, runway=runway))


def test_only_jobs_that_could_start_are_deep(database: Database, make_job: JobFactory) -> None:
    """Ready jobs count; those of a later time, running, finished and suspicious ones do not."""
    for _ in range(3):
        make_job(queue="email")
    make_job(queue="email", available_at="2999-01-01T00:00:00Z")
    make_job(queue="email", quarantined=True)
    for status in ("running", "completed", "failed", "failed", "cancelled", "expired", "blocked"):
        make_job(status, queue="email")
    make_job(queue="other")
    found = read(database)
    assert (found["email"].depth, found["email"].dead_letters) == (3, 2)
    assert (found["other"].depth, found["other"].dead_letters) == (1, 0)


def test_the_oldest_is_found_behind_a_higher_priority(database: Database, make_job: JobFactory) -> None:
    """The age is that of the job that waits longest, not of the one that starts next."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["empty"])
    make_job(queue="email", priority=10)
    job = make_job(queue="email")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET available_at = now() - interval '90 s' WHERE id = %(id)s", {"id": job.id}
        )
    found = read(database)
    assert 90 <= found["email"].oldest_age_seconds < 120
    assert (found["empty"].oldest_age_seconds, found["empty"].depth) == (0.0, 0)


def test_only_live_workers_count(
    database: Database, make_job: JobFactory, client: testing.TestClient
) -> None:
    """Workers whose lease holds count, by the queues that they serve; silent and gone ones do not."""
    first = make_job.worker(queues=["email", "sms"], threads=4)
    make_job.worker(queues=["email"], threads=2)
    make_job.worker(queues=["email"], silent_seconds=100)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["email", "sms", "alone"])
        connection.exec_driver_sql("UPDATE workers SET busy = 3 WHERE id = %(id)s", {"id": first})
    assert values_of(client, "workers_live") == {"": 2}
    assert values_of(client, "worker_threads") == {"": 6}
    assert values_of(client, "worker_threads_busy") == {"": 3}
    workers = values_of(client, "queue_workers_live")
    assert workers == {'{queue="alone"}': 0, '{queue="email"}': 2, '{queue="sms"}': 1}


def test_a_paused_queue_says_so(database: Database, client: testing.TestClient) -> None:
    """`queue_paused` is 1 from the pause to its end."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["email", "sms"])
        queue_store.pause(connection, "email")
    assert values_of(client, "queue_paused") == {'{queue="email"}': 1, '{queue="sms"}': 0}


def test_an_objective_is_told_where_there_is_one(database: Database, client: testing.TestClient) -> None:
    """A queue with an objective has its two gauges; another one has neither."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["email", "sms"])
        connection.exec_driver_sql("UPDATE queues SET slo_wait_seconds = 2.5 WHERE name = 'email'")
    assert values_of(client, "queue_slo_wait_seconds") == {'{queue="email"}': 2.5}
    assert values_of(client, "queue_slo_objective") == {'{queue="email"}': 0.99}


def test_an_empty_service_is_told(client: testing.TestClient) -> None:
    """Without a queue, a worker or a job there are zeros, not an error."""
    assert values_of(client, "database_up") == {"": 1}
    assert values_of(client, "workers_live") == {"": 0}
    assert values_of(client, "queue_depth") == {}


def test_one_question_serves_many_scrapers(
    database: Database, settings: Settings, make_job: JobFactory
) -> None:
    """Scrapers that come together share one statement, and all get the same numbers."""
    for _ in range(5):
        make_job(queue="email")
    asked: list[int] = []
    collector = ServiceGaugesCollector(settings, database)

    def ask() -> gauges.ServiceGauges:
        asked.append(1)
        return collector._ask()  # noqa: SLF001  (how often PostgreSQL is asked)

    collector._reading._ask = ask  # noqa: SLF001  (how often PostgreSQL is asked)
    depths: list[float] = []

    def scrape() -> None:
        found = {metric.name: metric for metric in collector.collect()}
        depths.extend(sample.value for sample in found["queue_depth"].samples)

    threads = [threading.Thread(target=scrape) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (depths, len(asked)) == ([5.0] * 20, 1)


def test_metrics_are_told_without_postgresql(settings: Settings) -> None:
    """While PostgreSQL is away what the process counted is told, and that PostgreSQL is away."""
    broken = settings.model_copy(update={"database_url": NOWHERE})
    client = testing.TestClient(create_app(broken))
    assert values_of(client, "database_up") == {"": 0}
    assert values_of(client, "queue_depth") == {}
    assert values_of(client, "jobs_created_total") is not None
    assert client.simulate_get("/health").json == {"status": "ok"}
    assert client.simulate_get("/health/live").json == {"status": "ok"}
    assert client.simulate_get("/health/ready").status_code == 503


BACKLOG = 20_000

FILL = f"""
    INSERT INTO queues (name) VALUES ('email'), ('sms');
    INSERT INTO jobs (queue, type, payload, rank)
        SELECT 'email', 'noop', '{{}}', now() FROM generate_series(1, {BACKLOG});
    INSERT INTO jobs (queue, type, status, payload, finished_at)
        SELECT 'email', 'noop', 'completed', '{{}}', now() FROM generate_series(1, {BACKLOG});
    INSERT INTO jobs (queue, type, status, payload, finished_at)
        SELECT 'sms', 'noop', 'failed', '{{}}', now() FROM generate_series(1, {BACKLOG});
"""


@pytest.mark.parametrize("analyzed", ["before the jobs came", "now"])
def test_a_scrape_reads_by_indexes(database: Database, analyzed: str) -> None:
    """Counting walks the indexes of what it counts, whatever the statistics say; no other row is touched."""
    with database.autocommit() as connection:
        if analyzed == "before the jobs came":
            connection.exec_driver_sql("ANALYZE jobs")
        connection.exec_driver_sql(FILL)
        connection.exec_driver_sql("VACUUM (ANALYZE) jobs" if analyzed == "now" else "SELECT 1")
        sql = gauges._READ  # noqa: SLF001  (the plan of this very statement)
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", {"lease_seconds": 15}
        ).scalar_one()
    plan = explained if isinstance(explained, list) else json.loads(explained)
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") in {"jobs", "ready_jobs"}]
    by_index = [node for node in scans if node.get("Index Name") == "ready_jobs_pkey"]
    assert {node["Node Type"] for node in by_index} <= {"Index Scan", "Index Only Scan"}
    assert len(by_index) == 2
    others = {node["Index Name"]: node["Node Type"] for node in scans if "Index Name" in node}
    assert others.pop("jobs_pkey") == "Index Scan"
    assert others.pop("ready_jobs_pkey") in {"Index Scan", "Index Only Scan"}
    assert set(others) <= {"jobs_failure_idx", "jobs_rare_idx", "jobs_rare_queue_idx"}
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    assert not [node for node in scans if node.get("Rows Removed by Filter", 0) > 0]


@contextmanager
def transaction(settings: Settings, *, writes: bool = False) -> Iterator[None]:
    """Hold a transaction open that keeps vacuum from removing rows."""
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        if writes:
            connection.execute("CREATE TABLE held (n int)")
        else:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT 1")
        yield
        connection.rollback()


def age(database: Database) -> float:
    """The age of the horizon."""
    with database.autocommit() as connection:
        return gauges.horizon_age(connection)


@pytest.mark.parametrize("writes", [False, True], ids=["with a snapshot", "with a write"])
def test_a_transaction_that_holds_back_vacuum_is_seen(
    settings: Settings, database: Database, *, writes: bool
) -> None:
    """The horizon has the age of the oldest transaction that holds it, and is free when that has ended."""
    assert age(database) == 0
    with transaction(settings, writes=writes):
        first = age(database)
        wait_until(lambda: age(database) > first + 0.05)
    wait_until(lambda: age(database) == 0)


def test_a_prepared_transaction_is_seen(data_folder: Path) -> None:
    """Also one that no session has any more, where PostgreSQL allows them."""
    with EmbeddedPostgres(data_folder, settings={"max_prepared_transactions": "2"}) as server:
        own = Database(Settings(database_url=SecretStr(server.url)))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("BEGIN")
            connection.execute("CREATE TABLE held (n int)")
            connection.execute("PREPARE TRANSACTION 'forgotten'")
        wait_until(lambda: age(own) > 0.05)
        own.close()


@pytest.fixture
def warned(settings: Settings) -> Settings:
    """Settings that warn of any transaction."""
    return settings.model_copy(update={"horizon_warning_seconds": 0.001})


def test_a_held_horizon_is_reported_everywhere(
    settings: Settings, warned: Settings, database: Database, runway: Runway
) -> None:
    """It is in the metrics, in the health of the API, and in the log of the scheduler, until it is free."""
    client = testing.TestClient(create_app(warned, database=database, runway=runway))
    service = HorizonWatch(warned, database, bool)
    with transaction(settings), capture_logs() as logs:
        wait_until(lambda: age(database) > 0.001)
        assert values_of(client, "database_horizon_age_seconds")[""] > 0
        for path in ("/health", "/health/db", "/health/ready"):
            result = client.simulate_get(path)
            assert (result.status_code, result.json["status"]) == (200, "ok")
            assert "has held back vacuum for" in result.json["warnings"][0]
        assert service.run_once() == {"held": 1}
    wait_until(lambda: age(database) == 0)
    with capture_logs() as later:
        assert service.run_once() == {"held": 0}
        service.run_once()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("vacuum_horizon_held", "warning")]
    assert [entry["event"] for entry in later] == ["vacuum_horizon_free"]


def test_health_does_not_wait_for_postgresql() -> None:
    """What is only added to a health check is what is known after a moment, while PostgreSQL hangs."""
    hangs, asked = threading.Event(), []

    def ask() -> float:
        asked.append(1)
        hangs.wait(30)
        return 7.0

    reading = Reading(ask, max_age_seconds=60)
    assert [reading.soon(0.01) for _ in range(5)] == [None] * 5
    hangs.set()
    wait_until(lambda: reading.soon(0.01) == 7.0)
    assert len(asked) == 1


def test_an_outage_is_asked_about_once_a_while() -> None:
    """That PostgreSQL did not answer is good for a while as well, and then it is asked again."""
    answers: list[Callable[[], float]] = [_unavailable, lambda: 1.0]

    def ask() -> float:
        return answers.pop(0)()

    reading = Reading(ask, max_age_seconds=0.05)
    assert (reading.get(), reading.get()) == (None, None)
    wait_until(lambda: reading.get() == 1.0)


def _unavailable() -> float:
    raise DatabaseUnavailableError


def test_an_api_before_its_migration_is_not_ready(settings: Settings, database: Database) -> None:
    """Readiness fails while the schema is behind this release, liveness does not."""
    client = testing.TestClient(create_app(settings, database=database))
    assert client.simulate_get("/health/ready").json == {"status": "ok", "redis": "ok"}
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    result = client.simulate_get("/health/ready")
    assert result.status_code == 503
    assert "goqueue migrate" in result.json["error"]
    assert client.simulate_get("/health/live").status_code == 200


def test_an_api_without_redis_is_ready_and_says_so(settings: Settings, database: Database) -> None:
    """Jobs are accepted without Redis, so requests should still be sent to the API."""
    lonely = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    client = testing.TestClient(create_app(lonely, database=database))
    assert client.simulate_get("/health/ready").json == {"status": "ok", "redis": "unavailable"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health/live", 200), ("/health/ready", 200), ("/metrics", 401)],
    ids=["live", "ready", "metrics"],
)
def test_probes_need_no_key(settings: Settings, database: Database, path: str, status: int) -> None:
    """Whoever probes has no key; metrics name queues and types, and are for those who have one."""
    guarded = settings.model_copy(update={"api_keys": ("0" * 64,)})
    client = testing.TestClient(create_app(guarded, database=database))
    assert client.simulate_get(path).status_code == status
