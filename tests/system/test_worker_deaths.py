"""How soon the jobs of dead workers run again, and which deaths count against them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from goqueue.jobs import NewJob
from tests.support.chaos.history import read_effects
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

THREADS = 4

#: Longer than any of these tests wait for a job of a dead worker.
LONG_SECONDS = 25.0

RUNNING_AGAIN_SECONDS = 10.0


def test_jobs_of_a_dead_worker_run_again_beside_others(data_folder: Path) -> None:
    """They start although no process is idle, one at a time in each, and others go on beside them."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.workers(3, threads=THREADS)
        jobs = stack.collector.submit(
            "slow_at_first", 2 * THREADS + 1, seconds=LONG_SECONDS, again_seconds=0.5
        )
        wait_until(lambda: stack.count("running") == len(jobs), 15, "all jobs to run")
        lost = _kill_the_busiest(stack)
        wait_until(lambda: _completed(stack, lost), RUNNING_AGAIN_SECONDS, "the suspects to complete")
        assert stack.count("running") == len(jobs) - len(lost)
        assert not _overlaps(stack, lost)
        assert stack.rows(
            "SELECT DISTINCT attempts, suspicion, quarantined FROM jobs WHERE id = ANY(%s)", (lost,)
        ) == [(1, 0, False)]


def test_jobs_of_a_dead_host_run_again_at_once(data_folder: Path) -> None:
    """All processes of a host are lost: none of its jobs is suspected, and all run at the same time again."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.workers(2, threads=THREADS)
        jobs = stack.collector.submit("slow_at_first", 2 * THREADS, seconds=LONG_SECONDS, again_seconds=2.0)
        wait_until(lambda: stack.count("running") == len(jobs), 15, "all jobs to run")
        stack.kill(*stack.worker_pids())
        stack.collector.submit("slow", 100, seconds=1.0)
        stack.workers(1, threads=2 * THREADS)
        again = "SELECT count(*) FROM jobs WHERE status = 'running' AND fence = 2"
        wait_until(
            lambda: stack.rows(again)[0][0] == len(jobs), RUNNING_AGAIN_SECONDS, "all jobs to run again"
        )
        assert stack.rows("SELECT count(*) FROM jobs WHERE quarantined") == [(0,)]


def test_a_death_spends_no_attempt(data_folder: Path) -> None:
    """A job without retries runs again after a death, and has the attempt that it had."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.workers(1)
        (job_id,) = _submit(stack, "slow_at_first", max_retries=0, seconds=LONG_SECONDS)
        wait_until(lambda: stack.count("running") == 1, 15, "the job to run")
        stack.kill(*stack.worker_pids())
        stack.workers(1)
        stack.wait_until_finished(20)
        assert stack.report().valid
        row = "SELECT status, attempts, deaths, fence FROM jobs WHERE id = %s"
        assert stack.rows(row, (job_id,)) == [("completed", 1, 0, 2)]
        rows = stack.rows("SELECT attempt, outcome FROM attempts WHERE job_id = %s ORDER BY fence", (job_id,))
        assert rows == [(1, "worker_died"), (1, "completed")]


