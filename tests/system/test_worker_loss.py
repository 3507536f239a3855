"""Workers that are killed or fall silent."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until


def test_a_stopped_worker_cannot_write_when_it_goes_on(data_folder: Path) -> None:
    """Results of a worker that was stopped past its lease are refused and counted, and its jobs run elsewhere."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.collector.history.harmed_workers = set()
        stack.scheduler()
        stack.workers(1)
        stack.collector.submit("slow", 8, seconds=1.0)
        wait_until(lambda: stack.count("running") >= 4, 10, "four jobs to run")
        (pid,) = stack.worker_pids()
        stack.pause(pid)
        stack.workers(1)
        stack.wait_until_finished(30)
        stack.resume(pid)
        wait_until(lambda: stack.logged("stale_result") >= 1, 10, "a stale result")
        report = stack.report()
        assert report.valid
        assert report.ok == 8
        assert report.duplicated["worker_died"] >= 1
