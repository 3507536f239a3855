# ruff: noqa: SLF001  (a plan is that of one statement, and statements are private)
"""What it costs to measure a queue beside large tables: each question is a bounded walk along an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.insight import demand_rows as demand
from goqueue.insight import gauge_rows as gauges
from goqueue.insight import labelled_demand_rows as labelled_demand
from goqueue.insight.autoscale import Autoscale, RunTimes
from goqueue.insight.autoscaling import autoscale_queue
from tests.support.database.plans import run_script, scans_along_indexes
from tests.support.shared_database import module_settings

settings = module_settings

#: More than any walk may read, of each kind of row, in the queue and in another one.
ROWS = 6_000
RUNNING = 40
BACKLOG_LOOK = 500

PARAMETERS: dict[str, Any] = {"queue": "measured", "window_seconds": 300.0, "lease_seconds": 15.0}

#: Each statement, and how many rows of jobs and attempts it may read at most.
STATEMENTS = {
    "backlog": (demand._BACKLOG, 2 * ROWS),
    "running": (demand._RUNNING, RUNNING),
    "arrivals": (demand._ARRIVALS, demand.ARRIVALS_MAX),
    "due": (demand._DUE, demand.ARRIVALS_MAX),
    "labels": (labelled_demand._JOBS, 2 * labelled_demand.LOOKED_AT + RUNNING),
    "ended": (demand._ENDED, 1 + 5 * demand.ENDED_MAX),
}

FILL = """
    INSERT INTO queues (name) VALUES ('measured'), ('other');
    INSERT INTO workers (hostname, pid, queues, threads) SELECT 'test', 1, ARRAY['measured'], 8;
    INSERT INTO jobs (queue, type, status, payload, started_at, finished_at)
        SELECT queue, 'noop', status, '{}', now(),
               CASE queue WHEN 'measured' THEN now() - interval '1 hour' ELSE now() END
        FROM generate_series(1, {rows}), unnest(ARRAY['measured', 'other']) AS queue,
             unnest(ARRAY['completed', 'failed']) AS status;
    INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, run_seconds)
        SELECT id, 1, 1, 'completed', now(), 0.5 FROM jobs;
    INSERT INTO jobs (queue, type, payload, rank)
        SELECT queue, 'noop', '{}', now()
        FROM generate_series(1, {rows}), unnest(ARRAY['measured', 'other']) AS queue;
    INSERT INTO jobs (queue, type, payload, available_at)
        SELECT queue, 'noop', '{}', now() + interval '1 minute'
        FROM generate_series(1, {rows}), unnest(ARRAY['measured', 'other']) AS queue;
    INSERT INTO jobs (queue, type, status, payload, started_at, worker_id)
        SELECT 'measured', 'noop', 'running', '{}', now(), 1 FROM generate_series(1, {running});
""".replace("{rows}", str(ROWS)).replace("{running}", str(RUNNING))


@pytest.fixture(scope="module")
def filled(module_settings: Settings) -> Iterator[Database]:
    """A database with large tables that no ANALYZE has seen: what the planner knows least about."""
    database = Database(module_settings)
    run_script(database, FILL)
    yield database
    database.close()


def measured(database: Database) -> Autoscale:
    """The answer about the queue."""
    return autoscale_queue(
        database, Settings(), "measured", declared_queues=(), window_seconds=300.0, assumed_run_seconds=1.0
    )


def rows_read(database: Database, sql: str) -> int:
    """How many rows of jobs and attempts a statement reads; each of them by an index."""
    with database.transaction() as connection:
        connection.exec_driver_sql(bounded_reads.ALONG_INDEXES)
        read, _ = scans_along_indexes(connection, sql, PARAMETERS, {"jobs", "attempts"})
    return read


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_question_reads_a_bounded_number_of_rows(filled: Database, name: str) -> None:
    """No statement reads more rows than its bound, whatever the tables hold and the planner knows."""
    sql, most = STATEMENTS[name]
    assert rows_read(filled, sql) <= most + 8


def test_the_backlog_is_counted_up_to_its_bound(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count and the look for the oldest both stop at their bounds."""
    text = demand._BACKLOG
    for bound in (gauges.COUNTED_UP_TO, gauges.OLDEST_AMONG):
        text = text.replace(f"LIMIT {bound})", f"LIMIT {BACKLOG_LOOK})")
    assert rows_read(filled, text) <= 2 * BACKLOG_LOOK + 2
    monkeypatch.setattr(demand, "_BACKLOG", text)
    assert measured(filled).demand.backlog == BACKLOG_LOOK


def test_beside_a_large_backlog_runs_are_measured(filled: Database) -> None:
    """Though the newest jobs all wait, those that ended are found beside the head of the backlog."""
    answer = measured(filled)
    assert answer.demand.run_times is RunTimes.ENDED
    assert answer.run_seconds == pytest.approx(0.5, abs=0.1)
    assert answer.demand.ended == demand.ENDED_MAX
    assert answer.demand.backlog == ROWS
