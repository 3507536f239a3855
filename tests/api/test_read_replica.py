"""What is read from a read replica, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from falcon import testing
from pydantic import SecretStr

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.engine.runway.runway import Runway
from tests.support.factories import JobFactory
from tests.support.servers.replicas import EmbeddedReplica
from tests.support.waiting import wait_until

#: Reads that may be a moment old.
FROM_REPLICA = ("/jobs?queue=default", "/stats", "/queues", "/failures")


@pytest.fixture(scope="module")
def replica(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedReplica]:
    """A streaming replica of the session's PostgreSQL."""
    with EmbeddedReplica(tmp_path_factory.mktemp("replica"), postgres) as server:
        yield server


@pytest.fixture
def replicated(settings: Settings, replica: EmbeddedReplica) -> Settings:
    """The test's database, with its copy for reading."""
    url = replica.url_for(settings.database_url.get_secret_value().rpartition("/")[2])
    wait_until(lambda: answers(url), what="the copy of the database")
    return settings.model_copy(update={"read_database_url": SecretStr(url)})


@pytest.fixture
def client(replicated: Settings, database: Database, runway: Runway) -> Iterator[testing.TestClient]:
    """The API with a read replica."""
    read_database = Database(replicated.for_reading())
    yield testing.TestClient(
        create_app(replicated, database=database, read_database=read_database, runway=runway)
    )
    read_database.close()


@pytest.fixture
def stalled(replicated: Settings) -> Iterator[psycopg.Connection[Any]]:
    """The replica falls behind, until the test resumes it."""
    assert replicated.read_database_url is not None
    with psycopg.connect(replicated.read_database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        wait_until(
            lambda: connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",),
            what="the replica to pause",
        )
        yield connection
        connection.execute("SELECT pg_wal_replay_resume()")


def test_lists_statistics_and_groups_are_read_from_the_replica(
    client: testing.TestClient, stalled: psycopg.Connection[Any], make_job: JobFactory
) -> None:
    """They show what the replica has: nothing yet while it is behind, and the jobs when it has caught up."""
    before = {path: client.simulate_get(path).text for path in FROM_REPLICA}
    make_job("completed")
    make_job("failed", error="E: x", reason="error", fingerprint="f" * 16)
    make_job("queued")
    # The time of the answer is the only thing that may differ.
    assert {path: client.simulate_get(path).json for path in ("/jobs?queue=default", "/failures")} == {
        "/jobs?queue=default": [],
        "/failures": [],
    }
    stalled.execute("SELECT pg_wal_replay_resume()")
    for path in FROM_REPLICA:
        wait_until(lambda path=path: client.simulate_get(path).text != before[path], what=f"{path} to change")  # type: ignore[misc]
    jobs = "/jobs?queue=default"
    wait_until(lambda: len(client.simulate_get(jobs).json) == 3, what="the replica to have all jobs")


@pytest.mark.usefixtures("stalled")
def test_a_job_is_read_from_the_primary(client: testing.TestClient, make_job: JobFactory) -> None:
    """Whoever has just created or changed a job sees it, however far behind the replica is."""
    job = make_job("queued")
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == "queued"
    assert client.simulate_post(f"/jobs/{job.id}/cancel").status_code < 300
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == "cancelled"
    assert client.simulate_get(f"/jobs/{job.id}/explain").status_code == 200
    assert client.simulate_get("/health/db").status_code == 200


def test_without_the_replica_its_reads_are_503(
    replicated: Settings, database: Database, runway: Runway
) -> None:
    """A replica that is away takes its reads along, and nothing else: they do not fall on the primary."""
    away = replicated.model_copy(
        update={"read_database_url": SecretStr("postgresql://postgres@127.0.0.1:1/goqueue")}
    )
    client = testing.TestClient(create_app(away, database=database, runway=runway))
    for path in FROM_REPLICA:
        assert client.simulate_get(path).status_code == 503
    created = client.simulate_post(
        "/jobs/create",
        json={"queue": "email", "payload": {"to": "a@example.com", "subject": "s", "body": "b"}},
    )
    assert created.status_code == 201


def answers(url: str) -> bool:
    """Whether this database is there."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
