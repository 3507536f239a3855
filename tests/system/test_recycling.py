"""Worker processes that reach a limit are replaced under load: no attempt is spent, fetching has no gap."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import Stack, load
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.recycled_jobs")
QUICK: dict[str, Any] = {"heartbeat_seconds": 0.2}

#: The lives of the workers of a queue, in the order in which they began.
LIVES = f"""
    SELECT id, started_at, stopped_at, shutdown_reason FROM workers WHERE '{QUEUE}' = ANY (queues) ORDER BY id
"""

pytestmark = pytest.mark.timeout(240)


def ended_for(stack: Stack, reason: str) -> int:
    """Count the workers that have ended for a reason."""
    sql = "SELECT count(*) FROM workers WHERE shutdown_reason = %s AND stopped_at IS NOT NULL"
    return int(stack.rows(sql, (reason,))[0][0])


def expect_no_gap(stack: Stack) -> None:
    """Each worker had registered before the one that it replaced said goodbye."""
    lives = stack.rows(LIVES)
    for before, after in pairwise(lives):
        assert before.stopped_at is None or after.started_at < before.stopped_at


def expect_nothing_spent(stack: Stack) -> None:
    """No job was lost, run twice, interrupted or given to a second attempt."""
    report = stack.report()
    assert report.valid
    assert report.duplicated == {}
    assert stack.rows("SELECT DISTINCT outcome FROM attempts") == [("completed",)]
    assert stack.rows("SELECT DISTINCT attempts FROM jobs") == [(1,)]


def test_a_process_that_has_run_its_jobs_is_replaced(data_folder: Path) -> None:
    """`goqueue worker` starts the next before it stops the old one, which says why; again and again."""
    with Stack(data_folder, actors=ACTORS, worker_max_jobs=60, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        group = stack.supervisor(1)
        with load(stack, "slow", seconds=0.02):
            wait_until(lambda: ended_for(stack, "max_jobs") >= 3, 90, "three processes to be replaced")
        stack.wait_until_finished(30)
        expect_no_gap(stack)
        expect_nothing_spent(stack)
        assert stack.logged("worker_recycled") >= 3
        assert stack.logged("process_replaced") >= 3
        assert stack.logged("process_exited") == 0
        group.terminate()
        assert group.wait(30)
        assert group.exit_code == 0
        assert stack.rows("SELECT 1 FROM workers WHERE stopped_at IS NULL") == []


def test_processes_of_a_group_are_replaced_one_after_the_other(data_folder: Path) -> None:
    """At no time more than one process is there beside those that were asked for."""
    with Stack(data_folder, actors=ACTORS, worker_max_jobs=40, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        stack.supervisor(2)
        most = 0

        def four_were_replaced() -> bool:
            nonlocal most
            most = max(most, len(stack.worker_pids()))
            return ended_for(stack, "max_jobs") >= 4

        with load(stack, "slow", seconds=0.02):
            wait_until(four_were_replaced, 120, "four processes to be replaced")
        stack.wait_until_finished(30)
        expect_nothing_spent(stack)
        # One that fetches is started for one that drains, and may fetch before that has ended.
        assert most <= 4
        assert stack.logged("process_exited") == 0


def test_a_process_that_has_grown_is_replaced(data_folder: Path) -> None:
    """The one in its place is small again."""
    with Stack(data_folder, actors=ACTORS, worker_max_memory_mib=200, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        stack.supervisor(1)
        wait_until(lambda: len(stack.worker_pids()) == 1, 40, "the worker")
        (large,) = stack.worker_pids()
        stack.collector.submit("hoards", 1, mebibytes=256)
        wait_until(lambda: ended_for(stack, "max_memory") == 1, 60, "it to be replaced")
        assert large not in stack.worker_pids()
        expect_no_gap(stack)
        expect_nothing_spent(stack)
        ((memory_bytes,),) = stack.rows("SELECT memory_bytes FROM workers WHERE stopped_at IS NULL")
        assert memory_bytes < 200 << 20


def test_a_process_of_dramatiqs_command_drains(data_folder: Path) -> None:
    """Nobody can take its place: it ends in order, and its group with it, for somebody to start again."""
    with Stack(data_folder, actors=ACTORS, worker_max_jobs=20, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        (worker,) = stack.workers(1)
        stack.collector.submit("slow", 60, seconds=0.02)
        assert worker.wait(40)
        assert worker.exit_code == 0
        assert ended_for(stack, "max_jobs") == 1
        stack.workers(1, worker_max_jobs=None)
        stack.wait_until_finished(30)
        expect_nothing_spent(stack)


def test_a_successor_that_cannot_start_costs_the_old_one_nothing(data_folder: Path) -> None:
    """The old one works on, and another successor is tried, until one fetches."""
    with Stack(data_folder, actors=ACTORS, worker_max_jobs=20, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        stack.supervisor(1)
        wait_until(lambda: len(stack.worker_pids()) == 1, 40, "the worker")
        (old,) = stack.worker_pids()
        stack.rows_changed("ALTER TABLE alembic_version RENAME TO hidden_version")
        stack.collector.submit("slow", 40, seconds=0.02)
        wait_until(lambda: stack.logged("process_exited") >= 2, 60, "two to fail")
        stack.wait_until_finished(20)
        assert stack.worker_pids() == [old]
        stack.rows_changed("ALTER TABLE hidden_version RENAME TO alembic_version")
        wait_until(lambda: ended_for(stack, "max_jobs") == 1, 60, "it to be replaced")
        expect_no_gap(stack)
        expect_nothing_spent(stack)