def test_what_must_not_run_again_is_failed_by_a_death(data_folder: Path) -> None:
    """A job of a type that says so has run once; its neighbour, and one that never began, run again."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.workers(1)
        (once,) = _submit(stack, "never_twice", max_retries=5, seconds=LONG_SECONDS)
        (neighbour,) = _submit(stack, "slow_at_first", seconds=LONG_SECONDS)
        wait_until(lambda: len(read_effects(stack.effects)) == 2, 15, "both jobs to begin")
        stack.kill(*stack.worker_pids())
        stack.workers(1)
        stack.wait_until_finished(20)
        stack.kill(*stack.worker_pids())
        # Dies between its claim and the first line of a handler.
        stack.worker(failpoints="after_claim:kill:1")
        (unbegun,) = _submit(stack, "never_twice", seconds=0.0)
        claimed = "SELECT count(*) FROM attempts WHERE job_id = %s AND outcome = 'worker_died'"
        wait_until(lambda: stack.rows(claimed, (unbegun,))[0][0] == 1, 20, "its claim to be lost")
        stack.workers(1)
        stack.wait_until_finished(20)
        ends = dict(stack.rows("SELECT id, status || ' ' || coalesce(reason, '') FROM jobs"))
        assert ends == {once: "failed worker_died", neighbour: "completed ", unbegun: "completed "}
        assert [line.job_id for line in read_effects(stack.effects)].count(once) == 1
        assert stack.report().valid


@pytest.mark.parametrize("step_seconds", [pytest.param(0.02, id="steps"), pytest.param(60.0, id="stuck")])
@pytest.mark.parametrize(
    "free", [pytest.param(0, id="a thread is free"), pytest.param(1, id="a process is free")]
)
def test_what_a_killed_stop_gave_back_goes_to_whoever_is_free(
    data_folder: Path, step_seconds: float, free: int
) -> None:
    """Who stops a worker kills it soon after its grace: its jobs start where a thread is free."""
    with Stack(data_folder, shutdown_grace_seconds=2.0) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        (old,) = stack.workers(1, threads=THREADS)
        jobs = stack.collector.submit(
            "slow_at_first", THREADS, seconds=LONG_SECONDS, step_seconds=step_seconds, again_seconds=0.2
        )
        wait_until(lambda: stack.count("running") == THREADS, 15, "the jobs to run")
        pids = [old.pid, *stack.worker_pids()]
        stack.workers(1, threads=THREADS)
        # The other one knows short jobs only, and is never idle.
        stack.collector.submit("quick", 200)
        wait_until(lambda: stack.count("completed") == 200, 15, "the short jobs to complete")
        long = THREADS - 1 + free
        stack.collector.submit("slow_at_first", long, seconds=LONG_SECONDS)
        wait_until(lambda: stack.count("running") == THREADS + long, 15, "the other one to be busy")
        stack.workers(free, threads=THREADS)
        old.terminate()
        with suppress(AssertionError):
            wait_until(old.has_ended, 4.0, "the old worker to end")
        stack.kill(*pids)
        wait_until(lambda: _completed(stack, jobs), 5.0, "what was given back to complete")
        assert stack.count("running") == long


def _submit(stack: Stack, type_name: str, *, max_retries: int = 3, **payload: Any) -> list[int]:
    token = stack.collector.new_token()
    text = orjson.dumps({"token": token, **payload}).decode()
    return stack.submitter.many([NewJob(queue=QUEUE, type=type_name, payload=text, max_retries=max_retries)])


def _kill_the_busiest(stack: Stack) -> list[int]:
    """Kill the worker that runs the most jobs; their ids."""
    ((pid, jobs),) = stack.rows(
        "SELECT pid, array_agg(jobs.id) FROM jobs JOIN workers ON workers.id = worker_id "
        "WHERE status = 'running' GROUP BY pid ORDER BY count(*) DESC LIMIT 1"
    )
    assert len(jobs) > 1
    stack.kill(pid)
    wait_until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid), 5, "the worker to be dead")
    return list(jobs)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _completed(stack: Stack, jobs: list[int]) -> bool:
    done = stack.rows("SELECT count(*) FROM jobs WHERE id = ANY(%s) AND status = 'completed'", (jobs,))
    return bool(done[0][0] == len(jobs))


def _overlaps(stack: Stack, jobs: list[int]) -> list[Any]:
    """Pairs of runs of these jobs, after the first, that were under way in one process at once."""
    spans = defaultdict(list)
    lines = [line for line in read_effects(stack.effects) if line.job_id in jobs and line.fence > 1]
    for line in lines:
        spans[line.pid].append((line.job_id, line.what, line.time))
    return [
        (before, after)
        for runs in spans.values()
        for before, after in pairwise(sorted(runs, key=lambda run: run[2]))
        if before[1] == after[1]
    ]
