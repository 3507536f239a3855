"""Leases, the rescuer and the leader: who lives, who is taken back, who leads."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.runway import Message, Runway, parse
from goqueue.engine.transitions.rescue import Rescued, rescue
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_slot_rows import slots_by_queue
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import JobStatus
from goqueue.migrations.upgrade import upgrade
from goqueue.scheduler import clock_watch
from goqueue.scheduler import rescuer as rescuer_module
from goqueue.scheduler.rescuer import Rescuer
from tests.support.database import shifted_clock
from tests.support.database.plans import rows_read
from tests.support.factories import JobFactory
from tests.support.servers.clusters import own_postgres_in
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

LEASE = 15.0


def quick(settings: Settings, **values: Any) -> Settings:
    """The settings with short waits."""
    return settings.model_copy(update={"heartbeat_seconds": 0.05, "rescue_interval_seconds": 0.01, **values})


def rescuer(settings: Settings, database: Database, runway: Runway | None = None) -> Rescuer:
    """A rescuer that needs not wait for heartbeats."""
    at_once = quick(settings).model_copy(update={"heartbeat_seconds": 0.0})
    return Rescuer(at_once, database, lambda _seconds: None, runway)


# Leases


def test_a_renewal_is_refused_once_the_lease_ended(make_job: JobFactory, database: Database) -> None:
    """A late renewal is good while nobody ended the lease; afterwards it never is."""
    late, ended = make_job.worker(silent_seconds=600), make_job.worker()
    with database.autocommit() as connection:
        worker_store.stop(connection, ended)
        assert worker_store.renew(connection, late, busy=2)
        assert not worker_store.renew(connection, ended, busy=0)
        assert not worker_store.renew(connection, 10**9, busy=0)
        assert lease_store.end_lost(connection, lease_seconds=LEASE) == []


@pytest.mark.parametrize("silent", [0.0, LEASE - 1])
def test_a_worker_within_its_lease_is_left_alone(
    make_job: JobFactory, database: Database, silent: float
) -> None:
    """Nobody's lease ends before its time."""
    make_job.worker(silent_seconds=silent)
    with database.autocommit() as connection:
        assert lease_store.end_lost(connection, lease_seconds=LEASE) == []


def test_a_worker_holds_what_runs_under_its_id(make_job: JobFactory, database: Database) -> None:
    """`held` is the (id, fence) of the running jobs of this worker, and of nobody else's."""
    mine, other = make_job.worker(), make_job.worker()
    job = make_job("running", worker_id=mine, fence=3)
    make_job("running", worker_id=other)
    make_job("queued")
    with database.autocommit() as connection:
        assert lease_store.held(connection, mine) == {(job.id, 3)}


def test_threads_are_counted_by_queue(make_job: JobFactory, database: Database) -> None:
    """Only threads of live workers count, for each queue that they listen to."""
    make_job.worker(queues=["a", "b"], threads=4)
    make_job.worker(queues=["b"], threads=2)
    make_job.worker(queues=["a"], threads=8, silent_seconds=LEASE + 1)
    with database.autocommit() as connection:
        worker_store.stop(connection, make_job.worker(queues=["c"]))
        assert slots_by_queue(connection, lease_seconds=LEASE) == {"a": 4, "b": 6}


# The rescuer


