"""Hosts that sleep and clocks that are set: workers that are well keep their jobs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.database import shifted_clock
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

#: Of `FAST_LEASES`, more than two.
ASLEEP_SECONDS = 5.0

JOBS = 8


def test_a_host_that_sleeps_runs_nothing_twice(data_folder: Path) -> None:
    """All processes and servers stand still for more than two leases and go on: every job runs once."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        _start(stack)
        processes = stack.processes()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        ends_at = time.monotonic() + ASLEEP_SECONDS
        wait_until(lambda: time.monotonic() >= ends_at, ASLEEP_SECONDS + 30, "the time of the fault to pass")
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)
        _all_ran_once(stack)


@pytest.mark.parametrize("seconds", [pytest.param(120.0, id="forward"), pytest.param(-120.0, id="back")])
def test_a_clock_that_is_set_ends_no_lease(data_folder: Path, seconds: float) -> None:
    """PostgreSQL's clock steps by two minutes while jobs run: every job runs once."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        shifted_clock.install(stack.database)
        _start(stack)
        shifted_clock.set_clock(stack.database, seconds)
        _all_ran_once(stack)


def _start(stack: Stack) -> None:
    """Let jobs run, and a rescuer judge: a new one does not for two heartbeats."""
    stack.scheduler()
    wait_until(lambda: stack.logged("leadership_won"), 20, "a leader")
    stack.workers(2)
    stack.collector.submit("slow", JOBS, seconds=5.0)
    wait_until(lambda: stack.count("running") == JOBS, 10, "the jobs to run")
    renewed = "SELECT bool_and(heartbeat_at > started_at + make_interval(secs => %s)) FROM workers"
    beats = 3 * stack.settings.heartbeat_seconds
    wait_until(lambda: stack.rows(renewed, (beats,))[0][0], 10, "some heartbeats")


def _all_ran_once(stack: Stack) -> None:
    stack.wait_until_finished(30)
    report = stack.report()
    assert report.valid
    assert report.ok == JOBS
    assert stack.rows("SELECT DISTINCT outcome FROM attempts") == [("completed",)]
    assert stack.logged("clock_jumped") == 1
