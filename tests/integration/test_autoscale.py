"""What a queue asks of its workers: what is measured of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.errors import QueueNotFoundError
from goqueue.insight import demand_rows as demand
from goqueue.insight.autoscale import DEFAULT_SLO_WAIT_SECONDS, Autoscale, RunTimes
from goqueue.insight.autoscaling import autoscale_queue, slots_per_worker
from tests.support.engine import process_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


def measured(database: Database, settings: Settings, queue: str = "measured", **arguments: Any) -> Autoscale:
    """The answer about a queue."""
    values: dict[str, Any] = {
        "declared_queues": (),
        "window_seconds": 300.0,
        "assumed_run_seconds": 1.0,
    } | arguments
    return autoscale_queue(database, settings, queue, **values)


def test_what_waits_is_measured(make_job: JobFactory, database: Database, settings: Settings) -> None:
    """Jobs that could start now count, with the age of the oldest; others do not."""
    past = datetime.now(UTC) - timedelta(seconds=90)
    make_job(queue="measured", available_at=past, rank=past)
    make_job(queue="measured")
    make_job(queue="other", available_at=past - timedelta(hours=1), rank=past)
    make_job(queue="measured", available_at=datetime(2100, 1, 1, tzinfo=UTC))
    make_job("blocked", queue="measured")
    found = measured(database, settings).demand
    assert found.backlog == 2
    assert 89 <= found.oldest_age_seconds <= 120


def test_arrivals_are_counted_in_the_window(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """What came in the window and could start counts once; what waits for its time, when that is near."""
    now = datetime.now(UTC)
    for status in ("queued", "running", "completed", "failed"):
        make_job(status, queue="measured")
    make_job("blocked", queue="measured")
    make_job("completed", queue="other")
    make_job("completed", queue="measured", created_at=now - timedelta(seconds=400))
    make_job(queue="measured", available_at=now + timedelta(seconds=200))
    make_job(queue="other", available_at=now + timedelta(seconds=200))
    make_job(queue="measured", available_at=now + timedelta(seconds=400))
    found = measured(database, settings).demand
    assert (found.arrivals, found.arrivals_seconds, found.due, found.due_seconds) == (4, 300, 1, 300)
    assert found.arrival_rate == pytest.approx(5 / 300)
    wider = measured(database, settings, window_seconds=500.0).demand
    assert (wider.arrivals, wider.due) == (5, 2)


def arrive(database: Database, *, jobs: int, seconds: float) -> None:
    """So many jobs of the queue, each created at a moment of its own, evenly over the last seconds."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('measured') ON CONFLICT DO NOTHING")
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, available_at, created_at, finished_at) "
            "SELECT 'measured', 'noop', 'completed', '{}', moment, moment, now() FROM (SELECT now() - "
            "make_interval(secs => %(seconds)s * n / %(jobs)s) AS moment "
            "FROM generate_series(%(jobs)s, 1, -1) AS n) AS moments",
            {"jobs": jobs, "seconds": seconds},
        )


def test_a_high_rate_is_told_by_the_newest_arrivals(database: Database, settings: Settings) -> None:
    """Where more came than are looked at, the rate is that of the newest."""
    arrive(database, jobs=12_000, seconds=120)
    found = measured(database, settings).demand
    assert found.arrivals == demand.ARRIVALS_MAX - 1
    assert found.arrival_rate == pytest.approx(100, rel=0.1)


def test_a_batch_is_a_backlog_and_no_rate(database: Database, settings: Settings) -> None:
    """Thousands of jobs of one moment are spread over the window."""
    arrive(database, jobs=demand.ARRIVALS_MAX + 10, seconds=0)
    found = measured(database, settings).demand
    assert (found.arrivals, found.arrivals_seconds) == (demand.ARRIVALS_MAX, 300)


def test_runs_of_every_attempt_count(make_job: JobFactory, database: Database, settings: Settings) -> None:
    """The mean run is over attempts, not over jobs, and over those of this queue alone."""
    twice = make_job("completed", queue="measured")
    make_job.attempt(twice, run_seconds=1.0)
    make_job.attempt(twice, "completed", fence=2, run_seconds=3.0)
    make_job.attempt(make_job("failed", queue="measured"), run_seconds=5.0)
    make_job.attempt(make_job("completed", queue="other"), "completed", run_seconds=500.0)
    answer = measured(database, settings)
    assert answer.demand.ended == 3
    assert answer.run_seconds == pytest.approx(3.0)


