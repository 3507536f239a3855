"""Handlers in child processes of real workers: what signals, a drain and a death of the worker do to them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from goqueue.jobs import NewJob
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.child_jobs")
FAST: dict[str, Any] = {"heartbeat_seconds": 0.5, "lease_seconds": 4.0, "rescue_interval_seconds": 0.2}
GRACE_SECONDS = 2.0

#: A child that is started imports everything, which takes its time on two busy cores.
START_SECONDS = 90

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack whose types run in children."""
    with Stack(data_folder, actors=ACTORS, shutdown_grace_seconds=GRACE_SECONDS, **FAST) as started:
        started.scheduler()
        yield started


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def submit(stack: Stack, seconds: float, how: str) -> tuple[int, int]:
    """Let a child work, and return the ids of its job and its process once it does."""
    started = stack.folder / "started"
    job_id = submit_work(stack, seconds, started, how)
    wait_until(lambda: started.exists() and started.read_text(), START_SECONDS, "the handler to start")
    return job_id, int(started.read_text())


def submit_work(stack: Stack, seconds: float, started: Path, how: str) -> int:
    """Create one job of `works`, and return its id."""
    payload = json.dumps({"seconds": seconds, "started": str(started), "how": how})
    return stack.submitter.one(NewJob(queue=QUEUE, type="works", payload=payload)).id


def job(stack: Stack, job_id: int) -> tuple[Any, ...]:
    """The status, attempts and result of a job."""
    return tuple(stack.rows("SELECT status, attempts, result FROM jobs WHERE id = %s", (job_id,))[0])


@pytest.mark.parametrize("how", ["python", "c"])
def test_children_end_with_a_killed_worker(stack: Stack, how: str) -> None:
    """Also those that run C code that holds the lock of the interpreter; the job runs again elsewhere."""
    stack.workers(1, threads=1)
    (worker,) = stack.worker_pids()
    job_id, child = submit(stack, 600.0, how)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not runs(child), 10, "the child to end")
    (stack.folder / "started").unlink()
    stack.workers(1, threads=1)
    wait_until((stack.folder / "started").exists, START_SECONDS, "the job to run again")
    assert job(stack, job_id) == ("running", 1, None)


def test_a_signal_to_all_processes_of_a_service_ends_no_child(stack: Stack) -> None:
    """As systemd sends it: what runs is finished within the grace period, and then all of them end."""
    (group,) = stack.workers(1, threads=1)
    job_id, child = submit(stack, 1.0, "python")
    family = psutil.Process(group.pid).children(recursive=True)
    assert child in {process.pid for process in family}
    for process in family:
        stack.signal(process.pid, signal.SIGTERM)
    assert group.wait(30)
    assert group.exit_code == 0
    assert job(stack, job_id) == ("completed", 1, str(child))
    assert not runs(child)


@pytest.mark.parametrize("how", ["python", "c"])
def test_a_drain_kills_what_outlives_its_grace_period(stack: Stack, how: str) -> None:
    """The job goes back with no attempt spent, and the worker ends in order and in time."""
    (group,) = stack.workers(1, threads=1)
    job_id, child = submit(stack, 600.0, how)
    group.terminate()
    assert group.wait(GRACE_SECONDS + 30)
    assert group.exit_code == 0
    assert not runs(child)
    assert job(stack, job_id) == ("queued", 0, None)
    assert stack.rows("SELECT outcome FROM attempts") == [("interrupted",)]


def test_jobs_run_on_all_children_at_once(stack: Stack) -> None:
    """As many as the worker has threads, or as a setting says."""
    stack.workers(1, threads=3, worker_child_processes=2)
    files = [stack.folder / f"started-{number}" for number in range(3)]
    for started in files:
        submit_work(stack, 3.0, started, "python")
    stack.wait_until_finished(START_SECONDS)
    pids = {started.read_text() for started in files}
    assert len(pids) == 2
    assert stack.rows("SELECT DISTINCT status, attempts FROM jobs") == [("completed", 1)]
