"""Processes that handlers fork: they take nothing of their worker along, and end with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from goqueue.dev.embedded import HOST, free_port
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.process_jobs")
FAST: dict[str, Any] = {"heartbeat_seconds": 0.5, "lease_seconds": 4.0, "rescue_interval_seconds": 0.2}

COMMANDS = {
    "dramatiq": ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", "2", "--skip-logging"],
    "goqueue worker": ["-m", "goqueue", "worker", "--processes", "1", "--threads", "2"],
}

pytestmark = pytest.mark.timeout(180)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_live(port: int) -> bool:
    """Whether the workers answer that they are well."""
    try:
        answer = httpx.get(f"http://{HOST}:{port}/health/live", timeout=10, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pool_of_a_killed_worker_ends_with_it(data_folder: Path, command: str) -> None:
    """Its processes hold neither the port nor the locks: the next worker answers, and the job completes."""
    port = free_port()
    with Stack(data_folder, actors=ACTORS, worker_metrics_port=port, **FAST) as stack:
        stack.scheduler()
        first = stack.run(COMMANDS[command])
        wait_until(lambda: is_live(port), 60, "the worker to answer")
        wait_until(lambda: len(stack.worker_pids()) == 1, 20, "the worker to be known")
        (worker,) = stack.worker_pids()
        stack.collector.submit("waits_for_pool", 1, seconds=600.0)
        wait_until(lambda: len(psutil.Process(worker).children()) == 2, 20, "the pool")
        pool = [process.pid for process in psutil.Process(worker).children()]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not any(runs(pid) for pid in pool), 10, "the pool to end")
        if command == "dramatiq":
            wait_until(first.has_ended, 20, "the group to end")
            stack.run(COMMANDS[command])
        wait_until(lambda: stack.worker_pids() and stack.worker_pids() != [worker], 60, "the next worker")
        wait_until(lambda: is_live(port), 20, "it to answer")
        stack.wait_until_finished(30)


def test_a_forked_process_has_connections_of_its_own(data_folder: Path) -> None:
    """Jobs that a handler's pool creates exist, the pool ends, and its worker goes on as before."""
    with Stack(data_folder, actors=ACTORS, **FAST) as stack:
        stack.scheduler()
        stack.workers(1)
        stack.collector.submit("enqueues_in_pool", 6, jobs=8)
        stack.collector.submit("quick", 200)
        stack.wait_until_finished(60)
        counts = "SELECT type, count(*) FROM jobs WHERE status = 'completed' GROUP BY type ORDER BY type"
        assert stack.rows(counts) == [("enqueues_in_pool", 6), ("naps", 48), ("quick", 200)]
        assert stack.rows("SELECT DISTINCT outcome FROM attempts") == [("completed",)]
        assert len(stack.rows("SELECT 1 FROM workers")) == 1
        # A push may be postponed: on a loaded machine a new connection takes long, and the scheduler pushes.
        trouble = ["heartbeat_failed", "fetching_paused", "outcomes_postponed"]
        assert [stack.logged(event) for event in trouble] == [0, 0, 0]