def test_what_runs_counts_as_long_as_it_has(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """A job that has run for ten minutes says so before it ends."""
    for queue, seconds in (("measured", 600), ("other", 6000)):
        then = datetime.now(UTC) - timedelta(seconds=seconds)
        make_job("running", queue=queue, created_at=then, started_at=then)
    answer = measured(database, settings)
    assert answer.demand.run_times is RunTimes.RUNNING
    assert answer.run_seconds == pytest.approx(600, abs=30)
    assert answer.threads_needed == 1


def test_live_workers_of_the_queue_are_counted(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """Threads of silent workers, and of those that serve others, are none."""
    make_job.worker(queues=["measured", "other"], threads=5)
    make_job.worker(queues=["measured"], threads=3)
    make_job.worker(queues=["other"], threads=7)
    make_job.worker(queues=["measured"], threads=11, silent_seconds=60)
    make_job(queue="measured")
    found = measured(database, settings).demand
    assert (found.workers, found.threads) == (2, 8)


def test_the_objective_is_the_queues_or_the_default(settings: Settings) -> None:
    """From Python, too: without an objective of its own the default is taken, and the answer says so."""
    with process_of(settings):

        @goqueue.actor(name="measure", queue="measured")
        def measure() -> None:
            """Do nothing."""

        before = goqueue.autoscale("measured").objective
        goqueue.configure_queue("measured", slo_wait_seconds=2, slo_objective=0.9)
        after = goqueue.autoscale("measured", window_seconds=60).objective
        with pytest.raises(QueueNotFoundError):
            goqueue.autoscale("nosuch")
    assert (before.wait_seconds, before.part, before.is_default) == (DEFAULT_SLO_WAIT_SECONDS, 0.99, True)
    assert (after.wait_seconds, after.part, after.is_default) == (2, 0.9, False)


def test_pauses_and_limits_are_regarded(make_job: JobFactory, database: Database, settings: Settings) -> None:
    """A pause that lasts leaves nothing to do; one that is over does not; a limit is the most."""
    for _ in range(5):
        make_job(queue="measured", created_at=datetime.now(UTC) - timedelta(hours=1))
    needed = measured(database, settings, assumed_run_seconds=60.0)
    assert (needed.threads_needed, needed.limited_by) == (5, None)
    for columns, expected in {
        "paused_at = now()": (0, "paused"),
        "paused_at = now() - interval '1 hour', paused_until = now()": (5, None),
        "paused_at = NULL, paused_until = NULL, throttled_until = now() + interval '1 hour'": (0, "paused"),
        "throttled_until = NULL, concurrency = 2": (2, "concurrency"),
    }.items():
        with database.autocommit() as connection:
            connection.exec_driver_sql(f"UPDATE queues SET {columns} WHERE name = 'measured'")
        answer = measured(database, settings, assumed_run_seconds=60.0)
        assert (answer.threads_needed, answer.limited_by) == expected


# Slots of event loops, and labels


def test_async_slots_count_as_threads_do(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """A queue of async types is served by the slots of its workers' loops, however few threads they have."""
    make_job.worker(queues=["measured", "other"], threads=2, queue_slots=[100, 2])
    make_job.worker(queues=["other", "measured"], threads=2, queue_slots=[2, 50])
    make_job.worker(queues=["measured"], threads=3)
    for _ in range(60):
        make_job("running", queue="measured", started_at=datetime.now(UTC) - timedelta(seconds=5))
    answer = measured(database, settings)
    found = answer.demand
    assert (found.workers, found.threads, found.slots, found.process_slots) == (3, 7, 153, None)
    assert answer.kept_now == pytest.approx(1)
    assert measured(database, settings, "other", declared_queues=["other"]).demand.slots == 4
    assert slots_per_worker(answer, settings) == settings.worker_processes * settings.worker_threads


def test_a_group_of_async_workers_that_is_gone_is_remembered(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """Scaled to nothing, the next worker is expected to have as many slots as the last one."""
    make_job.worker(queues=["other", "measured"], threads=2, queue_slots=[2, 50], silent_seconds=100)
    make_job(queue="measured")
    answer = measured(database, settings)
    assert (answer.demand.slots, answer.demand.process_slots) == (0, 50)
    assert slots_per_worker(answer, settings) == settings.worker_processes * 50


def labelled(*labels: str) -> KnownTypes:
    """What a worker with these labels knows."""
    return KnownTypes({"noop": "1"}, labels=labels, slots=4)


def test_jobs_that_require_labels_count_for_those_that_have_them(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """Each set of labels is told with its need and lack; a group of workers may be asked about alone."""
    make_job.worker(queues=["measured"], threads=4, known=labelled())
    make_job.worker(queues=["measured"], threads=4, known=labelled("gpu=true", "region=eu"))
    past = datetime.now(UTC) - timedelta(hours=1)
    for requires, jobs in ((None, 40), (["gpu=true"], 200), (["disk=big"], 60)):
        for _ in range(jobs):
            make_job(queue="measured", requires=requires, created_at=past, rank=past)
    answer = measured(database, settings)
    assert answer.demand.backlog == 300
    # 200 s of work within 30 s.
    assert [(need.requires, need.answer.threads_needed, need.missing) for need in answer.label_needs] == [
        (("gpu=true",), 7, 3),
        (("disk=big",), 2, 2),
    ]
    assert [need.answer.demand.slots for need in answer.label_needs] == [4, 0]
    asked = {
        name: measured(database, settings, labels=labels)
        for name, labels in {
            "plain": {},
            "gpu": {"gpu": True},
            "gpu and more": {"gpu": "true", "region": "eu", "disk": "big"},
        }.items()
    }
    assert {name: (one.demand.backlog, one.demand.threads) for name, one in asked.items()} == {
        "plain": (40, 4),
        "gpu": (200, 4),
        "gpu and more": (260, 0),
    }
    with pytest.raises(ValueError, match="expected names"):
        measured(database, settings, labels={"?": "x"})


def test_who_runs_counts_for_its_labels(make_job: JobFactory, database: Database, settings: Settings) -> None:
    """Jobs that run keep the slots that they have: no fewer are needed of workers with these labels."""
    for requires in (["gpu=true"], ["gpu=true"], None):
        make_job("running", queue="measured", requires=requires, started_at=datetime.now(UTC))
    (need,) = measured(database, settings).label_needs
    assert (need.requires, need.answer.demand.running, need.missing) == (("gpu=true",), 2, 2)
