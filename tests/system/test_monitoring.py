"""Metrics and health of real processes: groups that count together, lose members, get stuck and stand by."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import SecretStr

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.dev.embedded import HOST, free_port
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import NewJob
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

START_SECONDS = 60  # two busy cores start a process slowly
NOOP = {"queue": "noop", "payload": {}}

pytestmark = pytest.mark.timeout(300)

#: Nothing is stuck for long before somebody notices; sharing is tested, not PostgreSQL's durability.
OVERRIDES: dict[str, Any] = {
    "actors": ("tests.support.jobs.noop_jobs",),
    "fetch_block_seconds": 0.2,
    "liveness_seconds": 3.0,
    "database_statement_timeout_seconds": 1.0,
    "clean_interval_seconds": 1.0,
    "heartbeat_seconds": 0.3,
    "lease_seconds": 3.0,
    "shutdown_grace_seconds": 5.0,
    "log_format": "json",
}


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick processes that listen where nobody else does."""
    ports = {name: free_port() for name in ("api_port", "worker_metrics_port", "scheduler_metrics_port")}
    return OVERRIDES | ports


@contextmanager
def running(
    settings: Settings, log: Path, *arguments: str, **changes: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with these settings, some changed, and everything that it starts."""
    environment = environment_of(settings.model_copy(update=changes))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for child in children:
                with_suppressed_signal(child.pid, signal.SIGCONT)
            process.terminate()
            try:
                process.wait(START_SECONDS)
            finally:
                process.kill()
                process.wait()


def with_suppressed_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    if psutil.pid_exists(pid):
        os.kill(pid, number)


def samples(port: int) -> dict[str, float]:
    """What a port tells, by name and labels; nothing while it does not answer."""
    try:
        answer = httpx.get(f"http://{HOST}:{port}/metrics", timeout=10, trust_env=False)
    except httpx.TransportError:
        return {}
    assert answer.status_code == 200, answer.text
    lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def health(port: int, which: str) -> int:
    """The status of a health check; 0 while nobody answers."""
    try:
        return httpx.get(f"http://{HOST}:{port}/health/{which}", timeout=10, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def wait_for(port: int, wanted: Mapping[str, float]) -> None:
    """Wait until a port tells these values."""
    seen: dict[str, float] = {}

    def told() -> bool:
        seen.clear()
        seen.update(samples(port))
        return all(seen.get(name) == value for name, value in wanted.items())

    try:
        wait_until(told, START_SECONDS)
    except AssertionError as error:
        found = {name: seen.get(name) for name in wanted}
        raise AssertionError(f"{error}: wanted {wanted}, got {found}") from None


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Where the processes write; its end is printed for whoever looks at a failure."""
    path = tmp_path / "processes.log"
    yield path
    if path.exists():
        sys.stdout.write("\n".join(path.read_text(errors="replace").splitlines()[-30:]))


def test_the_processes_of_the_api_count_together(
    settings: Settings, log: Path, make_job: JobFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever process answers a scrape tells the sum of all, and the depth of a queue once.

    What a process that is killed has counted is not lost, and the folder that they share goes with the last.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    make_job(queue="noop")
    port = settings.api_port
    with running(settings, log, "-m", "goqueue", "api", api_processes=3) as api:
        wait_until(lambda: health(port, "ready") == 200, START_SECONDS, "the API")
        with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            for _ in range(20):
                assert (
                    client.post("/jobs/create", json=NOOP, headers={"Connection": "close"}).status_code == 201
                )
        created, depth = 'jobs_created_total{queue="noop"}', 'queue_depth{queue="noop"}'
        wait_for(port, {created: 20, depth: 21})
        told: list[tuple[float, float]] = []

        def scrape() -> None:
            for _ in range(10):
                found = samples(port)
                told.append((found[created], found[depth]))

        threads = [threading.Thread(target=scrape) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(told) == {(20.0, 21.0)}
        assert len(list(tmp_path.glob("goqueue-api-*"))) == 1
        workers = psutil.Process(api.pid).children()
        assert len(workers) == 3
        for worker in workers[:2]:
            worker.kill()
        wait_until(lambda: len(set(psutil.Process(api.pid).children()) - set(workers)) == 2, START_SECONDS)
        wait_for(port, {created: 20, depth: 21})
    assert list(tmp_path.glob("goqueue-*")) == []


def submit(settings: Settings, database: Database, runway: Runway, count: int) -> None:
    """Create so many jobs that do nothing, and put them on the runway; no scheduler runs here.

    A create pushes them itself, but leaves that to the scheduler where Redis is slow to answer.
    """
    submitter = JobCreator(settings, database, runway)
    submitter.many([NewJob("noop", "noop", "{}")] * count)
    submitter.flush()
    Dispatcher(settings, database, runway).run_once()


def live_pids(database: Database) -> list[int]:
    """The processes that hold a lease."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT pid FROM workers WHERE stopped_at IS NULL ORDER BY pid")
        return [row[0] for row in rows.fetchall()]


WORKERS = {
    "goqueue worker": ("-m", "goqueue", "worker", "--processes", "2", "--threads", "2"),
    "dramatiq": ("-m", "dramatiq", "goqueue.actors", "-p", "2", "-t", "2", "--skip-logging"),
}

PROCESSED = 'jobs_processed_total{queue="noop",status="completed"}'
WAITED = 'job_wait_seconds_count{queue="noop"}'


def test_a_group_of_workers_shares_a_port(
    settings: Settings, database: Database, runway: Runway, log: Path
) -> None:
    """One port tells what all processes of `goqueue worker` count, and whether each is well.

    A process that is stuck fails the liveness of the group, until it turns again. One that is killed, also
    the one that listens, is replaced: the port answers again, and nothing that was counted is lost.
    """
    port = settings.worker_metrics_port
    with running(settings, log, *WORKERS["goqueue worker"]):
        wait_until(lambda: health(port, "ready") == 200 and len(live_pids(database)) == 2, START_SECONDS)
        submit(settings, database, runway, 30)
        wait_for(port, {PROCESSED: 30, WAITED: 30, 'job_duration_seconds_count{queue="noop"}': 30})
        before = set(live_pids(database))
        (stuck,) = before - {_listener(port)}
        os.kill(stuck, signal.SIGSTOP)
        wait_until(lambda: health(port, "live") == 503, START_SECONDS, "the liveness to fail")
        answer = httpx.get(f"http://{HOST}:{port}/health/live", trust_env=False).json()
        assert f"process {stuck} has not turned its fetch loop for" in answer["error"]
        os.kill(stuck, signal.SIGCONT)
        wait_until(lambda: health(port, "live") == 200, START_SECONDS, "the liveness to come back")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(live_pids(database)) - before) == 2, START_SECONDS, "new workers")
        wait_for(port, {PROCESSED: 30, "recorder_pending": 0})
        submit(settings, database, runway, 30)
        wait_for(port, {PROCESSED: 60})
        wait_until(lambda: health(port, "ready") == 200, START_SECONDS, "the group to be ready")
    assert health(port, "live") == 0


def _listener(port: int) -> int:
    """The process that listens on a port."""
    (pid,) = {
        found.pid
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid is not None
    }
    return pid


def test_workers_that_reach_no_server_are_not_ready(settings: Settings, log: Path) -> None:
    """Without PostgreSQL and Redis a worker lives, and is not ready."""
    port = settings.worker_metrics_port
    nowhere = {
        "redis_url": SecretStr("redis://127.0.0.1:1/0"),
        "database_url": SecretStr("postgresql://127.0.0.1:1/x"),
    }
    with running(settings, log, *WORKERS["dramatiq"], **nowhere):
        wait_until(lambda: health(port, "live") == 200, START_SECONDS, "the worker")
        assert health(port, "ready") == 503


def test_one_scheduler_leads(settings: Settings, log: Path) -> None:
    """Of two schedulers one tells that it leads; the standby is as live and as ready."""
    first, second = settings.scheduler_metrics_port, free_port()
    with running(settings, log, "-m", "goqueue", "scheduler"):
        wait_for(first, {"leader": 1})
        with running(settings, log, "-m", "goqueue", "scheduler", scheduler_metrics_port=second):
            wait_for(second, {"leader": 0, "dispatcher_lag_seconds": 0})
            found = samples(first)
            assert found["leader"] == 1
            assert found["dispatcher_lag_seconds"] < 5
            assert found['service_round_duration_seconds_count{service="dispatcher"}'] > 0
            checks = [health(port, which) for port in (first, second) for which in ("live", "ready")]
            assert checks == [200] * 4
    assert health(first, "live") == 0


def test_a_hanging_scheduler_is_not_live(settings: Settings, log: Path) -> None:
    """A scheduler of which one loop hangs fails its liveness, and its dispatcher's lag grows."""
    port = settings.scheduler_metrics_port
    hang = {"failpoints": "in_dispatch:delay=60:1", "liveness_seconds": 1.0}
    with running(settings, log, "-m", "goqueue", "scheduler", **hang) as scheduler:
        wait_until(lambda: health(port, "live") == 200, START_SECONDS, "the scheduler")
        wait_until(lambda: health(port, "live") == 503, START_SECONDS, "the liveness to fail")
        answer = httpx.get(f"http://{HOST}:{port}/health/live", trust_env=False).json()
        assert "dispatcher has been in one round for" in answer["error"]
        assert samples(port)["dispatcher_lag_seconds"] > 1
        scheduler.kill()


def test_a_port_that_is_taken_stops_nobody(
    settings: Settings, database: Database, runway: Runway, log: Path, tmp_path: Path
) -> None:
    """Workers of Dramatiq's own command share a port as well, as soon as nobody else has it.

    That it is taken is said once, and they work meanwhile.
    """
    port = settings.worker_metrics_port
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        with socket.create_server((HOST, port)) as other, running(settings, log, *WORKERS["dramatiq"]):
            wait_until(lambda: len(live_pids(database)) == 2, START_SECONDS, "the workers")
            submit(settings, database, runway, 50)
            wait_until(lambda: _completed(database) == 50, START_SECONDS, "the jobs")
            wait_until(lambda: log.read_text().count("metrics_port_unusable") > 0, what="the warning")
            other.close()
            wait_for(port, {PROCESSED: 50, WAITED: 50})
    assert log.read_text().count("metrics_port_unusable") == 1
    assert list(tmp_path.glob("goqueue-*")) == []


def _completed(database: Database) -> int:
    with database.autocommit() as connection:
        sql = "SELECT count(*) FROM jobs WHERE status = 'completed'"
        return int(connection.exec_driver_sql(sql).scalar_one())