def test_jobs_of_a_silent_worker_are_taken_back(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """One round ends the lease and takes the jobs back; the next has nothing to do."""
    silent = make_job.worker(silent_seconds=LEASE + 1)
    dies_again = {"quarantined": True, "suspicion": 2, "deaths": 2}
    jobs = [make_job("running", worker_id=silent), make_job("running", worker_id=silent, **dies_again)]
    kept = make_job("running")
    service = rescuer(settings, database)
    assert service.run_once() == {"expired": 1, "rescued": 1, "failed": 1, "cancelled": 0}
    assert service.run_once() == {"expired": 0, "rescued": 0, "failed": 0, "cancelled": 0}
    with database.autocommit() as connection:
        states = [job_store.get(connection, job.id).status for job in (*jobs, kept)]
    assert states == ["queued", "failed", "running"]


def test_a_new_rescuer_waits_before_it_judges(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """It cannot know whether PostgreSQL was away: it ends no lease for two heartbeats, and then it does."""
    make_job.worker(silent_seconds=LEASE + 1)
    service = Rescuer(quick(settings, heartbeat_seconds=3600.0), database, lambda _seconds: None)
    assert service.run_once()["expired"] == 0
    service = Rescuer(quick(settings), database, lambda _seconds: None)
    wait_until(lambda: service.run_once()["expired"] == 1, what="the end of the lease")


def test_a_worker_that_said_goodbye_is_rescued_at_once(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """What a stopped worker left behind needs no waiting."""
    stopped = make_job.worker()
    job = make_job("running", worker_id=stopped)
    with database.autocommit() as connection:
        worker_store.stop(connection, stopped)
    service = Rescuer(quick(settings, heartbeat_seconds=3600.0), database, lambda _seconds: None)
    assert service.run_once()["rescued"] == 1
    with database.autocommit() as connection:
        assert job_store.get(connection, job.id).quarantined


def test_what_runs_is_looked_at_when_a_lease_has_ended(
    make_job: JobFactory, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round between two ends does not look at what runs; every end is seen, whatever their order."""
    monkeypatch.setattr(rescuer_module, "LOOKS_AFTER_END_SECONDS", 0.0)
    looks: list[int] = []
    look = rescue

    def counted(*arguments: Any, **options: Any) -> list[Rescued]:
        looks.append(1)
        return look(*arguments, **options)

    monkeypatch.setattr(rescuer_module, "rescue", counted)
    service = Rescuer(quick(settings, heartbeat_seconds=3600.0), database, lambda _seconds: None)
    first, second = make_job.worker(), make_job.worker()
    jobs = [make_job("running", worker_id=worker) for worker in (first, second)]
    assert [service.run_once()["rescued"] for _ in range(3)] == [0, 0, 0]
    assert len(looks) == 1
    for number, worker in enumerate((second, first), 1):
        with database.autocommit() as connection:
            worker_store.stop(connection, worker)
        assert [service.run_once()["rescued"] for _ in range(2)] == [1, 0]
        assert len(looks) == 1 + number
    with database.autocommit() as connection:
        assert {job_store.get(connection, job.id).status for job in jobs} == {JobStatus.QUEUED}


def test_a_look_goes_on_while_there_is_something_to_take_back(
    make_job: JobFactory, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost worker with more jobs than one look takes has them all taken back, a round after the other."""
    seconds = iter(range(0, 100, 2))  # a round asks twice
    monkeypatch.setattr(rescuer_module, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(rescuer_module, "rescue", functools.partial(rescue, limit=1))
    service = rescuer(settings, database)
    service._judges_from = math.inf  # noqa: SLF001  (a clock that went on)
    worker = make_job.worker()
    for _ in range(4):
        make_job("running", worker_id=worker)
    with database.autocommit() as connection:
        worker_store.stop(connection, worker)
    assert [service.run_once()["rescued"] for _ in range(5)] == [1, 1, 1, 1, 0]


def test_a_look_after_an_end_passes_by_what_others_run(make_job: JobFactory, database: Database) -> None:
    """It goes from the workers that have ended to their jobs, however much runs elsewhere."""
    lost = make_job.worker()
    left = make_job("running", worker_id=lost)
    others = [make_job("running") for _ in range(50)]
    for _ in range(12):
        # Until the session keeps its plan.
        with database.transaction() as connection:
            assert rescue(connection, max_deaths=3, of_ended=True) == []
    with database.autocommit() as connection:
        worker_store.stop(connection, lost)
    with database.transaction() as connection:
        rescued = rescue(connection, max_deaths=3, of_ended=True)
        rows = rows_read(connection, "running_jobs")
    assert [job.id for job in rescued] == [left.id]
    # Looked up, and deleted.
    assert rows <= 2
    with database.transaction() as connection:
        assert rescue(connection, max_deaths=3) == []
        assert {job_store.get(connection, job.id).status for job in others} == {JobStatus.RUNNING}


def test_a_look_that_failed_is_due_again(
    make_job: JobFactory, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that was seen by a round without PostgreSQL is seen by the next one as well."""
    monkeypatch.setattr(rescuer_module, "LOOKS_AFTER_END_SECONDS", 0.0)
    service = rescuer(settings, database)
    service.run_once()
    worker = make_job.worker()
    make_job("running", worker_id=worker)
    with database.autocommit() as connection:
        worker_store.stop(connection, worker)
    with monkeypatch.context() as outage:
        outage.setattr(rescuer_module, "rescue", unavailable)
        with pytest.raises(DatabaseUnavailableError):
            service.run_once()
    assert service.run_once()["rescued"] == 1


def unavailable(*_: Any, **__: Any) -> None:
    """What a statement does without PostgreSQL."""
    raise DatabaseUnavailableError("away")


def test_what_runs_is_looked_at_now_and_then(
    make_job: JobFactory, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose worker is not even remembered is found although no lease ends."""
    service = rescuer(settings, database)
    service.run_once()
    job = make_job("running", worker_id=make_job.worker())
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM workers")
    monkeypatch.setattr(service, "_looks_at", 0.0)
    assert service.run_once()["rescued"] == 1
    with database.autocommit() as connection:
        assert job_store.get(connection, job.id).status is JobStatus.QUEUED


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that the tests stop."""
    with own_postgres_in(tmp_path_factory.mktemp("own")) as server:
        yield server


def test_after_an_outage_nobody_is_judged_by_silence(
    own_postgres: EmbeddedPostgres, settings: Settings
) -> None:
    """Workers could not renew while PostgreSQL was away: the rescuer gives them two heartbeats first."""
    own = settings.model_copy(
        update={"database_url": SecretStr(own_postgres.url), "heartbeat_seconds": 3600.0}
    )
    database = Database(own)
    service = rescuer(own, database)
    service._settings = own  # noqa: SLF001  (settings that change while it runs)
    make_job = JobFactory(database)
    silent = make_job.worker(silent_seconds=LEASE + 1)
    make_job("running", worker_id=silent)
    own_postgres.stop()
    with pytest.raises(DatabaseUnavailableError):
        service.run_once()
    own_postgres.start()
    assert service.run_once() == {"expired": 0, "rescued": 0, "failed": 0, "cancelled": 0}
    with database.autocommit() as connection:
        assert worker_store.renew(connection, silent, busy=1)
    service._judges_from = 0.0  # noqa: SLF001  (a clock that went on)
    assert service.run_once()["expired"] == 0
    database.close()


# Clocks


@pytest.fixture
def shifted(tmp_path: Path, settings: Settings) -> Iterator[tuple[Settings, Database]]:
    """A PostgreSQL of its own whose clock can be set."""
    with EmbeddedPostgres(tmp_path / "shifted") as server:
        own = settings.model_copy(update={"database_url": SecretStr(server.url)})
        database = Database(own)
        upgrade(database)
        shifted_clock.install(database)
        yield own, database
        database.close()


@pytest.mark.parametrize("step", [pytest.param(120.0, id="forward"), pytest.param(-120.0, id="back")])
def test_after_a_step_of_the_clock_nobody_is_judged_for_a_lease(
    shifted: tuple[Settings, Database], step: float
) -> None:
    """Who lives renews meanwhile and keeps its jobs; who does not is found after a lease."""
    settings, database = shifted
    service = rescuer(settings, database)
    make_job = JobFactory(database)
    living, dead = make_job.worker_id, make_job.worker()
    jobs = [make_job("running", worker_id=worker) for worker in (living, dead)]
    idle = {"expired": 0, "rescued": 0, "failed": 0, "cancelled": 0}
    assert service.run_once() == idle
    shifted_clock.set_clock(database, step)
    assert service.run_once() == idle
    assert service._trusts_clocks_from > time.monotonic() + LEASE / 2  # noqa: SLF001  (a clock that went on)
    with database.autocommit() as connection:
        assert worker_store.renew(connection, living, busy=1)
    service._trusts_clocks_from = 0.0  # noqa: SLF001  (a clock that went on)
    assert service.run_once() == idle | {"expired": 1, "rescued": 1}
    with database.autocommit() as connection:
        assert [job_store.get(connection, job.id).status for job in jobs] == ["running", "queued"]


def test_a_rescuer_that_stood_still_judges_nobody_for_a_lease(
    make_job: JobFactory, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything may have been stopped with it: who was silent meanwhile keeps its lease, and can renew."""
    service = rescuer(settings, database)
    service.run_once()
    silent = make_job.worker(silent_seconds=LEASE + 1)
    clock = time.monotonic
    monkeypatch.setattr(clock_watch, "time", SimpleNamespace(monotonic=lambda: clock() + 25))
    assert service.run_once()["expired"] == 0
    with database.autocommit() as connection:
        assert worker_store.renew(connection, silent, busy=1)


# Lost together


@pytest.mark.parametrize(
    ("host", "together"),
    [
        pytest.param([(20, True)], set(), id="its only process"),
        pytest.param([(20, True), (20, True)], {0, 1}, id="the whole host at once"),
        pytest.param([(20, True), (31, True)], {0, 1}, id="the whole host within a lease"),
        pytest.param([(20, True), (40, True)], set(), id="one long after the other"),
        pytest.param([(20, True), (0, False)], set(), id="one of two"),
        pytest.param([(20, True), (21, True), (0, False)], {0, 1}, id="two of three at the same moment"),
        pytest.param([(20, True), (28, True), (0, False)], set(), id="two of three apart"),
        pytest.param([(20, True), (19, False)], {0}, id="the other one is as silent, and not judged yet"),
        pytest.param([(20, True), (20, None)], set(), id="the other one said goodbye"),
    ],
)
def test_who_was_lost_together(
    make_job: JobFactory, database: Database, host: list[tuple[float, bool | None]], together: set[int]
) -> None:
    """All processes of a host within a lease, or some at the same moment; a goodbye is no loss."""
    workers = [make_job.worker(silent_seconds=silent, hostname="a") for silent, _ in host]
    # Of other hosts, and never together with these.
    make_job.worker(hostname="b")
    other = make_job.worker(silent_seconds=20, hostname="c")
    with database.autocommit() as connection:
        lease_store.end_gone(connection, [other])
        for worker, (_, lost) in zip(workers, host, strict=True):
            if lost:
                lease_store.end_gone(connection, [worker])
            elif lost is None:
                worker_store.stop(connection, worker)
        found = lease_store.lost_together(connection, heartbeat_seconds=3, lease_seconds=15)
    assert set(found) == {workers[place] for place in together}


def test_jobs_of_a_lost_host_are_pushed_to_the_front(
    make_job: JobFactory, database: Database, settings: Settings, runway: Runway
) -> None:
    """They start before what waits already, and are no suspects."""
    workers = [make_job.worker(silent_seconds=LEASE + 1) for _ in range(2)]
    jobs = [make_job("running", worker_id=worker) for worker in workers]
    waiting = make_job()
    runway.submit("default", [Message(waiting.id, 0)])
    service = rescuer(settings, database, runway)
    assert service.run_once()["rescued"] == 2
    messages = parse(runway.fetch("default", 9, block_seconds=0.01)).messages
    assert [message.job_id for message in messages] == [*(job.id for job in jobs), waiting.id]
    with database.autocommit() as connection:
        assert not any(job_store.get(connection, job.id).quarantined for job in jobs)
