"""Limits, turns, rates and the order of starts over real worker processes, by the times in the rows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from goqueue.engine import queue_rows as queue_store
from goqueue.engine.graph_rows import NewNode
from goqueue.jobs import NewJob
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits, RateAlgorithm, RateLimit
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

#: (started, finished) of every attempt, in seconds.
_INTERVALS = """
    SELECT extract(epoch FROM attempts.started_at)::float, extract(epoch FROM attempts.finished_at)::float
    FROM attempts JOIN jobs ON jobs.id = attempts.job_id
    WHERE concurrency_key IS NOT DISTINCT FROM coalesce(%s, concurrency_key)
"""

QUICK_DISPATCH: dict[str, Any] = {"dispatch_idle_seconds": 0.02}


def limit(stack: Stack, limits: QueueLimits) -> None:
    """Set the limits of the queue."""
    with stack.database.transaction() as connection:
        queue_store.ensure(connection, [QUEUE])
        queue_settings.set_limits(connection, QUEUE, limits)


def create(stack: Stack, type_name: str, payloads: Iterable[str], **columns: object) -> list[int]:
    """Create jobs in one transaction."""
    jobs = [NewJob(QUEUE, type_name, payload, **columns) for payload in payloads]  # type: ignore[arg-type]
    return stack.submitter.many(jobs)


def waited_seconds(stack: Stack, job_id: int) -> float:
    """How long a job waited for its start, which is awaited."""
    sql = "SELECT extract(epoch FROM started_at - created_at)::float FROM jobs WHERE id = %s"
    wait_until(lambda: stack.rows(sql, (job_id,))[0][0] is not None, 30, f"job {job_id} to start")
    return float(stack.rows(sql, (job_id,))[0][0])


def most_at_once(intervals: Sequence[tuple[float, float]]) -> int:
    """How many intervals overlap at most; one that begins when another ends does not overlap it."""
    events = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    level = most = 0
    for _, change in events:
        level += change
        most = max(most, level)
    return most


def test_killed_holders_never_exceed_a_limit_and_lose_no_slot(tmp_path: Path) -> None:
    """Twenty SIGKILLs under load, with a limit of three for the queue and of one for each key."""
    with Stack(tmp_path, **FAST_LEASES, **QUICK_DISPATCH) as stack:
        limit(stack, QueueLimits(concurrency=3, key_concurrency=1))
        stack.scheduler()
        stack.workers(2, threads=4)
        keys = [f"key-{number}" for number in range(5)]
        for key in keys:
            payloads = [f'{{"token": "{key}-{n}", "seconds": 0.03}}' for n in range(30)]
            create(stack, "slow_at_first", payloads, concurrency_key=key, max_retries=20)
        chance = random.Random(7)
        for _ in range(20):
            wait_until(lambda: stack.count("running") > 0, 30, "some job to run")
            stack.kill(chance.choice(stack.worker_pids()))
            stack.worker(threads=4)
        stack.wait_until_finished(90)
        assert most_at_once(stack.rows(_INTERVALS, (None,))) == 3
        assert max(most_at_once(stack.rows(_INTERVALS, (key,))) for key in keys) == 1
        # No slot was lost: as many as the limit run again.
        create(stack, "slow", ['{"token": "last", "seconds": 1}'] * 6)
        wait_until(lambda: stack.count("running") == 3, 20, "the limit to be used up again")
        stack.wait_until_finished(30)


def test_a_tenant_with_a_huge_backlog_delays_another_by_at_most_two_job_durations(tmp_path: Path) -> None:
    """Fifty thousand jobs of one key, half a second a job: one job of another key starts within a second."""
    seconds = 0.5
    with Stack(tmp_path, **QUICK_DISPATCH) as stack:
        limit(stack, QueueLimits(fair=True))
        stack.scheduler()
        stack.workers(1, threads=8)
        create(stack, "slow", [f'{{"token": "many", "seconds": {seconds}}}'] * 50_000, concurrency_key="a")
        for _ in range(3):
            wait_until(lambda: stack.count("running") == 8, 30, "all threads to be busy")
            (job_id,) = create(
                stack, "slow", [f'{{"token": "one", "seconds": {seconds}}}'], concurrency_key="b"
            )
            assert waited_seconds(stack, job_id) <= 2 * seconds


@pytest.mark.parametrize("algorithm", list(RateAlgorithm), ids=str)
def test_a_rate_is_exact_over_four_worker_processes(tmp_path: Path, algorithm: RateAlgorithm) -> None:
    """No half second holds more than 25 starts, retries included (of a bucket: 25 and what flows in)."""
    rate = RateLimit(25, 0.5, algorithm)
    with Stack(tmp_path, **QUICK_DISPATCH) as stack:
        limit(stack, QueueLimits(rate=rate))
        stack.scheduler()
        create(stack, "quick", ['{"token": "q"}'] * 120)
        create(stack, "fails_once", ['{"token": "f"}'] * 20)
        stack.workers(4, threads=2)
        stack.wait_until_finished(60)
        starts = sorted(start for start, _ in stack.rows(_INTERVALS, (None,)))
    assert len(starts) == 160
    if algorithm is RateAlgorithm.SLIDING_WINDOW:
        assert all(b - a >= rate.period_seconds for a, b in zip(starts, starts[rate.limit :], strict=False))
        return
    per_second = rate.limit / rate.period_seconds
    for first, start in enumerate(starts):
        for behind in range(first + rate.limit, len(starts)):
            flowed_in = (starts[behind] - start) * per_second
            assert behind - first + 1 <= rate.limit + flowed_in + 1e-6


def test_one_order_over_several_worker_processes(tmp_path: Path) -> None:
    """Jobs of mixed priorities start in the order of their rank, but for the few that start together."""
    processes, threads = 4, 1
    with Stack(tmp_path, prefetch_seconds=0.0, **QUICK_DISPATCH) as stack:
        priorities = random.Random(3).sample(range(-100, 101), 120)
        jobs = [
            NewJob(QUEUE, "slow", '{"token": "t", "seconds": 0.02}', priority=priority)
            for priority in priorities
        ]
        # In a caller's transaction: nothing is pushed by the submit, in the order of creation.
        with stack.database.transaction() as connection:
            stack.submitter.create_within(connection, [NewNode(job) for job in jobs])
        stack.scheduler()
        stack.workers(processes, threads=threads)
        stack.wait_until_finished(60)
        started = [row[0] for row in stack.rows("SELECT priority FROM jobs ORDER BY started_at, id")]
    by_rank = sorted(priorities, reverse=True)
    moved = [abs(by_rank.index(priority) - place) for place, priority in enumerate(started)]
    assert max(moved) <= 2 * processes * threads


def test_nothing_starves_under_an_endless_stream_of_urgent_jobs(tmp_path: Path) -> None:
    """With a head start of a second a step, those of priority 3 overtake a job for three seconds, no more."""
    with Stack(tmp_path, priority_head_start_seconds=1.0, prefetch_seconds=0.0, **QUICK_DISPATCH) as stack:
        stack.scheduler()
        stack.workers(1, threads=2)
        urgent = ['{"token": "urgent", "seconds": 0.02}'] * 40
        create(stack, "slow", urgent * 2, priority=3)
        (patient,) = create(stack, "slow", ['{"token": "patient", "seconds": 0.02}'])
        waited: list[int] = []

        def has_started() -> bool:
            # Twice what two threads can do: the urgent ones alone would fill every moment.
            if stack.count("queued") < 300:
                create(stack, "slow", urgent, priority=3)
            waited.append(stack.rows("SELECT count(*) FROM jobs WHERE started_at IS NOT NULL")[0][0])
            return bool(stack.rows("SELECT FROM jobs WHERE id = %s AND started_at IS NOT NULL", (patient,)))

        wait_until(has_started, 60, "the patient job to start")
        overtaken = stack.rows("SELECT count(*) FROM jobs WHERE priority = 3 AND started_at IS NULL")[0][0]
    assert waited[-1] > 80, "urgent jobs went first"
    assert overtaken > 0, "and there was no end of them"
