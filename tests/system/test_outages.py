"""A PostgreSQL that is read-only, hangs, or was followed by its standby: nothing is lost, nothing waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from falcon import testing
from pydantic import SecretStr

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import HOST, EmbeddedPostgres
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import AttemptOutcome, JobStatus
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.claiming.claims import ClaimedJobs
from goqueue.worker.recording.recorder import Recorder
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs
from tests.support.servers.clusters import own_postgres_in
from tests.support.servers.replicas import EmbeddedReplica
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

NOOP = {"queue": noop_jobs.noop.queue_name, "payload": {}}

#: From the moment a standby is promoted, or a link goes dead, until jobs are created and recorded again.
SILENCE_SECONDS = 20


@pytest.fixture
def primary(data_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that a test harms."""
    with own_postgres_in(data_folder / "primary") as server:
        yield server


class Service:
    """An API and a recorder in this process, which reach PostgreSQL by one URL."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.runway = Runway(settings)
        self.client = testing.TestClient(create_app(settings, database=self.database, runway=self.runway))
        self.claimed_jobs = ClaimedJobs()
        self.recorder = Recorder(settings, self.database, self.runway, self.claimed_jobs)
        self.recorder.start()

    def claim(self, count: int) -> list[JobMessage]:
        """Jobs that this process holds, and that have completed."""
        make_job = JobFactory(self.database)
        self.claimed_jobs.worker_id = make_job.worker_id
        messages = make_job.messages(*(make_job() for _ in range(count)), claimed_jobs=self.claimed_jobs)
        for message in messages:
            message.conclude(JobStatus.COMPLETED, AttemptOutcome.COMPLETED)
        return messages

    def creates(self) -> bool:
        """Whether a job can be created; every refusal is one that a client understands."""
        answer = self.client.simulate_post("/jobs/create", json=NOOP)
        if answer.status_code != 201:
            assert_refusal(answer)
        return answer.status_code == 201

    def statuses(self, messages: list[JobMessage]) -> set[str]:
        """The states of these jobs."""
        with self.database.autocommit() as connection:
            return {job_store.get(connection, message.current.id).status for message in messages}

    def close(self) -> None:
        """End it all."""
        self.recorder.stop(10)
        self.runway.close()
        self.database.close()


def assert_refusal(answer: testing.Result) -> None:
    """It is a 503 that says when to ask again."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"] == "application/problem+json"


def service_of(settings: Settings, url: str) -> Service:
    """A service whose PostgreSQL is there."""
    return Service(settings.model_copy(update={"database_url": SecretStr(url)}))


def set_read_only(server: EmbeddedPostgres, value: str) -> None:
    """Let every session of a server refuse to write, or not, as a managed service does in a failover."""
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")


def test_a_read_only_postgresql_is_an_outage(settings: Settings, primary: EmbeddedPostgres) -> None:
    """Clients get 503 with Retry-After, nobody is ready; outcomes are kept until it takes writes again."""
    service = service_of(settings, primary.url)
    messages = service.claim(6)
    assert service.creates()
    set_read_only(primary, "on")
    wait_until(lambda: not service.creates(), what="the switch")
    for message in messages:
        service.recorder.put(message)
    for path in ("/health/ready", "/health/db"):
        assert_refusal(service.client.simulate_get(path))
    for _ in range(20):
        assert not service.creates()
    assert len(service.claimed_jobs.snapshot()) == 6
    set_read_only(primary, "off")
    wait_until(service.creates, what="jobs to be created again")
    wait_until(lambda: not service.claimed_jobs.snapshot(), what="the outcomes")
    assert service.statuses(messages) == {"completed"}
    assert service.client.simulate_get("/health/ready").status_code == 200
    service.close()


