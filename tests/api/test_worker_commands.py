"""Telling worker processes what to do, and who counts as serving a queue afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from falcon import testing

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.engine.workers.worker_rows import WorkerCommand, WorkerState
from goqueue.engine.workers.worker_slot_rows import slots_by_queue
from goqueue.errors import WorkerNotFoundError
from goqueue.insight import demand_rows as demand
from goqueue.insight import gauge_rows as gauges
from goqueue.insight import statistic_rows as statistics
from goqueue.worker.health import own_memory_bytes
from goqueue.worker.received_commands import ReceivedCommands
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LEASE = 15.0


def told(client: testing.TestClient, worker_id: int, command: str) -> testing.Result:
    """Tell a worker."""
    return client.simulate_post(f"/workers/{worker_id}/{command}")


@pytest.mark.parametrize(("command", "noted"), [("quiet", "quiet"), ("stop", "stop"), ("resume", None)])
def test_a_worker_is_told(
    client: testing.TestClient, make_job: JobFactory, command: str, noted: str | None
) -> None:
    """The answer is the worker with its command and since when it has it, and so does the list say."""
    answer = told(client, make_job.worker(), command)
    assert answer.status_code == 200
    assert answer.json["command"] == noted
    assert (answer.json["commanded_at"] is None) == (noted is None)
    assert client.simulate_get("/workers").json == [answer.json]


def test_saying_it_again_changes_nothing(client: testing.TestClient, make_job: JobFactory) -> None:
    """A quiet worker that is told to be quiet stays so since the first time; resumed, it is as before."""
    worker = make_job.worker()
    first = told(client, worker, "quiet").json
    assert told(client, worker, "quiet").json == first
    assert told(client, worker, "resume").json["command"] is None


@pytest.mark.parametrize("command", ["quiet", "resume"])
def test_a_stop_is_not_taken_back(client: testing.TestClient, make_job: JobFactory, command: str) -> None:
    """A worker that was told to stop ends: anything else is a 409, a repeat is none."""
    worker = make_job.worker()
    told(client, worker, "stop")
    refused = told(client, worker, command)
    assert refused.status_code == 409
    assert refused.json["detail"] == f"worker {worker} was told to stop, which is not taken back"
    assert told(client, worker, "stop").status_code == 200


@pytest.mark.parametrize("command", ["quiet", "resume", "stop"])
def test_who_is_gone_is_told_nothing(
    client: testing.TestClient, make_job: JobFactory, database: Database, command: str
) -> None:
    """An unknown worker is a 404; one that said goodbye, or is silent for too long, a 409."""
    silent, ended = make_job.worker(silent_seconds=LEASE + 1), make_job.worker()
    with database.autocommit() as connection:
        worker_store.stop(connection, ended)
    assert told(client, ended + 1, command).status_code == 404
    assert told(client, 0, command).status_code == 404
    for worker in (silent, ended):
        refused = told(client, worker, command)
        assert refused.status_code == 409
        assert refused.json["detail"] == f"worker {worker} is gone"


def test_python_knows_no_worker_that_cannot_be(settings: Settings, database: Database) -> None:
    """A number that no worker can have is one that is not there."""
    for number in (0, -1, 2**70):
        with pytest.raises(WorkerNotFoundError):
            tell_worker(database, settings, number, None)


def test_a_heartbeat_says_memory_and_hears_the_command(make_job: JobFactory, database: Database) -> None:
    """One statement does both; a new lease of the same process keeps the command."""
    worker = make_job.worker()
    with database.autocommit() as connection:
        assert worker_store.renew(connection, worker, busy=1, memory_bytes=5 << 20) == (None,)
        worker_store.tell(connection, worker, WorkerCommand.QUIET, lease_seconds=LEASE)
        renewal = worker_store.renew(connection, worker, busy=0, memory_bytes=6 << 20)
        again = make_job.worker(command=WorkerCommand.QUIET)
        newest, older = worker_store.list_all(connection, lease_seconds=LEASE)
    assert renewal == (WorkerCommand.QUIET,)
    assert (newest.id, newest.state, newest.commanded_at is None) == (again, WorkerState.QUIET, False)
    assert (older.memory_bytes, older.state) == (6 << 20, WorkerState.QUIET)


def test_this_process_has_memory_of_its_own() -> None:
    """It is counted in bytes, and a process of Python has some megabytes."""
    memory = own_memory_bytes()
    assert memory is not None
    assert 10 << 20 < memory < 8 << 30


# Who counts as serving


@pytest.fixture
def served(make_job: JobFactory, database: Database) -> None:
    """A queue whose workers are quiet or stop, with a job in it, and another queue with a live worker."""
    make_job()
    workers = [make_job.worker(queues=["default"]) for _ in range(3)]
    make_job.worker(queues=["email"], threads=4)
    commands = (WorkerCommand.QUIET, WorkerCommand.QUIET, WorkerCommand.STOP)
    with database.autocommit() as connection:
        for worker, command in zip(workers, commands, strict=True):
            worker_store.tell(connection, worker, command, lease_seconds=LEASE)


@pytest.mark.usefixtures("served")
def test_a_quiet_worker_serves_nobody(database: Database) -> None:
    """The runway, the statistics, the gauges and the number of workers count those alone that take jobs."""
    with database.autocommit() as connection:
        threads = slots_by_queue(connection, lease_seconds=LEASE)
        service = statistics.of_service(connection, lease_seconds=LEASE)
        queues = {row.name: row.workers for row in statistics.by_queue(connection, lease_seconds=LEASE)}
        told_prometheus = gauges.read(connection, lease_seconds=LEASE)
    with database.transaction() as connection:
        asked, _ = demand.of_queue(
            connection, "default", is_declared=True, window_seconds=60, lease_seconds=LEASE
        )
    assert threads == {"email": 4}
    assert (service.workers, service.threads) == (1, 4)
    assert queues["default"] == 0
    assert (told_prometheus.workers, told_prometheus.threads) == (1, 4)
    assert {queue.name: queue.workers for queue in told_prometheus.queues}["default"] == 0
    assert (asked.workers, asked.threads) == (0, 0)


@pytest.mark.usefixtures("served")
def test_a_job_that_waits_for_quiet_workers_says_so(client: testing.TestClient) -> None:
    """No worker listens, and the reason is that they were told to."""
    (job,) = client.simulate_get("/jobs", params={"queue": "default"}).json
    (reason,) = client.simulate_get(f"/jobs/{job['id']}/explain").json["reasons"]
    assert reason["code"] == "no_worker"
    assert reason["evidence"] == {"queue": "default", "served_queues": ["email"], "quiet_workers": 3}
    assert "3 workers that did were told to take no more jobs" in reason["message"]


def test_a_quiet_process_of_its_own_leaves_the_quarantine_to_others(
    make_job: JobFactory, database: Database
) -> None:
    """Suspects are taken by processes that are idle again, when the one that serves nothing else is quiet."""
    dedicated = make_job.worker(queues=["quarantine"])
    with database.autocommit() as connection:

        def is_served() -> bool:
            return worker_store.is_quarantine_served(connection, except_worker_id=0, lease_seconds=LEASE)

        assert is_served()
        worker_store.tell(connection, dedicated, WorkerCommand.QUIET, lease_seconds=LEASE)
        assert not is_served()


# How a process follows


@pytest.fixture
def terminations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What a handler of SIGTERM, as Dramatiq has one, was called with; each test is a process of its own."""
    monkeypatch.setattr("goqueue.worker.terminations._terminations", None)
    called: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, lambda number, _frame: called.append(number))
    yield called
    for number, handler in before.items():
        signal.signal(number, handler)


