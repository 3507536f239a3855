"""The cron scheduler on a real PostgreSQL, with a clock that the test sets."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goqueue import actor, cron, failpoints
from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.errors import ConfigurationError, UnavailableError
from goqueue.instance import default
from goqueue.jobs import JobStatus, NewJob
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.rules import Schedule, ScheduleDefinition, Source
from goqueue.schedules.service import CronScheduler
from goqueue.schedules.settings import ScheduleSettings
from goqueue.schedules.tick_rows import TickRow
from tests.support.engine import process_of
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def definition(name: str = "report", cron: str = "* * * * *", **said: Any) -> ScheduleDefinition:
    """A schedule of no-op jobs."""
    job = NewJob(queue="noop", type="noop", payload='{"number":1}', priority=2)
    return ScheduleSettings.model_validate({"cron": cron, **said}).definition(name, job, Source.API)


class Stage:
    """A scheduler and its clock."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.now = NOON
        self.woken = 0
        self.scheduler = CronScheduler(
            settings, database, threading.Event().wait, self._wake, clock=lambda: self.now
        )

    def _wake(self) -> None:
        self.woken += 1

    def create(self, *args: Any, **said: Any) -> Schedule:
        """A schedule whose first tick is the first one after noon."""
        made = scheduling.create(self.database, definition(*args, **said))
        return self.set_next(made, NOON)

    def set_next(self, made: Schedule, after: datetime) -> Schedule:
        """Let the schedule go on behind a time."""
        with self.database.transaction() as connection:
            old = schedule_store.lock(connection, made.definition.name)
            first = scheduling._first(old.definition, after)  # noqa: SLF001  (the first tick behind a time of the test)
            return schedule_store.update(connection, old.id, old.definition, first)

    def at(self, minutes: float) -> dict[str, int]:
        """One round of the scheduler, so many minutes after noon; what it counted, but for zeros."""
        self.now = NOON + minutes * MINUTE
        return {name: count for name, count in self.scheduler.run_once().items() if count}

    def ticks(self, name: str = "report") -> list[TickRow]:
        """The decided ticks, the oldest first."""
        with self.database.autocommit() as connection:
            made = schedule_store.get(connection, name)
            return tick_store.page(connection, made.id, before=None, limit=1000)[::-1]

    def outcomes(self) -> list[tuple[int, str]]:
        """Minutes after noon, and what was decided."""
        return [(int((tick.nominal_at - NOON) / MINUTE), tick.outcome) for tick in self.ticks()]

    def jobs(self) -> list[int]:
        """The jobs of the ticks, the oldest first."""
        return [tick.job_id for tick in self.ticks() if tick.job_id is not None]

    def status(self, job_id: int) -> JobStatus:
        """A job's status."""
        with self.database.autocommit() as connection:
            return job_store.get(connection, job_id).status

    def count(self, table: str) -> int:
        """How many rows there are."""
        with self.database.autocommit() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


@pytest.fixture
def stage(settings: Settings, database: Database) -> Stage:
    """A scheduler with a clock."""
    return Stage(settings, database)


def test_a_due_tick_creates_its_job(stage: Stage) -> None:
    """When its time has come a tick creates one job, as the schedule says, and wakes the dispatcher."""
    stage.create()
    assert stage.at(0.9) == {}
    assert stage.at(1) == {"fired": 1}
    assert stage.at(1.5) == {}
    (tick,) = stage.ticks()
    assert (tick.nominal_at, tick.kind, tick.outcome) == (NOON + MINUTE, "scheduled", "fired")
    assert tick.job_id is not None
    with stage.database.autocommit() as connection:
        job = job_store.get(connection, tick.job_id)
    assert (job.queue, job.type, job.payload, job.priority) == ("noop", "noop", {"number": 1}, 2)
    assert stage.woken == 1


def test_the_clock_is_that_of_postgresql(settings: Settings, database: Database) -> None:
    """Without a clock of its own a scheduler decides by PostgreSQL's."""
    made = scheduling.create(database, definition())
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = date_trunc('minute', now()), due_at = date_trunc('minute', now())"
        )
    scheduler = CronScheduler(settings, database, threading.Event().wait)
    assert scheduler.run_once()["fired"] == 1
    with database.autocommit() as connection:
        after = schedule_store.get(connection, made.definition.name)
    assert after.next_at is not None
    assert after.next_at > schedule_store.now(connection)


