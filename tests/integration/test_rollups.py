"""The roller: what it counts is what is there, whatever happens to it meanwhile."""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.db.statements import current_time, fetch_all
from goqueue.insight import rollup_count_rows as rollup_counts
from goqueue.insight import rollup_rows as rollups
from goqueue.insight.histograms import BOUNDS, trimmed
from goqueue.insight.roller import Roller
from goqueue.insight.rollup_rows import RollupScope, Step
from goqueue.insight.rollup_steps import HOURS, MINUTES, STEPS, TENS
from tests.support.database.plans import run_script, scans_along_indexes

FINAL = ("completed", "failed", "cancelled", "expired")

INSERT_JOBS = """
    INSERT INTO jobs (id, queue, type, status, payload, fence, available_at, started_at, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT id, queue, type, status, '{}', fence, available_at, started_at, finished_at
    FROM json_to_recordset(%(rows)s::json) AS row (id bigint, queue text, type text, status text, fence int,
        available_at timestamptz, started_at timestamptz, finished_at timestamptz)
"""
INSERT_ATTEMPTS = """
    INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, finished_at, run_seconds)
    SELECT job_id, fence, 1, outcome, started_at, finished_at, run_seconds
    FROM json_to_recordset(%(rows)s::json) AS row (job_id bigint, fence int, outcome text,
        started_at timestamptz, finished_at timestamptz, run_seconds float)
"""

Row = dict[str, Any]


class History:
    """Jobs and attempts of the past, made at random, and what is to be counted of them."""

    def __init__(self, now: datetime, seed: int) -> None:
        self.now = now
        self.random = random.Random(seed)
        self.jobs: list[Row] = []
        self.attempts: list[Row] = []

    def add_jobs(self, count: int, *, back_seconds: float, least_seconds: float = 100) -> None:
        """So many jobs that ended within this time."""
        for _ in range(count):
            ended = self.now - timedelta(seconds=self.random.uniform(least_seconds, back_seconds))
            self._add_job(ended.replace(microsecond=self.random.randrange(1_000_000)))

    def _add_job(self, ended: datetime) -> None:
        chance = self.random
        run, wait = 10 ** chance.uniform(-4, 3), 10 ** chance.uniform(-4, 3)
        started = ended - timedelta(seconds=run)
        status = chance.choice([*FINAL, "queued", "completed"])
        job: Row = {
            "id": len(self.jobs) + 1,
            "queue": chance.choice(["a", "b", "dash/board"]),
            "type": chance.choice(["mail", "bill"]),
            "status": status,
            "fence": chance.randint(1, 3),
            "available_at": started - timedelta(seconds=wait),
            "started_at": started,
            "finished_at": None if status == "queued" else ended,
        }
        self.jobs.append(job)
        for fence in range(1, job["fence"]):
            before = started - timedelta(seconds=(job["fence"] - fence) * 7)
            self._add_attempt(job, fence, chance.choice(["failed", "snoozed"]), before, 0.5)
        if status == "expired":
            job |= {"started_at": None}
        elif status == "queued" or (status == "cancelled" and chance.random() < 0.5):
            # The last attempt failed, and the job waits for the next one, or was cancelled while it did.
            before = ended - timedelta(seconds=run + 1)
            job["available_at"] = started + timedelta(seconds=60)
            self._add_attempt(job, job["fence"], "failed", before, run)
        else:
            outcome = "failed" if status == "failed" else status
            self._add_attempt(job, job["fence"], outcome, ended, run)

    def _add_attempt(self, job: Row, fence: int, outcome: str, ended: datetime, run: float) -> None:
        self.attempts.append(
            {
                "job_id": job["id"],
                "fence": fence,
                "outcome": outcome,
                "started_at": ended - timedelta(seconds=run),
                "finished_at": ended,
                "run_seconds": run,
            }
        )

    def write(self, database: Database) -> None:
        """Put them into the tables."""
        with database.autocommit() as connection:
            fetch_all(connection, INSERT_JOBS + " RETURNING 1", {"rows": orjson.dumps(self.jobs).decode()})
            rows = orjson.dumps(self.attempts).decode()
            fetch_all(connection, INSERT_ATTEMPTS + " RETURNING 1", {"rows": rows})

    def counted(self, seconds: int, since: datetime, until: datetime) -> dict[tuple[str, str, datetime], Row]:
        """What a roller has to find, by looking at each row once more."""
        found: dict[tuple[str, str, datetime], Row] = defaultdict(self._nothing)
        attempts = {(one["job_id"], one["fence"]): one for one in self.attempts}
        for job in self.jobs:
            if job["finished_at"] is None or not since <= job["finished_at"] < until:
                continue
            last = attempts.get((job["id"], job["fence"]))
            for row in self._rows(found, job, job["finished_at"], seconds):
                row[job["status"]] += 1
                if job["started_at"] and job["started_at"] >= job["available_at"]:
                    _put(row, "wait", (job["started_at"] - job["available_at"]).total_seconds())
                if last and last["finished_at"] == job["finished_at"]:
                    _put(row, "run", last["run_seconds"])
        for attempt in self.attempts:
            job = self.jobs[attempt["job_id"] - 1]
            if attempt["outcome"] == "failed" and since <= attempt["finished_at"] < until:
                if attempt["finished_at"] == job["finished_at"]:
                    continue
                for row in self._rows(found, job, attempt["finished_at"], seconds):
                    row["retried"] += 1
        return dict(found)

    @staticmethod
    def _nothing() -> Row:
        names = (*FINAL, "retried", "wait_seconds", "run_seconds")
        buckets = len(BOUNDS) + 1
        return dict.fromkeys(names, 0) | {"waits": [0] * buckets, "runs": [0] * buckets}

    @staticmethod
    def _rows(found: dict[tuple[str, str, datetime], Row], job: Row, at: datetime, seconds: int) -> list[Row]:
        whole = int(at.timestamp())
        starts_at = datetime.fromtimestamp(whole - whole % seconds, tz=UTC)
        scopes = (("service", ""), ("queue", job["queue"]), ("type", job["type"]))
        return [found[scope, name, starts_at] for scope, name in scopes]


