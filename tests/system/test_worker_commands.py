"""Workers that are told to be quiet, to go on and to stop, under load: nothing is lost or runs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.engine.workers.worker_rows import WorkerCommand
from tests.support.processes.stack import Stack, load
from tests.support.waiting import wait_until

#: An operator's word arrives with the next heartbeat.
QUICK: dict[str, Any] = {"heartbeat_seconds": 0.2}

pytestmark = pytest.mark.timeout(180)


def tell(stack: Stack, worker_id: int, command: WorkerCommand | None) -> None:
    """Tell a worker as the API does."""
    tell_worker(stack.database, stack.settings, worker_id, command)


def live(stack: Stack) -> list[int]:
    """The ids of the workers that hold a lease, the oldest first."""
    return [row[0] for row in stack.rows("SELECT id FROM workers WHERE stopped_at IS NULL ORDER BY id")]


def held(stack: Stack, worker_id: int) -> int:
    """How many jobs a worker holds."""
    sql = "SELECT count(*) FROM jobs WHERE status = 'running' AND worker_id = %s"
    return int(stack.rows(sql, (worker_id,))[0][0])


def ended(stack: Stack, worker_id: int) -> int:
    """How many attempts of a worker have ended."""
    return int(stack.rows("SELECT count(*) FROM attempts WHERE worker_id = %s", (worker_id,))[0][0])


def test_a_quiet_worker_finishes_what_it_has_and_takes_nothing_until_it_is_resumed(data_folder: Path) -> None:
    """Under load its jobs complete, the others do all further work, and it is there and says its memory."""
    with Stack(data_folder, **QUICK) as stack:
        stack.scheduler()
        stack.workers(2)
        quiet, other = live(stack)
        with load(stack, "slow", seconds=0.05):
            wait_until(lambda: ended(stack, quiet) > 10, 20, "both to work")
            tell(stack, quiet, WorkerCommand.QUIET)
            wait_until(
                lambda: stack.logged("worker_told", "goqueue.worker.received_commands"), 10, "it to hear it"
            )
            wait_until(lambda: held(stack, quiet) == 0, 10, "it to finish")
            done, others = ended(stack, quiet), ended(stack, other)
            wait_until(lambda: ended(stack, other) > others + 60, 20, "the other to go on")
            assert (ended(stack, quiet), held(stack, quiet)) == (done, 0)
            ((memory, beats),) = stack.rows(
                "SELECT memory_bytes, heartbeat_at > now() - interval '2 seconds' FROM workers WHERE id = %s",
                (quiet,),
            )
            assert beats
            assert 10 << 20 < memory < 1 << 30
            tell(stack, quiet, None)
            wait_until(lambda: ended(stack, quiet) > done + 10, 20, "it to work again")
        stack.wait_until_finished(30)
        report = stack.report()
        assert report.valid
        assert report.duplicated == {}


def test_a_worker_that_serves_alone_leaves_its_queue_when_it_is_quiet(data_folder: Path) -> None:
    """What lies on the runway of a quiet worker stays there, queued, and runs when it is resumed."""
    with Stack(data_folder, **QUICK) as stack:
        stack.scheduler()
        stack.workers(1)
        (only,) = live(stack)
        tell(stack, only, WorkerCommand.QUIET)
        wait_until(
            lambda: stack.logged("worker_told", "goqueue.worker.received_commands"), 10, "it to hear it"
        )
        stack.collector.submit("quick", 30)
        # A fetch that waited already takes them once, and puts them back.
        wait_until(lambda: stack.runway_length() == 30, 10, "the jobs to lie on the runway")
        assert stack.count("queued") == 30
        tell(stack, only, None)
        stack.wait_until_finished(20)
        assert stack.report().valid


def test_a_stopped_worker_drains_and_is_not_replaced(data_folder: Path) -> None:
    """`goqueue worker` goes on with what is left, and ends with 0 when its last process was stopped, too."""
    with Stack(data_folder, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        group = stack.supervisor(2)
        wait_until(lambda: len(live(stack)) == 2, 30, "the group's workers")
        first, second = live(stack)
        stack.workers(1)
        with load(stack, "slow", seconds=0.05):
            wait_until(lambda: ended(stack, first) > 10, 20, "it to work")
            tell(stack, first, WorkerCommand.STOP)
            wait_until(lambda: first not in live(stack), 20, "it to end")
            wait_until(lambda: stack.logged("process_stopped_on_request") == 1, 20, "its supervisor to know")
            assert not group.has_ended()
            tell(stack, second, WorkerCommand.STOP)
            wait_until(group.has_ended, 20, "the group to end")
        stack.wait_until_finished(30)
        assert group.exit_code == 0
        assert len(live(stack)) == 1
        assert [stack.logged(event) for event in ("process_restarted", "process_exited")] == [0, 0]
        report = stack.report()
        assert report.valid
        assert report.duplicated == {}


def test_a_stop_and_a_sigterm_are_no_second_sigterm(data_folder: Path) -> None:
    """Dramatiq's own command ends with 0 after a stop; a SIGTERM meanwhile does not cut its jobs off."""
    with Stack(data_folder, **QUICK) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        (process,) = stack.workers(1)
        (worker,) = live(stack)
        stack.collector.submit("slow", 4, seconds=4.0)
        wait_until(lambda: held(stack, worker) == 4, 10, "its jobs to run")
        tell(stack, worker, WorkerCommand.STOP)
        wait_until(
            lambda: stack.logged("worker_told", "goqueue.worker.received_commands"), 10, "it to hear it"
        )
        process.terminate()
        wait_until(process.has_ended, 20, "the process to end")
        assert process.exit_code == 0
        assert stack.rows("SELECT DISTINCT outcome FROM attempts") == [("completed",)]
        assert stack.count("completed") == 4
        report = stack.report()
        assert report.valid
        assert report.duplicated == {}