def test_a_read_only_postgresql_is_left_for_the_one_that_accepts_writes(
    settings: Settings, primary: EmbeddedPostgres, data_folder: Path
) -> None:
    """Of several hosts the primary is used, at the start and after a failover: no pool stays behind."""
    with EmbeddedReplica(data_folder / "standby", primary) as standby:
        # The standby first: it answers, and is no primary yet.
        service = service_of(settings, url_of(standby.port, primary.port))
        messages = service.claim(6)
        assert service.creates()
        wait_until(lambda: has_received(primary, standby), what="the standby to have it all")
        set_read_only(primary, "on")
        wait_until(lambda: not service.creates(), what="the switch")
        promote(standby)
        wait_until(service.creates, SILENCE_SECONDS, "jobs to be created on the promoted one")
        for message in messages:
            service.recorder.put(message)
        wait_until(lambda: not service.claimed_jobs.snapshot(), SILENCE_SECONDS, "the outcomes")
        assert service.statuses(messages) == {"completed"}
        assert port_of(service) == standby.port
        service.close()


def test_a_primary_that_hangs_is_left_for_its_successor(
    settings: Settings, primary: EmbeddedPostgres, data_folder: Path
) -> None:
    """With its connections open and all its processes stopped, jobs go on within seconds of the promotion."""
    with EmbeddedReplica(data_folder / "standby", primary) as standby:
        service = service_of(settings, url_of(primary.port, standby.port))
        messages = service.claim(6)
        assert service.creates()
        wait_until(lambda: has_received(primary, standby), what="the standby to have it all")
        stopped = [psutil.Process(primary.pid), *psutil.Process(primary.pid).children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            promote(standby)
            promoted_at = time.monotonic()
            for message in messages:
                service.recorder.put(message)
            wait_until(service.creates, SILENCE_SECONDS, "jobs to be created on the promoted one")
            wait_until(lambda: not service.claimed_jobs.snapshot(), SILENCE_SECONDS, "the outcomes")
            print(f"silence: {time.monotonic() - promoted_at:.1f} s")  # noqa: T201  (how long is always told)
            assert service.statuses(messages) == {"completed"}
            service.close()
        finally:
            for process in stopped:
                process.resume()


@pytest.mark.parametrize("host", ["one", "several"])
def test_a_link_that_swallows_everything_holds_nobody(
    settings: Settings, primary: EmbeddedPostgres, host: str
) -> None:
    """A statement whose answer does not come ends, and the next one has a new connection."""
    proxy = TcpProxy(primary.port)
    service = service_of(settings, url_of(proxy.port, *([primary.port] if host == "several" else [])))
    assert service.creates()
    proxy.black_hole()
    began_at = time.monotonic()
    assert not service.creates()
    assert time.monotonic() - began_at < SILENCE_SECONDS
    if host == "several":
        assert service.creates()
    proxy.close()
    service.close()


def test_a_link_that_swallows_everything_holds_no_transaction(
    settings: Settings, primary: EmbeddedPostgres
) -> None:
    """Also in the middle of a transaction, which the server believes to be idle."""
    proxy = TcpProxy(primary.port)
    service = service_of(settings, url_of(proxy.port))
    began_at = time.monotonic()
    with pytest.raises(DatabaseUnavailableError):
        _hang_in_a_transaction(service, proxy)
    assert time.monotonic() - began_at < SILENCE_SECONDS
    proxy.close()
    service.close()


def _hang_in_a_transaction(service: Service, proxy: TcpProxy) -> None:
    with service.database.transaction() as connection:
        connection.exec_driver_sql("SELECT 1")
        proxy.black_hole()
        connection.exec_driver_sql("SELECT 2")


def test_a_slow_statement_is_waited_for(settings: Settings, primary: EmbeddedPostgres) -> None:
    """A server that still works on a statement after the first doubts answers it."""
    service = service_of(settings, primary.url)
    with service.database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT 7 FROM pg_sleep(6)").scalar() == 7
    service.close()


def url_of(*ports: int) -> str:
    """A URL of several hosts, as libpq has it."""
    return f"postgresql://postgres@{','.join(f'{HOST}:{port}' for port in ports)}/goqueue"


def port_of(service: Service) -> int:
    """Where the service is connected to."""
    with service.database.autocommit() as connection:
        return int(connection.exec_driver_sql("SHOW port").scalar_one())


def promote(standby: EmbeddedPostgres) -> None:
    """Make a standby the primary."""
    with psycopg.connect(standby.url_for("postgres"), autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)


def has_received(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> bool:
    """Whether the standby has replayed whatever the primary wrote."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        (written,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ("",)
    with psycopg.connect(standby.url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone()
    return bool(row and row[0])