def _put(row: Row, name: str, seconds: float) -> None:
    row[f"{name}s"][bisect.bisect_right(BOUNDS, seconds)] += 1
    row[f"{name}_seconds"] += seconds


@pytest.fixture
def now(database: Database) -> datetime:
    """PostgreSQL's time."""
    return database_time(database)


@pytest.fixture
def roller(settings: Settings, database: Database) -> Roller:
    """A roller that never waits."""
    return Roller(settings, database, bool)


def database_time(database: Database) -> datetime:
    """PostgreSQL's time."""
    with database.autocommit() as connection:
        return current_time(connection)


def roll(roller: Roller) -> int:
    """Run rounds until nothing is behind; how many."""
    rounds = 1
    while roller.run_once()["behind"]:
        rounds += 1
        assert rounds < 5000
    return rounds


def kept(database: Database, seconds: int) -> dict[tuple[str, str, datetime], Row]:
    """The rows of the table."""
    names = (*FINAL, "retried", "waits", "runs", "wait_seconds", "run_seconds")
    sql = f"SELECT scope, name, starts_at, {', '.join(names)} FROM rollups WHERE step_seconds = %(seconds)s"
    with database.autocommit() as connection:
        rows = fetch_all(connection, sql, {"seconds": seconds})
    return {(row[0], row[1], row[2]): dict(zip(names, row[3:], strict=True)) for row in rows}


def progress(database: Database, seconds: int) -> datetime:
    """Until when steps are counted."""
    with database.autocommit() as connection:
        found = rollups.counted_up_to(connection, step_seconds=seconds)
    assert found is not None
    return found