def test_the_overlap_policy_skip(stage: Stage) -> None:
    """By `skip` a tick does nothing while a job of an earlier one is unfinished."""
    stage.create(overlap="skip")
    stage.at(1)
    assert stage.at(2) == {"overlapped": 1}
    set_status(stage.database, stage.jobs()[0], "completed")
    assert stage.at(3) == {"fired": 1}
    assert stage.outcomes() == [(1, "fired"), (2, "overlapped"), (3, "fired")]


def test_the_overlap_policy_queue(stage: Stage) -> None:
    """By `queue` the job of a tick is blocked until those of earlier ones have finished."""
    stage.create(overlap="queue")
    for minute in (1, 2, 3):
        assert stage.at(minute) == {"fired": 1}
    first, second, third = stage.jobs()
    statuses = [stage.status(job_id) for job_id in (first, second, third)]
    assert statuses == [JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.BLOCKED]
    with stage.database.autocommit() as connection:
        edges = connection.exec_driver_sql(
            "SELECT job_id, parent_id, on_parent_failure FROM dependencies ORDER BY job_id, parent_id"
        ).fetchall()
    assert [tuple(edge) for edge in edges] == [
        (second, first, "run"),
        (third, first, "run"),
        (third, second, "run"),
    ]


def test_the_overlap_policy_cancel_running(stage: Stage, make_job: JobFactory) -> None:
    """By `cancel_running` jobs of earlier ticks are cancelled; one that a worker holds is asked to stop."""
    stage.create(overlap="cancel_running")
    stage.at(1)
    stage.at(2)
    first, second = stage.jobs()
    assert [stage.status(job_id) for job_id in (first, second)] == [JobStatus.CANCELLED, JobStatus.QUEUED]
    with stage.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'running', rank = NULL, attempts = 1, fence = 1, started_at = now(), "
            "worker_id = %(worker)s WHERE id = %(id)s",
            {"worker": make_job.worker_id, "id": second},
        )
    stage.at(3)
    third = stage.jobs()[2]
    assert [stage.status(job_id) for job_id in (second, third)] == [JobStatus.RUNNING, JobStatus.BLOCKED]
    with stage.database.autocommit() as connection:
        assert job_store.get(connection, second).cancel_requested_at is not None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("skip", [(1, "missed"), (2, "missed"), (3, "missed")]),
        ("once", [(1, "missed"), (2, "missed"), (3, "fired")]),
        ("all", [(1, "fired"), (2, "fired"), (3, "fired")]),
    ],
)
def test_missed_ticks_are_recorded(stage: Stage, policy: str, expected: list[tuple[int, str]]) -> None:
    """When every scheduler was away, each missed tick has a row that says what became of it."""
    stage.create(catch_up=policy)
    stage.at(3.9)
    assert stage.outcomes() == expected
    assert stage.count("jobs") == sum(outcome == "fired" for _, outcome in expected)
    assert stage.at(4) == {"fired": 1}


def test_ticks_in_a_blackout_are_recorded(stage: Stage) -> None:
    """A tick in a blackout has a row and no job; by `after` the last one has its job at the end."""
    stage.create(blackouts=[{"start": "12:02", "end": "12:04"}], blackout_policy="after")
    for minute in (1, 2, 3, 3.5):
        stage.at(minute)
    assert stage.outcomes() == [(1, "fired"), (2, "blacked_out"), (3, "blacked_out")]
    assert stage.at(4) == {"fired": 1}, "a tick that comes right at the end stands for them"


def test_after_a_blackout_one_job_is_created(stage: Stage) -> None:
    """By `after`, where no tick comes at its end, the last one of the blackout fires then."""
    stage.create(cron="*/5 * * * *", blackouts=[{"start": "12:04", "end": "12:13"}], blackout_policy="after")
    assert [stage.at(minute) for minute in (5, 10, 12.9, 13, 14)] == [
        {"blacked_out": 1},
        {},
        {},
        {"fired": 1},
        {},
    ]
    assert stage.outcomes() == [(5, "blacked_out"), (10, "fired")]


def test_a_paused_schedule_decides_nothing(stage: Stage) -> None:
    """While it is paused nothing is decided, and after the resume nothing is made up for."""
    made = stage.create(catch_up="all")
    scheduling.pause(stage.database, "report", author="ada", reason=None)
    assert stage.at(5) == {}
    assert stage.ticks() == []
    resumed = scheduling.resume(stage.database, "report")
    assert resumed.next_at is not None
    assert resumed.next_at > made.created_at


