"""Threads and event loops of real workers: what a handler does to them costs no other job anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from goqueue.dev.embedded import HOST, free_port
from goqueue.worker.execution import UNSPENT_MAX
from tests.support.jobs.process_jobs import HARMS
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.process_jobs")

#: After these the loop is another one, and what ran on it runs again.
LOSES_THE_LOOP = {"closes the loop", "breaks the loop"}

pytestmark = pytest.mark.timeout(180)


def test_no_handler_ends_the_event_loop_of_the_others(data_folder: Path) -> None:
    """Whatever one does to it, all async jobs of the process complete, at the cost of no attempt."""
    # Of uvloop's loop no handler can close or break what these do.
    with Stack(data_folder, actors=ACTORS, worker_event_loop="asyncio") as stack:
        stack.scheduler()
        stack.workers(1, threads=4)
        for how in HARMS:
            stack.collector.submit("naps", 2, seconds=1.0)
            wait_until(lambda: stack.count("running") == 2, 20, "two handlers on the loop")
            stack.collector.submit("harms_loop", 1, how=how)
            stack.wait_until_finished(20)
            found = stack.rows("SELECT type, status, attempts, fence FROM jobs ORDER BY id DESC LIMIT 3")
            again = 2 if how in LOSES_THE_LOOP else 1
            expected = [("naps", "completed", 1, again)] * 2
            # What it raises itself has failed; it completes as a retry.
            own = (
                ("harms_loop", "completed", 2, 2) if how == "exits" else ("harms_loop", "completed", 1, again)
            )
            assert (how, found) == (how, [own, *expected])
        # Who loses it again and again is not run for ever.
        stack.collector.submit("closes_loop", 1)
        stack.wait_until_finished(60)
        last = stack.rows("SELECT type, status, attempts, fence FROM jobs ORDER BY id DESC LIMIT 1")
        assert last == [("closes_loop", "failed", 4, UNSPENT_MAX + 4)]
        assert len(stack.rows("SELECT 1 FROM workers")) == 1


def live(port: int) -> tuple[int, str]:
    """The status of the liveness of workers, and what it says."""
    try:
        answer = httpx.get(f"http://{HOST}:{port}/health/live", timeout=10, trust_env=False)
    except httpx.TransportError:
        return 0, ""
    return answer.status_code, answer.text


def test_an_event_loop_that_is_blocked_is_told(data_folder: Path) -> None:
    """A handler that blocks the loop is named in the log, and fails the liveness until it turns again."""
    port = free_port()
    with Stack(data_folder, actors=ACTORS, worker_metrics_port=port, liveness_seconds=6.0) as stack:
        stack.workers(1)
        wait_until(lambda: live(port)[0] == 200, 20, "the worker to be live")
        stack.collector.submit("blocks_loop", 1, seconds=12.0)
        wait_until(lambda: live(port)[0] == 503, 20, "the liveness to fail")
        assert "has not turned its event loop for" in live(port)[1]
        assert stack.logged("event_loop_blocked") == 1
        assert "blocks_loop (" in "".join(path.read_text() for path in data_folder.glob("process-*.log"))
        wait_until(lambda: live(port)[0] == 200, 20, "the worker to be live again")
        stack.wait_until_finished(10)


@pytest.mark.parametrize(
    "name", ["WorkerThread", "ConsumerThread", "recorder", "reporter", "lease", "interrupts"]
)
def test_a_process_that_lost_a_thread_is_replaced(data_folder: Path, name: str) -> None:
    """It says so, gives back what it holds, ends with an error, and another takes its place."""
    fast: dict[str, Any] = {"heartbeat_seconds": 0.5, "lease_seconds": 4.0}
    with Stack(data_folder, actors=ACTORS, **fast) as stack:
        stack.scheduler()
        group = stack.supervisor(1, threads=2)
        wait_until(stack.worker_pids, 60, "the worker to register")
        (first,) = stack.worker_pids()
        stack.collector.submit("kills_thread", 1, name=name)
        wait_until(lambda: first not in stack.worker_pids() and stack.worker_pids(), 60, "another worker")
        assert stack.logged("threads_died") == 1
        assert stack.logged("process_exited") == 1
        stack.collector.submit("quick", 10)
        stack.wait_until_finished(30)
        assert stack.count("completed") == 11
        group.terminate()
        wait_until(group.has_ended, 20, "the group to end")
        assert group.exit_code == 0


def test_code_that_holds_the_gil_for_longer_than_the_lease_is_told(data_folder: Path) -> None:
    """Its worker cannot renew the lease, its job runs again, and the error of the first attempt says why."""
    with Stack(data_folder, actors=ACTORS, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.workers(1)
        stack.collector.submit("holds_gil", 1, seconds=8)
        stack.wait_until_finished(60)
        outcomes = stack.rows("SELECT outcome, error FROM attempts ORDER BY fence")
        assert [outcome for outcome, _ in outcomes] == ["worker_died", "completed"]
        assert "(the GIL) for longer than the lease (lease_seconds)" in outcomes[0][1]