def received(**values: Any) -> ReceivedCommands:
    """What is received by a process of Dramatiq's command."""
    made = ReceivedCommands(Settings(**values))
    made.listen()
    return made


def test_quiet_comes_and_goes(terminations: list[int]) -> None:
    """A process is quiet as long as the record says so, and ends with none of that."""
    process = received()
    assert not process.is_quiet
    process.follow(WorkerCommand.QUIET)
    assert process.is_quiet
    process.follow(None)
    assert not process.is_quiet
    assert terminations == []


def test_a_stop_is_one_sigterm(terminations: list[int], tmp_path: Any) -> None:
    """However often it is heard, and whatever somebody else sends besides: the process drains."""
    process = received(metrics_folder=str(tmp_path / "group"))
    for _ in range(3):
        process.follow(WorkerCommand.STOP)
    assert process.is_quiet
    assert terminations == [signal.SIGTERM]
    assert [path.name for path in (tmp_path / "group").iterdir()] == [f"{os.getsid(0)}.stopped"]
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    assert terminations == [signal.SIGTERM]


def test_a_stop_of_a_process_that_ends_already_is_none(terminations: list[int]) -> None:
    """After somebody else's SIGTERM neither ours nor their second one adds anything."""
    process = received()
    os.kill(os.getpid(), signal.SIGTERM)
    process.follow(WorkerCommand.STOP)
    assert terminations == [signal.SIGTERM]
    os.kill(os.getpid(), signal.SIGTERM)
    assert terminations == [signal.SIGTERM]


def test_a_process_that_is_not_ours_to_end_is_only_quiet(terminations: list[int]) -> None:
    """A Dramatiq worker inside somebody's own program fetches no more, and is not killed."""
    process = ReceivedCommands(Settings())
    process.follow(WorkerCommand.STOP)
    assert process.is_quiet
    assert terminations == []
