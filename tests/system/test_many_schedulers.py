"""Several schedulers at once, killed, stopped and cut off at any point: one job for each nominal time."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path

import psutil
import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.db.statements import fetch_all
from goqueue.jobs import NewJob
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules.cron_expression import CronExpression
from goqueue.schedules.rules import CatchUp, ScheduleDefinition
from tests.support.processes import cron_process
from tests.support.processes.stack import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

SCHEDULERS = 5
START = datetime(2026, 10, 24, 12, tzinfo=UTC)
END = START + timedelta(days=1)  # the clocks of Europe go back in it
STEP = timedelta(minutes=40)
FAULTS = (
    "after_schedule_lock:kill:0.002,before_schedule_commit:stop:0.02,after_schedule_commit:raise:0.02",
    "after_schedule_lock:stop:0.02,before_schedule_commit:kill:0.004,after_schedule_commit:stop:0.01",
    "after_schedule_lock:raise:0.02,before_schedule_commit:raise:0.02,after_schedule_commit:kill:0.004",
)
LINES = ["*/20 * * * *", "7 * * * *", "30 2 * * *", "*/30 0-5 * * *", "@hourly"]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]


class Schedulers:
    """Five processes; whoever dies is replaced, and whoever stands still goes on after a while."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.dice = random.Random(7)
        self.log = (folder / "schedulers.log").open("ab")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ends = Counter[str]()

    def tend(self) -> None:
        """Bring the number back to five, and let most of the stopped ones go on; kill the others."""
        for process in list(self.processes):
            if process.poll() is not None:
                self.ends["died"] += 1
                self.processes.remove(process)
            elif psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                self.ends["stopped"] += 1
                psutil.Process(process.pid).resume()
                if self.dice.random() < 0.3:
                    process.kill()
        while len(self.processes) < SCHEDULERS:
            self.processes.append(self._start(self.dice.choice(FAULTS)))

    def _start(self, faults: str) -> subprocess.Popen[bytes]:
        settings = self.settings.model_copy(update={"failpoints": faults})
        return subprocess.Popen(
            [sys.executable, "-m", cron_process.__name__],
            env=environment_of(settings) | {"GOQUEUE_FAILPOINTS": faults, "PYTHONPATH": str(ROOT)},
            stdout=self.log,
            stderr=self.log,
        )

    def close(self) -> None:
        """End them all."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture
def schedulers(settings: Settings, tmp_path: Path) -> Iterator[Schedulers]:
    """The processes, ended after the test."""
    schedulers = Schedulers(settings, tmp_path)
    yield schedulers
    schedulers.close()


def definition(number: int) -> ScheduleDefinition:
    """One of twenty schedules."""
    return ScheduleDefinition(
        name=f"schedule-{number}",
        cron=LINES[number % len(LINES)],
        timezone=ZONES[number % len(ZONES)],
        job=NewJob(queue="noop", type="noop", payload=f'{{"number":{number}}}'),
        catch_up=CatchUp.ALL,
        catch_up_max=1000,
        catch_up_window_seconds=31 * 86_400.0,
        jitter_seconds=300.0 if number % 3 == 0 else 0.0,
    )


def nominal_times(definition: ScheduleDefinition) -> list[datetime]:
    """When it is to fire between the start and the end, but for ticks whose jitter may end later."""
    fires = CronExpression(definition.cron, definition.timezone).fires(START)
    last = END - timedelta(seconds=definition.jitter_seconds)
    return [fire.at for fire in takewhile(lambda fire: fire.at <= last, fires)]


def set_back(database: Database, definitions: list[ScheduleDefinition]) -> None:
    """Create the schedules as if it was the start, and the clock."""
    for made in definitions:
        scheduling.create(database, made)
    with database.autocommit() as connection:
        connection.exec_driver_sql(cron_process.CLOCK)
        connection.exec_driver_sql("INSERT INTO fake_clock VALUES (%(now)s)", {"now": START})
        for made in definitions:
            first = nominal_times(made)[0]
            connection.exec_driver_sql(
                "UPDATE schedules SET next_at = %(at)s, due_at = %(at)s WHERE name = %(name)s",
                {"at": first, "name": made.name},
            )


def break_something(database: Database, schedulers: Schedulers) -> None:
    """Now and then kill a scheduler wherever it is, or cut one off in whatever transaction it is."""
    fate = schedulers.dice.random()
    if fate < 0.1 and schedulers.processes:
        schedulers.dice.choice(schedulers.processes).kill()
    elif fate < 0.4:
        with database.autocommit() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'cron-test' ORDER BY random() LIMIT 1"
            )


def is_decided(database: Database, schedulers: Schedulers, now: datetime) -> bool:
    """Whether nothing is due any more; meanwhile the schedulers are tended."""
    schedulers.tend()
    with database.autocommit() as connection:
        return not schedule_store.due(connection, now, without=(), limit=1)


def test_five_schedulers_make_one_job_for_each_nominal_time(
    database: Database, schedulers: Schedulers
) -> None:
    """Twenty schedules over a day: whoever is killed, stopped or cut off, each tick has its one job."""
    definitions = [definition(number) for number in range(20)]
    set_back(database, definitions)
    now = START
    while now < END:
        now = min(END, now + STEP * schedulers.dice.random() * 2)
        with database.autocommit() as connection:
            connection.exec_driver_sql("UPDATE fake_clock SET now = %(now)s", {"now": now})
        break_something(database, schedulers)
        wait_until(partial(is_decided, database, schedulers, now), 60, f"the ticks up to {now}")
    print("schedulers:", dict(schedulers.ends))  # noqa: T201  (how much was broken is always told)
    assert schedulers.ends["died"] + schedulers.ends["stopped"] >= 5, "too little was broken to show anything"
    for made in definitions:
        assert_each_has_its_job(database, made)
    with database.autocommit() as connection:
        orphans = fetch_all(
            connection,
            "SELECT id FROM jobs WHERE NOT EXISTS (SELECT FROM schedule_ticks WHERE job_id = jobs.id)",
            {},
        )
    assert orphans == []


def assert_each_has_its_job(database: Database, made: ScheduleDefinition) -> None:
    """There is one fired tick, with a job of its own, for each nominal time."""
    with database.autocommit() as connection:
        schedule = schedule_store.get(connection, made.name)
        rows = fetch_all(
            connection,
            "SELECT nominal_at, outcome, job_id FROM schedule_ticks WHERE schedule_id = %(id)s "
            "ORDER BY nominal_at",
            {"id": schedule.id},
        )
        jobs = fetch_all(
            connection,
            "SELECT id FROM jobs WHERE payload->>'number' = %(number)s",
            {"number": made.name.partition("-")[2]},
        )
    expected = nominal_times(made)
    found = [row[0] for row in rows]
    assert found[: len(expected)] == expected
    assert all(at > expected[-1] for at in found[len(expected) :]), "only ticks with jitter come after"
    assert {row[1] for row in rows} == {"fired"}
    assert sorted(row[2] for row in rows) == sorted(row[0] for row in jobs)
