"""Workers that are killed, fall silent, or are told to stop."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from goqueue.ops.processes import ChildProcess
from goqueue.scheduler.watchdog import EXIT_CODE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until
from tests.system.scenarios import silent_worker

RUNNING_AGAIN_SECONDS = 20.0
ELSEWHERE_SECONDS = 3.0


def test_lost_workers_lose_nothing_and_repeat_only_what_they_ran(data_folder: Path) -> None:
    """Three SIGKILLs and a silent worker in 500 jobs, default leases: what ran runs again within 20 s."""
    with Stack(data_folder) as stack:
        stack.collector.history.harmed_workers = set()
        stack.scheduler()
        stack.workers(2)
        ids = stack.collector.submit("slow", 500, seconds=0.05)
        for done in (30, 120, 210):
            wait_until(lambda: stack.count("completed") >= done, 20, f"{done} completed jobs")  # noqa: B023
            stack.kill(_holder(stack, ids))
            stack.worker()
        # Killed ones are noticed by their neighbours at once; of a silent one only its lease can tell.
        stack.pause(_holder(stack, stack.collector.submit("slow", 4, seconds=1.0, priority=100)))
        stack.wait_until_finished(60)
        report = stack.report()
        assert report.valid
        assert report.ok == 504
        assert report.recovered >= 4
        assert stack.settings.lease_seconds - stack.settings.heartbeat_seconds < max(report.recovery_seconds)
        assert max(report.recovery_seconds) <= RUNNING_AGAIN_SECONDS


def test_a_stopped_worker_cannot_write_when_it_goes_on(data_folder: Path) -> None:
    """Results of a worker stopped past its lease are refused and counted, and its jobs run elsewhere."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        silent_worker(stack)
        report = stack.report()
        assert report.valid
        assert report.ok == 6
        assert report.duplicated["worker_died"] >= 1


def test_a_worker_that_is_told_to_stop_gives_back_what_it_cannot_finish(data_folder: Path) -> None:
    """SIGTERM lets jobs finish in time; the rest, even stuck, go back unspent and start elsewhere in 3 s."""
    with Stack(data_folder, shutdown_grace_seconds=2.0) as stack:
        stack.collector.history.drained = True
        stack.scheduler()
        (old,) = stack.workers(1)
        short = stack.collector.submit("slow", 2, seconds=1.0)
        long = stack.collector.submit("slow_at_first", seconds=60.0)
        long += stack.collector.submit("slow_at_first", seconds=60.0, step_seconds=60.0)
        wait_until(lambda: stack.count("running") == 4, 10, "four jobs to run")
        stack.workers(1)
        old.terminate()
        wait_until(old.has_ended, 20, "the old worker to end")
        stack.wait_until_finished(20)
        report = stack.report()
        assert report.valid
        assert old.exit_code == 0
        assert report.duplicated == {"interrupted": 2}
        assert _outcomes(stack, short) == ["completed"] * 2
        assert _outcomes(stack, long) == ["completed", "completed", "interrupted", "interrupted"]
        assert stack.rows("SELECT DISTINCT attempts FROM jobs") == [(1,)]
        assert _longest_wait_after_return(stack) <= ELSEWHERE_SECONDS


def test_a_standby_takes_the_lead_when_the_leading_scheduler_is_killed(data_folder: Path) -> None:
    """Another scheduler leads within 5 s, and jobs go on being dispatched."""
    with Stack(data_folder) as stack:
        leading, term = _two_schedulers(stack)
        stack.workers(1)
        stack.kill(leading.pid)
        wait_until(lambda: _term(stack) > term, 5, "the standby to lead")
        stack.collector.submit("quick", 300)
        stack.wait_until_finished(20)
        assert stack.report().valid


def test_a_standby_takes_the_lead_when_the_leading_scheduler_is_stopped(data_folder: Path) -> None:
    """Another one leads within 15 s, and the stopped one ends by itself, with an error, when it goes on."""
    with Stack(data_folder) as stack:
        leading, term = _two_schedulers(stack)
        stack.workers(1)
        stack.pause(leading.pid)
        paused_at = time.monotonic()
        wait_until(lambda: _term(stack) > term, 15, "the standby to lead")
        stack.collector.submit("quick", 300)
        stack.wait_until_finished(20)
        taken = _term(stack)
        # One that was stopped for less than its lease finds out itself that it leads no more, and stands by.
        longer = stack.settings.leader_lease_seconds + 1
        wait_until(lambda: time.monotonic() - paused_at > longer, 15, "the stop to outlast the lease")
        stack.resume(leading.pid)
        wait_until(leading.has_ended, 20, "the stopped one to end")
        assert leading.exit_code == EXIT_CODE
        assert stack.logged("process_ended_by_watchdog") == 1
        assert _term(stack) == taken
        assert stack.report().valid


def _two_schedulers(stack: Stack) -> tuple[ChildProcess, int]:
    """Start two; the one that leads, and its term."""
    leading = stack.scheduler()
    wait_until(lambda: _term(stack), 20, "a leader")
    stack.scheduler()
    wait_until(lambda: _schedulers(stack) == 2, 20, "the standby")
    return leading, _term(stack)


def _holder(stack: Stack, job_ids: list[int]) -> int:
    """A living worker that runs one of these jobs."""
    sql = "SELECT pid FROM workers JOIN jobs ON jobs.worker_id = workers.id WHERE jobs.id = ANY(%s)"
    holders: list[int] = []

    def found() -> bool:
        holders[:] = [row[0] for row in stack.rows(sql, (job_ids,)) if psutil.pid_exists(row[0])]
        return bool(holders)

    wait_until(found, 20, "a worker to run one of the jobs")
    return holders[0]


def _outcomes(stack: Stack, job_ids: list[int]) -> list[str]:
    rows = stack.rows("SELECT outcome FROM attempts WHERE job_id = ANY(%s) ORDER BY outcome", (job_ids,))
    return [row[0] for row in rows]


def _longest_wait_after_return(stack: Stack) -> float:
    rows = stack.rows(
        "SELECT max(extract(epoch FROM later.started_at - attempts.finished_at))::float FROM attempts "
        "JOIN attempts AS later ON later.job_id = attempts.job_id AND later.fence = attempts.fence + 1 "
        "WHERE attempts.outcome = 'interrupted'"
    )
    return float(rows[0][0])


def _term(stack: Stack) -> int:
    """The term of the scheduler that leads now; 0 where none does."""
    rows = stack.rows("SELECT term FROM leadership WHERE holder IS NOT NULL AND expires_at > now()")
    return int(rows[0][0]) if rows else 0


def _schedulers(stack: Stack) -> int:
    """How many schedulers are connected."""
    sql = (
        "SELECT count(DISTINCT application_name) FROM pg_stat_activity "
        "WHERE application_name LIKE 'goqueue-scheduler %%'"
    )
    return int(stack.rows(sql)[0][0])
