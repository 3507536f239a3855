"""Run-at: jobs start at their time, however many others wait for later."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from tests.support.database.plans import nodes
from tests.support.engine import Engine, process_of
from tests.support.factories import JobFactory

ROWS = 100_000
JOBS = 20
LATE_SECONDS = 0.25


def fill(database: Database, rows: int = ROWS) -> None:
    """Insert rows that wait for later: for the next days, in two queues, in no order."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["tick", "other"])
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, available_at) "
            "SELECT CASE WHEN mod(n, 2) = 0 THEN 'tick' ELSE 'other' END, 'tick', '{}', "
            "now() + interval '1 hour' + make_interval(secs => mod(n * 7919::bigint, 300000)) "
            "FROM generate_series(1, %(rows)s) AS n",
            {"rows": rows},
        )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """A running engine as it comes, with a hundred thousand jobs that wait for later."""
    with process_of(settings) as broker:

        @goqueue.actor(name="tick", queue="tick")
        def tick() -> None:
            """Do nothing."""

        fill(broker.database)
        with Engine(broker) as engine:
            yield engine


def test_due_jobs_start_within_a_quarter_of_a_second(engine: Engine) -> None:
    """With 100,000 others waiting for later, jobs start at most 250 ms after their time, and never before it.

    Judged by the median of twenty, because a machine that runs other tests may stop this one for a moment.
    """
    tick = engine.broker.get_actor("tick")
    start = datetime.now(UTC) + timedelta(seconds=0.5)
    times = [start + timedelta(seconds=0.07 * number) for number in range(JOBS - 1)]
    ids = [goqueue.enqueue(tick, {}, available_at=time) for time in times]
    ids.append(goqueue.enqueue(tick, {}, delay_seconds=0.8))
    jobs = [engine.wait_for(job_id) for job_id in ids]
    late = [(job.started_at - job.available_at).total_seconds() for job in jobs if job.started_at is not None]
    assert len(late) == JOBS
    assert min(late) >= 0
    assert statistics.median(late) <= LATE_SECONDS, late
    waiting = engine.rows("SELECT count(*) FROM jobs WHERE status = 'queued' AND rank IS NULL")
    assert waiting == [(ROWS,)]


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "with statistics"])
@pytest.mark.parametrize("due", [0, 20, 1000])
def test_making_due_does_not_walk_the_waiting(database: Database, due: int, analyzed: bool) -> None:
    """It reads the rows that are due and no other, whatever the planner knows of the table."""
    fill(database)
    with database.autocommit() as connection:
        if analyzed:
            connection.exec_driver_sql("VACUUM ANALYZE jobs")
        connection.exec_driver_sql(
            "UPDATE jobs SET available_at = now() - interval '1 second' WHERE id <= %(due)s", {"due": due}
        )
        (plans,) = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {ready_store._MAKE_DUE}",  # noqa: SLF001  (the plan of this very statement)
            {"limit": 1000, "head_start": 60.0, "after": "-infinity"},
        ).one()
    root = plans[0]["Plan"]
    read = [
        node for node in nodes(root) if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]
    ]
    assert {node["Node Type"] for node in read} <= {"Index Scan", "Tid Scan"}
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) == 2 * due
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 200 + 25 * due


def test_due_rows_are_made_due_in_the_order_of_their_time(database: Database, make_job: JobFactory) -> None:
    """The earliest first, at most so many, each with the head start of its priority."""
    now = datetime.now(UTC)
    ids = [
        make_job(available_at=now - timedelta(seconds=age), priority=priority).id
        for age, priority in ((1, 0), (3, 1), (2, 0))
    ]
    later = make_job(available_at=now + timedelta(hours=1)).id
    with database.autocommit() as connection:
        assert ready_store.make_due(connection, limit=2) == 2
        assert ranked(database) == [ids[1], ids[2]]
        assert ready_store.make_due(connection, limit=2) == 1
        assert ready_store.make_due(connection) == 0
    assert ranked(database) == [ids[1], ids[2], ids[0]]
    assert later not in ranked(database)


def ranked(database: Database) -> list[int]:
    """The ids of the rows that have a place in the order, in it."""
    with database.autocommit() as connection:
        return [
            row[0]
            for row in connection.exec_driver_sql("SELECT id FROM jobs WHERE rank IS NOT NULL ORDER BY rank")
        ]