def assert_same(
    found: dict[tuple[str, str, datetime], Row], expected: dict[tuple[str, str, datetime], Row]
) -> None:
    """The same rows, with the same figures."""
    assert found.keys() == expected.keys()
    for key, row in found.items():
        other = expected[key]
        assert {name: row[name] for name in (*FINAL, "retried")} == {
            name: other[name] for name in (*FINAL, "retried")
        }, key
        assert (row["waits"], row["runs"]) == (list(trimmed(other["waits"])), list(trimmed(other["runs"])))
        assert row["wait_seconds"] == pytest.approx(other["wait_seconds"], abs=1e-4)
        assert row["run_seconds"] == pytest.approx(other["run_seconds"], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_every_step_is_counted_exactly(roller: Roller, database: Database, now: datetime, seed: int) -> None:
    """Of any history each length of step holds what counting every row by hand finds."""
    history = History(now, seed)
    history.add_jobs(150, back_seconds=1000)
    history.add_jobs(150, back_seconds=4 * 3600)
    history.write(database)
    roll(roller)
    for length in STEPS:
        until = progress(database, length.seconds)
        # What is older than ten-second steps are kept is not looked for in them.
        since = now - timedelta(seconds=length.kept_seconds)
        expected = history.counted(length.seconds, since, until)
        found = kept(database, length.seconds)
        edge = since + timedelta(seconds=60)
        assert_same(_after(found, edge), _after(expected, edge))


def _after(
    rows: dict[tuple[str, str, datetime], Row], edge: datetime
) -> dict[tuple[str, str, datetime], Row]:
    return {key: row for key, row in rows.items() if key[2] >= edge}


def test_a_roller_that_is_killed_counts_nothing_twice(
    settings: Settings, database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rollers die at random places of their rounds, others go on, and all is counted once."""
    history = History(now, 7)
    history.add_jobs(200, back_seconds=3000)
    history.write(database)
    chance = random.Random(7)
    killed = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal killed
            result = function(*args)
            if chance.random() < 0.3:
                killed += 1
                raise InterruptedError
            return result

        return call

    for name in ("count", "add_up", "write"):
        monkeypatch.setattr(rollup_counts, name, deadly(getattr(rollup_counts, name)))
    behind = 1
    while behind:
        try:
            behind = Roller(settings, database, bool).run_once()["behind"]
        except InterruptedError:
            continue
    assert killed > 5
    monkeypatch.undo()
    until = progress(database, MINUTES.seconds)
    expected = history.counted(MINUTES.seconds, now - timedelta(days=1), until)
    assert_same(kept(database, MINUTES.seconds), expected)


def test_counting_again_replaces(database: Database, roller: Roller, now: datetime) -> None:
    """A step that is counted a second time is not counted twice: a late commit is added by it."""
    history = History(now, 3)
    history.add_jobs(40, back_seconds=900)
    history.write(database)
    roll(roller)
    before = kept(database, MINUTES.seconds)
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM rollup_progress")
    roll(roller)
    assert_same(kept(database, MINUTES.seconds), before)


def test_a_pause_is_caught_up_in_bounded_pieces(database: Database, roller: Roller, now: datetime) -> None:
    """After an hour away a round counts a minute of it, and the rounds follow without a pause."""
    history = History(now, 5)
    history.add_jobs(400, back_seconds=3600)
    with database.autocommit() as connection:
        for length in STEPS:
            rollup_counts.write(
                connection, length, {}, (now - timedelta(hours=1)).replace(second=0, microsecond=0)
            )
    history.write(database)
    first = progress(database, TENS.seconds)
    assert roller.run_once()["behind"]
    assert progress(database, TENS.seconds) - first <= timedelta(minutes=2)
    assert roll(roller) > 30
    until = progress(database, MINUTES.seconds)
    since = (now - timedelta(hours=1)).replace(second=0, microsecond=0)
    expected = history.counted(MINUTES.seconds, since, until)
    assert_same(_after(kept(database, MINUTES.seconds), since), _after(expected, since))


def test_a_first_start_on_an_empty_table_is_over_at_once(database: Database, roller: Roller) -> None:
    """Where nothing ever ended, one round passes over a day."""
    assert roll(roller) == 1
    assert kept(database, TENS.seconds) == {}
    assert database_time(database) - progress(database, TENS.seconds) < timedelta(seconds=16)


def test_rows_are_deleted_at_their_age(database: Database, roller: Roller, now: datetime) -> None:
    """Each length of step is kept as long as the ranges need it, and no longer."""
    with database.autocommit() as connection:
        for length in STEPS:
            for age in (length.kept_seconds - 60, length.kept_seconds + 60):
                key = (RollupScope.SERVICE, "", now - timedelta(seconds=age))
                rollup_counts.write(connection, length, {key: rollup_counts.RollupCount()}, now)
    roll(roller)
    for length in STEPS:
        assert [key[2] for key in kept(database, length.seconds)] == [
            now - timedelta(seconds=length.kept_seconds - 60)
        ]


def test_series_are_read_in_the_order_of_time(database: Database, roller: Roller, now: datetime) -> None:
    """One queue's steps, those of every queue at once, and nothing before the time that is asked for."""
    history = History(now, 11)
    history.add_jobs(100, back_seconds=1200)
    history.write(database)
    roll(roller)
    since = now - timedelta(seconds=900)
    with database.autocommit() as connection:
        own = rollups.series(connection, RollupScope.QUEUE, "dash/board", step_seconds=10, since=since)
        each = rollups.series_of_each(connection, RollupScope.QUEUE, step_seconds=10, since=since)
        whole = rollups.series(connection, RollupScope.SERVICE, "", step_seconds=10, since=since)
    assert own == each["dash/board"] == sorted(own, key=lambda step: step.starts_at)
    assert own[0].starts_at >= since
    assert sum(map(ended, whole)) == sum(ended(step) for steps in each.values() for step in steps)
    with database.autocommit() as connection:
        bare = rollups.series_of_each(
            connection, RollupScope.QUEUE, step_seconds=10, since=since, durations=False
        )
    assert bare == {
        name: [replace(step, waits=(), runs=(), wait_seconds=0.0, run_seconds=0.0) for step in steps]
        for name, steps in each.items()
    }


def ended(step: Step) -> int:
    """How many jobs ended in a step."""
    return step.completed + step.failed + step.cancelled + step.expired


def test_a_step_reads_only_the_rows_of_its_time(database: Database, now: datetime) -> None:
    """Beside two hundred thousand jobs a piece reads those that ended in it, and their attempts."""
    run_script(
        database,
        """
        INSERT INTO jobs (queue, type, status, payload, fence, available_at, started_at, finished_at)
            SELECT 'q', 'noop', CASE mod(n, 10) WHEN 0 THEN 'failed' ELSE 'completed' END, '{}', 1,
                   ended, ended, ended
            FROM (SELECT n, now() - n * interval '0.1 seconds' AS ended
                  FROM generate_series(1, 200000) AS n) AS made;
        INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, finished_at, run_seconds)
            SELECT id, 1, 1, status, started_at, finished_at, 0.1 FROM jobs;
        UPDATE jobs SET rare_state = NULL, rare_since = NULL WHERE status = 'completed';
        ANALYZE jobs;
        ANALYZE attempts
        """,
    )
    since = now.replace(microsecond=0) - timedelta(seconds=1200)
    parameters = {
        "since": since,
        "until": since + timedelta(seconds=10),
        "step_seconds": 10,
        "bounds": rollup_counts._PARAMETER_BOUNDS,  # noqa: SLF001  (the plan of this very statement)
    }
    with database.transaction() as connection:
        connection.exec_driver_sql(bounded_reads.ALONG_INDEXES)
        for sql, most in ((rollup_counts._COUNT, 320), (rollup_counts._RETRIED, 30)):  # noqa: SLF001  (the plan of this very statement)
            read, _ = scans_along_indexes(connection, sql, parameters, {"jobs", "attempts"})
            assert 0 < read <= most
        read, _ = scans_along_indexes(connection, rollup_counts._NEXT_END, parameters, {"jobs", "attempts"})  # noqa: SLF001  (the plan of this very statement)
        assert read <= 5


def test_hours_are_counted_when_their_minutes_are(database: Database, roller: Roller, now: datetime) -> None:
    """An hour is the sum of its minutes, and is counted only when the last of them is."""
    history = History(now, 13)
    history.add_jobs(300, back_seconds=3 * 3600, least_seconds=3600)
    history.write(database)
    roll(roller)
    until = progress(database, HOURS.seconds)
    assert until <= progress(database, MINUTES.seconds) < until + timedelta(hours=1)
    assert_same(
        kept(database, HOURS.seconds), history.counted(HOURS.seconds, now - timedelta(hours=26), until)
    )