def test_two_schedulers_share_the_work(settings: Settings, stage: Stage) -> None:
    """A schedule whose row another scheduler has locked is left to it; then it is decided already."""
    stage.create()
    other = CronScheduler(settings, stage.database, threading.Event().wait, clock=lambda: NOON + MINUTE)
    with stage.database.transaction() as connection:
        schedule_store.lock(connection, "report")
        assert sum(other.run_once().values()) == 0
    assert other.run_once()["fired"] == 1
    assert stage.at(1) == {}


def test_old_ticks_are_forgotten(stage: Stage) -> None:
    """Ticks older than the retention are deleted, the oldest first and a bounded number at once."""
    stage.create(catch_up="all", overlap="skip")
    stage.at(5)
    stage.create("other")
    with stage.database.autocommit() as connection:
        seconds = (schedule_store.now(connection) - (NOON + 3 * MINUTE)).total_seconds() - 30
        assert tick_store.forget(connection, age_seconds=seconds, limit=2) == 2
        assert tick_store.forget(connection, age_seconds=seconds, limit=2) == 1
        assert tick_store.forget(connection, age_seconds=seconds, limit=2) == 0
    assert [minute for minute, _ in stage.outcomes()] == [4, 5]


@pytest.mark.parametrize("point", ["after_schedule_lock", "before_schedule_commit"])
def test_a_failure_before_the_commit_leaves_nothing(stage: Stage, point: str) -> None:
    """Whatever fails before the commit, there is no row and no job; and the other schedules go on."""
    stage.create("a-first-one")
    stage.create("report")
    failpoints.configure(f"{point}:raise")
    try:
        assert stage.at(1) == {}
    finally:
        failpoints.configure("")
    assert (stage.count("schedule_ticks"), stage.count("jobs")) == (0, 0)
    stage.scheduler._failed.clear()  # noqa: SLF001  (a rest that is over)
    assert stage.at(1) == {"fired": 2}


def test_a_failing_schedule_does_not_stop_the_others(stage: Stage) -> None:
    """A schedule that cannot be decided is left alone for a while, and the others fire."""
    stage.create("broken")
    stage.create("report")
    with stage.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE schedules SET cron = 'not a line' WHERE name = 'broken'")
    assert stage.at(1) == {"fired": 1}
    assert stage.at(2) == {"fired": 1}


def test_a_clock_that_goes_back_fires_nothing_again(stage: Stage) -> None:
    """A nominal time that has its row is never decided again, wherever the schedule is set to."""
    made = stage.create()
    stage.at(1)
    stage.set_next(made, NOON)
    assert stage.at(1) == {}
    assert stage.at(2) == {"fired": 1}
    assert stage.outcomes() == [(1, "fired"), (2, "fired")]


def test_a_unique_key_that_is_taken_is_an_overlap(stage: Stage, settings: Settings) -> None:
    """A tick whose job would have the unique key of another job creates none."""
    with process_of(settings):
        cron("* * * * *", job={"unique": _unique()})(actor(name="only_one", queue="noop")(_handler))
        scheduling.declare(stage.database, default().schedules.values())
    with stage.database.autocommit() as connection:
        made = schedule_store.get(connection, "only_one")
    stage.set_next(made, NOON)
    assert stage.at(1) == {"fired": 1}
    set_status(stage.database, stage.ticks("only_one")[0].job_id or 0, "completed")
    with stage.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'queued', finished_at = NULL, rank = now()")
        connection.exec_driver_sql("DELETE FROM schedule_ticks")
    assert stage.at(2) == {"overlapped": 1}
    assert stage.count("jobs") == 1


def _unique() -> Any:
    from goqueue import Unique  # noqa: PLC0415  (what a user writes)

    return Unique(key="the only one")


def _handler() -> None:
    """Do nothing."""


@pytest.fixture
def code(settings: Settings) -> Iterator[None]:
    """A process of its own, in which nothing is declared yet."""
    with process_of(settings):
        yield


def declare(stage: Stage, *, actors: tuple[str, ...] = ("mine",)) -> None:
    """What a scheduler process does at its start."""
    settings = stage.settings.model_copy(update={"actors": actors})
    CronScheduler(settings, stage.database, threading.Event().wait, clock=lambda: NOON).run_once()


def named(stage: Stage, name: str) -> Schedule:
    """A schedule as it is now."""
    with stage.database.autocommit() as connection:
        return schedule_store.get(connection, name)


