"""The checker of time, order and flow: it accepts a good record, and finds each violation in a bad one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from goqueue.db.database import Database
from tests.support.chaos.flow_checker import CHANGE_SECONDS, NEVER, WITNESS, FlowHistory, Timeline, check_flow
from tests.support.jobs.flow_jobs import FIFO_QUEUE, KEYED_QUEUE, RATED_QUEUE

Rows = Callable[[str], Sequence[Any]]

#: Job 1, then its child 2; 3 and 4 of one key in strict order; 5 of a schedule; 6 expired, 7 was cancelled.
GOOD = f"""
    INSERT INTO jobs (id, queue, type, status, payload, fence, finished_at, concurrency_key,
                      expires_at, cancel_requested_at, unique_key, reason)
    SELECT id, CASE WHEN id IN (3, 4) THEN '{FIFO_QUEUE}' ELSE 'chaos' END, 't',
           CASE id WHEN 6 THEN 'expired' WHEN 7 THEN 'cancelled' ELSE 'completed' END,
           json_build_object('token', CASE WHEN id = 5 THEN 'schedule-x' ELSE id::text END), 1,
           now() - make_interval(secs => 100 - 10 * id), CASE WHEN id IN (3, 4) THEN 'key' END,
           CASE WHEN id IN (1, 6) THEN now() - interval '20 s' END,
           CASE WHEN id = 7 THEN now() - interval '32 s' END, CASE WHEN id = 1 THEN 'unique' END, NULL
    FROM generate_series(1, 7) AS id;
    INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, finished_at, run_seconds)
    SELECT id, 1, 1, CASE WHEN id = 7 THEN 'cancelled' ELSE 'completed' END,
           finished_at - interval '5 s', finished_at, 5
    FROM jobs WHERE id <> 6;
    INSERT INTO dependencies VALUES (2, 1, 'fail', 'completed');
    INSERT INTO releases VALUES (2);
    INSERT INTO attempt_progress VALUES (1, 1, 0.5);
    INSERT INTO attempt_logs VALUES (1, 1, 1, 'text', now());
    INSERT INTO unique_keys VALUES ('unique', 1, '{{queued}}');
    INSERT INTO schedule_ticks
    SELECT 1, date_trunc('minute', now()) - make_interval(mins => n), 'scheduled',
           CASE n WHEN 0 THEN 'fired' ELSE 'missed' END, CASE n WHEN 0 THEN 5 END
    FROM generate_series(0, 2) AS n;
"""

#: For each of `NEVER`, in its order, what breaks the good record.
BREAKS = (
    "UPDATE jobs SET status = 'running', finished_at = NULL, cancel_requested_at = now() WHERE id = 7",
    "UPDATE attempts SET started_at = started_at - interval '6 s' WHERE job_id = 2",
    "UPDATE dependencies SET parent_status = 'failed'",
    "UPDATE jobs SET reason = 'parent_failed' WHERE id = 2",
    "UPDATE dependencies SET parent_status = NULL",
    "INSERT INTO releases VALUES (2)",
    "UPDATE jobs SET expires_at = '2000-01-01' WHERE id = 1",
    "UPDATE jobs SET cancel_requested_at = cancel_requested_at - interval '10 s' WHERE id = 7",
    "UPDATE attempt_progress SET fence = 2",
    "UPDATE attempt_logs SET fence = 2",
    "UPDATE schedule_ticks SET outcome = 'fired', job_id = 5",
    "UPDATE schedule_ticks SET outcome = 'missed', job_id = NULL",
    "DELETE FROM schedule_ticks WHERE nominal_at = date_trunc('minute', now()) - interval '1 min'",
    "UPDATE unique_keys SET job_id = 100",
    "UPDATE attempts SET started_at = started_at - interval '6 s' WHERE job_id = 4",
)


@pytest.fixture
def rows(database: Database) -> Rows:
    """Queries of the test's database, which holds a good record; a statement without rows has none."""

    def ask(sql: str) -> Sequence[Any]:
        with database.autocommit() as connection:
            result = connection.exec_driver_sql(sql)
            return result.fetchall() if result.returns_rows else []

    ask(WITNESS)
    for statement in GOOD.split(";\n"):
        ask(statement)
    return ask


def test_a_good_record_is_accepted(rows: Rows) -> None:
    """Nothing is wrong with it."""
    assert check_flow(FlowHistory(), rows) == []


@pytest.mark.parametrize(("text", "sql"), list(zip(NEVER, BREAKS, strict=True)), ids=list(NEVER))
def test_each_violation_is_found(rows: Rows, text: str, sql: str) -> None:
    """What is broken in the record is told."""
    rows(sql)
    assert any(line.startswith(text) for line in check_flow(FlowHistory(), rows))


def _told(history: FlowHistory, *intervals: tuple[Any, ...]) -> list[str]:
    """What is said of attempts alone: (id, queue, key, cost, start, end)."""
    return check_flow(history, lambda sql: intervals if "rate_cost" in sql else [])


def test_one_start_too_many_beside_others_is_found() -> None:
    """With two of a key at once, the third that starts before the first has ended is wrong."""
    history = FlowHistory()
    history.key_limits[KEYED_QUEUE].change(2, 0.0, 0.1)
    first, second = (1, KEYED_QUEUE, "k", 1, 10.0, 12.0), (2, KEYED_QUEUE, "k", 1, 11.0, 15.0)
    other, behind = (3, KEYED_QUEUE, "other", 1, 11.0, 15.0), (4, KEYED_QUEUE, "k", 1, 12.0, 13.0)
    assert _told(history, first, second, other, behind) == []
    assert len(_told(history, first, second, (5, KEYED_QUEUE, "k", 1, 11.9, 13.0))) == 1


def test_one_start_too_many_in_a_window_is_found() -> None:
    """With a rate of three a second, a cost of two and one and one a moment earlier is wrong."""
    history = FlowHistory()
    history.rates[RATED_QUEUE].change(3, 0.0, 0.1)
    starts = [(1, RATED_QUEUE, "", 2, 10.0, 10.1), (2, RATED_QUEUE, "", 1, 10.5, 10.6)]
    assert _told(history, *starts, (3, RATED_QUEUE, "", 2, 11.0, 11.1)) == []
    assert len(_told(history, *starts, (3, RATED_QUEUE, "", 1, 10.9, 11.0))) == 1


def test_a_change_that_may_have_been_made_counts_until_the_next() -> None:
    """A limit is what it was last known to be, or what it may have become since."""
    limit = Timeline()
    limit.change(1, 10.0, 11.0)
    assert limit.most(10.5, 10.5) == math.inf
    assert limit.most(11.5, 12.0) == 1
    limit.change(5, 20.0, None)
    assert limit.most(19.0, 19.9) == 1
    assert limit.most(30.0, 30.0) == 5
    limit.change(2, 40.0, 41.0)
    assert limit.most(41.0 + CHANGE_SECONDS, 50.0) == 2
