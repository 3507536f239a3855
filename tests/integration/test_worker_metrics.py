"""What a worker counts of the jobs that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goqueue import actor
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import Discard, StartupError
from goqueue.instance import default
from goqueue.jobs import JobStatus
from goqueue.scheduler.rescuer import Rescuer
from goqueue.worker.group_folder import GroupFolder, SignOfLife
from goqueue.worker.health import Heartbeats
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.jobs.noop_jobs import NoopPayload
from tests.support.waiting import wait_until


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick, and only one retry."""
    return QUICK | {"max_retries": 1}


class OddError(Exception):
    """A user's own."""


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine with types that fail in their ways."""
    with process_of(settings) as broker:

        @actor(queue="counted", name="fails")
        def fails(_payload: NoopPayload) -> None:
            raise OddError("again")

        @actor(queue="counted", name="discards")
        def discards(_payload: NoopPayload) -> None:
            raise Discard("no")

        @actor(queue="late", name="late", min_backoff_seconds=60.0, max_backoff_seconds=60.0)
        def late(_payload: NoopPayload) -> None:
            raise OddError("there is no time for another")

        @actor(queue="counted", name="works")
        def works(_payload: NoopPayload) -> None:
            pass

        with Engine(broker) as running:
            yield running


def test_failures_are_counted_by_what_became_of_them(engine: Engine) -> None:
    """A retry counts as one, a dead letter by the class of its exception, and both by queue and type."""
    actors = engine.broker.actors
    engine.wait_for(default().create(actors["fails"], {}), JobStatus.FAILED, attempts=2)
    engine.wait_for(default().create(actors["discards"], {}), JobStatus.FAILED)
    engine.wait_for(default().create(actors["works"], {}), JobStatus.COMPLETED)
    wait_until(lambda: counted("jobs_processed_total", queue="counted", status="completed") == 1)
    of_type = {"queue": "counted", "type": "fails"}
    assert counted("jobs_retried_total", **of_type) == 1
    assert counted("jobs_failed_total", **of_type, error="OddError") == 1
    assert counted("jobs_failed_total", queue="counted", type="discards", error="Discard") == 1
    assert counted("jobs_processed_total", queue="counted", status="queued") == 1
    assert counted("jobs_processed_total", queue="counted", status="failed") == 2
    assert counted("job_duration_seconds_count", queue="counted") == 4
    assert counted("job_wait_seconds_count", queue="counted") == 4
    assert 0 <= counted("job_wait_seconds_sum", queue="counted") < 60
    assert counted("recorder_batch_size_sum") >= 4


def test_a_retry_that_the_record_refuses_counts_as_the_failure_that_it_is(engine: Engine) -> None:
    """Its deadline comes before the retry: the job is a dead letter, and no retry was counted."""
    engine.wait_for(default().create(engine.broker.actors["late"], {}, deadline_seconds=20), JobStatus.FAILED)
    wait_until(lambda: counted("jobs_processed_total", queue="late", status="failed") == 1)
    assert counted("jobs_failed_total", queue="late", type="late", error="OddError") == 1
    assert counted("jobs_retried_total", queue="late", type="late") == 0
    assert counted("jobs_processed_total", queue="late", status="queued") == 0


def test_a_dead_worker_makes_dead_letters_too(
    settings: Settings, database: Database, make_job: JobFactory
) -> None:
    """A job that is failed without an exception counts by its reason."""
    silent = make_job.worker(silent_seconds=100)
    dies_again = {"quarantined": True, "suspicion": 2, "deaths": 2}
    make_job("running", queue="dead", worker_id=silent, **dies_again)
    make_job("running", queue="dead", worker_id=silent, attempts=1, max_retries=3)
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET stopped_at = now()")
    rescued = counted("jobs_rescued_total", status="queued")
    Rescuer(settings, database, bool).run_once()
    assert counted("jobs_failed_total", queue="dead", type="noop", error="worker_died") == 1
    assert counted("jobs_rescued_total", status="queued") == rescued + 1


def test_the_slowest_consumer_is_what_counts() -> None:
    """One consumer that does not turn makes the process old, however much the others turn."""
    heartbeats = Heartbeats()
    assert heartbeats.oldest(7.0) == 7.0
    heartbeats.turn("stuck")
    before = heartbeats.oldest(7.0)
    for _ in range(3):
        heartbeats.turn("other")
    assert heartbeats.oldest(7.0) == before


@pytest.fixture
def folder(settings: Settings, tmp_path: Any) -> Callable[[], GroupFolder]:
    """Makes views of one group's folder."""
    chosen = settings.model_copy(update={"metrics_folder": str(tmp_path / "group")})
    return lambda: GroupFolder(chosen)


def test_a_sign_of_life_goes_with_its_process(folder: Callable[[], GroupFolder]) -> None:
    """A sign is seen while its process is there; what a dead one left is removed."""
    group = folder()
    group.heartbeat(SignOfLife(1.5, ready=True, draining=False))
    group.heartbeat(SignOfLife(2.5, ready=False, draining=True))
    (group.path / "4194999.life").write_bytes(bytes(10))
    assert list(group.signs().values()) == [SignOfLife(2.5, ready=False, draining=True)]
    assert not (group.path / "4194999.life").exists()
    group.leave()
    assert folder().signs() == {}


def test_one_of_a_group_may_serve(folder: Callable[[], GroupFolder]) -> None:
    """The first that asks serves, again and again; another one only after it has left."""
    first, second = folder(), folder()
    assert [first.may_serve(), first.may_serve(), second.may_serve()] == [True, True, False]
    first.leave()
    assert second.may_serve()
    second.leave()


def test_somebody_elses_folder_is_refused(settings: Settings, tmp_path: Any) -> None:
    """A link that another user may have put there is not followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StartupError, match="not a folder of this user"):
        GroupFolder(settings.model_copy(update={"metrics_folder": str(tmp_path / "link")}))
