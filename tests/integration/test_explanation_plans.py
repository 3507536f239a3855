# ruff: noqa: SLF001  (a plan is that of one statement, and statements are private)
"""What an explanation costs beside a large backlog: each question is one bounded walk along an index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.insight.explain import ReasonCode
from goqueue.insight.explain import (
    blocked_key_rows as blocked_keys,
)
from goqueue.insight.explain import (
    fact_rows as explanation,
)
from goqueue.insight.explain import (
    position_rows as positions,
)
from goqueue.insight.explain import (
    rate_forecast_rows as rate_forecasts,
)
from goqueue.insight.explain import (
    slot_holder_rows as slot_holders,
)
from goqueue.insight.explain.explaining import explain_job
from tests.support.database.plans import run_script, scans_along_indexes
from tests.support.shared_database import module_settings

settings = module_settings

BACKLOG = 20_000
RUNNING = 40
LIMIT = 100

PARAMETERS: dict[str, Any] = {
    "queue": "default",
    "key": "key-7",
    "type": "noop",
    "runway": "default",
    "tried": [],
    "requires": ["gpu=true"],
    "needs": True,
    "slots": 2,
    "lease_seconds": 15,
    "rank": datetime.now(UTC),
    "id": BACKLOG,
    "deaths": 1,
    "limit": LIMIT,
    "after": "",
    "keys_max": LIMIT,
    "seconds": 60,
    "needed": 50,
}

TABLES = {"jobs", "ready_jobs", "running_jobs", "attempts", "rate_grants"}

#: Each statement, and how many rows of the tables it may read at most; two for a row that is listed and
#: looked up.
STATEMENTS = {
    "by_rank": (positions._BY_RANK, LIMIT),
    "ready": (positions._READY, LIMIT),
    "keyless": (positions._KEYLESS, 2 * LIMIT),
    "of_key": (positions._OF_KEY, LIMIT),
    "other_keys": (positions._OTHER_KEYS, LIMIT + 1),
    "let_in": (positions._LET_IN, LIMIT),
    "suspects that run alone": (positions._SUSPECTS, LIMIT),
    "suspects beside others": (positions._BESIDE, LIMIT),
    "starts": (positions._STARTS, 2 * positions.STARTS_MAX + 2 * RUNNING),
    "crew": (explanation._CREW, RUNNING),
    "oldest": (explanation._OLDEST, 1),
    "held": (slot_holders._HELD, 2 * RUNNING),
    "held_by_queue": (slot_holders._HOLDERS["queue"], 2 * RUNNING),
    "held_by_key": (slot_holders._HOLDERS["key"], 2 * RUNNING),
    "held_by_type": (slot_holders._HOLDERS["type"], 2 * RUNNING),
    "queue_free_at": (rate_forecasts._QUEUE_FREE_AT, 51),
    "key_free_at": (rate_forecasts._KEY_FREE_AT, BACKLOG // 200),
    "blocked_keys": (blocked_keys._PAGE, 2 * LIMIT),
}

#: A backlog by key, as many that have ended, some that run, and as many starts that a rate remembers.
FILL = """
    INSERT INTO queues (name) VALUES ('default');
    INSERT INTO workers (hostname, pid, queues, threads) SELECT 'test', 1, ARRAY['default'], 8;
    INSERT INTO jobs (queue, type, payload, rank, concurrency_key)
        SELECT 'default', 'noop', '{}', now() - make_interval(secs => n), 'key-' || mod(n, 1000)
        FROM generate_series(1, {backlog}) AS n;
    INSERT INTO jobs (queue, type, status, payload, started_at, finished_at)
        SELECT 'default', 'noop', 'completed', '{}', now(), now() FROM generate_series(1, {backlog});
    INSERT INTO jobs (queue, type, status, payload, started_at, worker_id, concurrency_key)
        SELECT 'default', 'noop', 'running', '{}', now(), 1, 'key-7' FROM generate_series(1, {running});
    INSERT INTO rate_grants (queue, key, job_id, fence, cost, used_at)
        SELECT 'default', 'key-' || mod(n, 200), n, 0, 1, now() FROM generate_series(1, {backlog}) AS n;
""".replace("{backlog}", str(BACKLOG)).replace("{running}", str(RUNNING))


@pytest.fixture(scope="module")
def filled(module_settings: Settings) -> Iterator[Database]:
    """A database with a backlog that no ANALYZE has seen: what the planner knows least about."""
    database = Database(module_settings)
    run_script(database, FILL)
    yield database
    database.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_question_walks_along_an_index(filled: Database, name: str) -> None:
    """No statement reads more rows of a large table than its bound, whatever the planner knows."""
    sql, most = STATEMENTS[name]
    with filled.transaction() as connection:
        connection.exec_driver_sql(bounded_reads.ALONG_INDEXES)
        read, scans = scans_along_indexes(connection, sql, PARAMETERS, TABLES)
    assert read <= most + scans


def test_the_last_of_a_backlog_is_explained(filled: Database, settings: Settings) -> None:
    """The whole answer about the job at the end of the line."""
    with filled.autocommit() as connection:
        last = connection.exec_driver_sql(
            "SELECT id FROM jobs WHERE rank IS NOT NULL ORDER BY rank DESC"
        ).scalar()
    assert isinstance(last, int)
    answer = explain_job(filled, settings, last)
    assert answer.ahead == BACKLOG - 1
    assert [reason.code for reason in answer.reasons] == [ReasonCode.JOBS_AHEAD]
    assert answer.rate_per_second
    assert answer.expected_start_at is not None
