"""A rolling deploy: workers of two versions serve one queue, and no job fails by meeting the wrong one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from goqueue.insight.explain import fact_rows as explanation
from goqueue.jobs import NewJob
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

QUEUE = "deploys"
OLD: dict[str, Any] = {"actors": ("tests.support.jobs.deploy_jobs_v1",)}
NEW: dict[str, Any] = {"actors": ("tests.support.jobs.deploy_jobs_v2",)}

#: Messages of a queue that an idle process of either version may take, so that chance decides nothing.
JOBS = 20


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack of real processes in which a payload that nobody can read is soon given up."""
    with Stack(data_folder, unreadable_payload_wait_seconds=6.0) as stack:
        stack.scheduler()
        yield stack


def create(stack: Stack, type_name: str, count: int = 1, **payload: Any) -> list[int]:
    """Insert jobs as an API of whatever version would, without asking any worker's version."""
    text = orjson.dumps(payload).decode()
    return stack.submitter.many([NewJob(QUEUE, type_name, text) for _ in range(count)])


def rows(stack: Stack, ids: list[int]) -> list[tuple[str, int, Any]]:
    """The state, the attempts spent and the result of each job."""
    sql = "SELECT status, attempts, result FROM jobs WHERE id = ANY (%s) ORDER BY id"
    return [tuple(row) for row in stack.rows(sql, (ids,))]


def wait_until_all(stack: Stack, ids: list[int], status: str, timeout_seconds: float = 30) -> None:
    """Wait until every one of these jobs has this state."""
    holds: Callable[[], bool] = lambda: {row[0] for row in rows(stack, ids)} == {status}  # noqa: E731
    try:
        wait_until(holds, timeout_seconds, f"the jobs to be {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {rows(stack, ids)}") from None


def codes(stack: Stack, job_id: int) -> list[str]:
    """The reasons why a job does not run."""
    with stack.database.transaction() as connection:
        found = explanation.explain(connection, job_id, lease_seconds=15, max_deaths=3)
    return [reason.code.value for reason in found.reasons]


@pytest.mark.parametrize(
    ("type_name", "payload", "results"),
    [
        pytest.param("refund", {"order": 7}, {"v2 7"}, id="a new type"),
        pytest.param("charge", {"order": 7, "currency": "USD"}, {"v2 7 USD"}, id="a further field"),
        pytest.param(
            "count",
            {"args": [7, "USD"], "kwargs": {}},
            {"v2 7 USD"},
            id="a further argument of a plain actor",
        ),
        pytest.param("archive", {"order": 7}, {"v1 7"}, id="a removed type"),
        pytest.param("notify", {"order": 7}, {"v1 7", "v2 7"}, id="a renamed type by its old name"),
        pytest.param("send_notice", {"order": 7}, {"v2 7"}, id="a renamed type by its new name"),
        pytest.param("charge", {"order": 7}, {"v1 7", "v2 7 EUR"}, id="what both know"),
    ],
)
def test_old_and_new_workers_run_what_they_know(
    stack: Stack, type_name: str, payload: dict[str, Any], results: set[str]
) -> None:
    """With a worker of each version on one queue every job completes at once, by one that knows it."""
    stack.workers(1, **OLD)
    stack.workers(1, **NEW)
    ids = create(stack, type_name, JOBS, **payload)
    wait_until_all(stack, ids, "completed")
    assert {row[1] for row in rows(stack, ids)} == {1}
    assert {row[2] for row in rows(stack, ids)} <= results


def test_a_job_of_an_unknown_type_waits_for_the_deploy(stack: Stack) -> None:
    """While only old workers are there nothing fails and explain says why; the new worker runs it all."""
    stack.workers(1, **OLD)
    ids = create(stack, "refund", JOBS, order=7) + create(stack, "charge", JOBS, order=7, currency="USD")
    wait_until(lambda: codes(stack, ids[0])[:1] == ["unknown_type"], 20, "the type to be missed")
    wait_until(lambda: codes(stack, ids[-1])[:1] == ["unreadable_payload"], 20, "the payload to be refused")
    assert {row[:2] for row in rows(stack, ids)} == {("queued", 0)}
    stack.workers(1, **NEW)
    wait_until_all(stack, ids, "completed")
    assert {row[1] for row in rows(stack, ids)} == {1}


def test_unknown_types_do_not_keep_known_ones_from_starting(stack: Stack) -> None:
    """Two thousand jobs that nobody can run stand in front: those behind them run, these stay rows."""
    stack.workers(1, **OLD)
    unknown = create(stack, "refund", 2000, order=7)
    ids = create(stack, "archive", JOBS, order=7)
    wait_until_all(stack, ids, "completed")
    assert {row[:2] for row in rows(stack, unknown)} == {("queued", 0)}
    key = f"{stack.settings.namespace}:{{{QUEUE}}}:runway"
    wait_until(lambda: not stack.redis.llen(key), 10, "the runway to be empty")
    (claims,) = stack.rows("SELECT count(*) FROM attempts WHERE job_id = ANY (%s)", (unknown,))
    assert claims[0] == 0


def test_a_new_type_starts_at_once_beside_idle_workers(stack: Stack) -> None:
    """While both versions are live and idle, jobs of a new type start within a second or so."""
    stack.workers(1, **OLD)
    stack.workers(1, **NEW)
    wait_until_all(stack, create(stack, "refund", order=1), "completed")
    ids = [create(stack, "refund", order=number)[0] for number in range(JOBS)]
    wait_until_all(stack, ids, "completed")
    sql = "SELECT extract(epoch FROM started_at - created_at)::float FROM jobs WHERE id = ANY (%s)"
    waits = sorted(row[0] for row in stack.rows(sql, (ids,)))
    assert waits[len(waits) // 2] < 1.0, waits


def test_a_payload_that_nobody_can_read_fails_after_its_time(stack: Stack) -> None:
    """It is given up after `unreadable_payload_wait_seconds`: no attempt was spent, and nothing looped."""
    stack.workers(1, **OLD)
    stack.workers(1, **NEW)
    (bad,) = create(stack, "charge", order="seven")
    began = time.monotonic()
    wait_until(lambda: codes(stack, bad)[:1] == ["unreadable_payload"], 20, "the payload to be refused")
    assert rows(stack, [bad])[0][:2] == ("queued", 0)
    wait_until_all(stack, [bad], "failed")
    assert time.monotonic() - began > 4
    sql = "SELECT outcome, attempt, error FROM attempts WHERE job_id = %s ORDER BY fence"
    attempts = stack.rows(sql, (bad,))
    assert [row[0] for row in attempts] == ["interrupted", "interrupted", "failed"], attempts
    assert "payload.order" in attempts[-1][2]