@pytest.mark.usefixtures("code")
def test_schedules_in_code_are_put_right_at_the_start(stage: Stage) -> None:
    """What is declared beside an actor is a schedule once a scheduler has started, with all that was said."""

    @cron(
        "*/5 * * * *",
        timezone="Europe/Berlin",
        payload={"name": "sales"},
        job={"priority": 5, "queue": "slow"},
        overlap="skip",
        blackouts=[{"start": "22:00", "end": "06:00"}],
    )
    @actor(queue="reports", max_retries=7)
    def sales_report(name: str) -> str:
        return name

    declare(stage)
    made = named(stage, "sales_report")
    assert (made.definition.cron, made.definition.timezone) == ("*/5 * * * *", "Europe/Berlin")
    assert (made.definition.source, made.definition.overlap) == (Source.CODE, "skip")
    job = made.definition.job
    assert (job.queue, job.type, job.priority, job.max_retries) == ("slow", "sales_report", 5, 7)
    assert job.payload == '{"name":"sales"}'
    declare(stage)
    assert named(stage, "sales_report") == made


@pytest.mark.usefixtures("code")
def test_a_changed_declaration_changes_the_schedule(stage: Stage) -> None:
    """A new declaration of the same name takes the place of the old one; a paused schedule stays paused."""
    cron("@daily", name="mine")(actor(name="mine", queue="noop")(_handler))
    declare(stage)
    scheduling.pause(stage.database, "mine", author="ada", reason="holidays")
    only = default().schedules["mine"]
    default().schedules["mine"] = replace(only, cron="@hourly")
    declare(stage)
    changed = named(stage, "mine")
    assert (changed.definition.cron, changed.paused_by, changed.next_at) == ("@hourly", "ada", None)


@pytest.mark.usefixtures("code")
def test_a_schedule_that_is_no_longer_declared_is_paused(stage: Stage) -> None:
    """It stops, says why, and goes on when it is declared again; the API's are left alone."""
    stage.create()
    cron("@daily", name="mine")(actor(name="mine", queue="noop")(_handler))
    declare(stage)
    was = default().schedules.pop("mine")
    declare(stage, actors=())
    assert named(stage, "mine").paused_at is None, "a process without actors has nothing to say"
    declare(stage)
    gone = named(stage, "mine")
    assert (gone.paused_by, gone.pause_reason) == ("goqueue", "no longer declared in code")
    assert named(stage, "report").paused_at is None
    default().schedules["mine"] = was
    declare(stage)
    assert named(stage, "mine").next_at is not None


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("apply", "problem"),
    [
        pytest.param(lambda make: cron("* * * *")(make()), "cron: expected five fields", id="line"),
        pytest.param(lambda make: cron("@daily", timezone="Berlin")(make()), "timezone: expected", id="zone"),
        pytest.param(lambda make: cron("@daily", overlap="never")(make()), "overlap: Input", id="policy"),
        pytest.param(lambda make: cron("@daily", name="a b")(make()), "name: String", id="name"),
        pytest.param(lambda make: cron("@daily", payload={"x": 1})(make()), "x", id="payload"),
        pytest.param(
            lambda make: cron("@daily", job={"available_at": NOON})(make()),
            "available_at: expected a duration",
            id="run-at",
        ),
        pytest.param(
            lambda make: cron("@hourly", name="s")(cron("@daily", name="s")(make())), "twice", id="twice"
        ),
    ],
)
def test_a_wrong_declaration_is_refused(apply: Callable[[Callable[[], Any]], Any], problem: str) -> None:
    """What is wrong with a declaration is said when the module is imported, so when a process starts."""
    with pytest.raises(ConfigurationError, match=problem):
        apply(lambda: actor(name="mine", queue="noop")(_handler))


def test_a_scheduler_whose_actors_cannot_be_imported_does_not_start(settings: Settings) -> None:
    """`goqueue scheduler` exits with 2 and says which module it is, instead of forgetting its schedules."""
    broken = settings.model_copy(update={"actors": ("no_such_module",)})
    done = subprocess.run(
        [sys.executable, "-m", "goqueue", "scheduler", "--check", "--wait", "5"],
        env=environment_of(broken) | {"GOQUEUE_ACTORS": "no_such_module"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "no_such_module" in done.stderr) == (2, True), done.stderr


def test_an_outage_ends_the_round(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When PostgreSQL does not answer, the round ends with the error that the loop waits on."""
    stage.create()

    def fail(*_: object) -> None:
        raise UnavailableError

    monkeypatch.setattr(schedule_store, "lock_due", fail)
    with pytest.raises(UnavailableError):
        stage.at(1)
