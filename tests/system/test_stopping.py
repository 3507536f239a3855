"""Signals to a worker's processes, to whom and however often: what runs is finished, exit code 0."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from goqueue.ops.processes import ChildProcess
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

#: Started at once, told to stop at once: a race shows in one of them.
TRIES = 5

JOB_SECONDS = 3.0

COMMANDS = {
    "dramatiq": ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", "1", "--skip-logging"],
    "goqueue worker": ["-m", "goqueue", "worker", "--processes", "1", "--threads", "1"],
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Processes inherit what is ignored: under `nohup` they would ignore a hang-up, too."""
    before = signal.signal(SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(SIGHUP, before)


def family(child: ChildProcess) -> list[psutil.Process]:
    """A process and everything below it."""
    leader = psutil.Process(child.pid)
    return [leader, *leader.children(recursive=True)]


def tell_all(child: ChildProcess, *signals: Signals) -> None:
    """As systemd does: each process of the service gets each signal."""
    processes = family(child)
    for number in signals:
        for process in processes:
            tell(process.pid, number)


def tell_group(child: ChildProcess, *signals: Signals) -> None:
    """As a terminal and `kill -- -pgid` do: the process group of the leader gets each signal."""
    for number in signals:
        os.killpg(child.pid, number)


def tell_leader(child: ChildProcess, *signals: Signals) -> None:
    """As Kubernetes, `kill` and (twice) `timeout` do: the leader alone gets each signal."""
    for number in signals:
        tell(child.pid, number)


def tell_workers(child: ChildProcess, *signals: Signals) -> None:
    """The processes that run jobs get each signal, and not their parent."""
    for process in psutil.Process(child.pid).children():
        for number in signals:
            tell(process.pid, number)


def tell(pid: int, number: Signals) -> None:
    """Send a signal to a process that may be gone."""
    if psutil.pid_exists(pid):
        os.kill(pid, number)


WAYS = [
    pytest.param(tell_all, [SIGTERM], id="all"),
    pytest.param(tell_all, [SIGTERM, SIGTERM], id="all twice"),
    pytest.param(tell_group, [SIGTERM], id="group"),
    pytest.param(tell_group, [SIGINT], id="Ctrl-C"),
    pytest.param(tell_leader, [SIGTERM, SIGTERM], id="leader twice"),
]


def assert_drains(stack: Stack, command: str, way: Callable[..., None], signals: Sequence[Signals]) -> None:
    """Groups of one thread are told to stop while each runs a job: it finishes that, and exits with 0."""
    children = [stack.run(COMMANDS[command]) for _ in range(TRIES)]
    wait_until(lambda: len(stack.worker_pids()) == TRIES, 60, "the workers to register")
    stack.collector.submit("slow", TRIES, seconds=JOB_SECONDS)
    wait_until(lambda: stack.count("running") == TRIES, 20, "each to run a job")
    families = [process for child in children for process in family(child)]
    for child in children:
        way(child, *signals)
    stack.collector.submit("quick", TRIES)
    wait_until(lambda: all(child.has_ended() for child in children), 30, "all of them to end")
    assert [child.exit_code for child in children] == [0] * TRIES
    assert stack.rows("SELECT DISTINCT outcome FROM attempts") == [("completed",)]
    assert stack.rows("SELECT type, count(*) FROM jobs WHERE status = 'completed' GROUP BY type") == [
        ("slow", TRIES)
    ]
    assert stack.count("queued") == TRIES
    assert stack.worker_pids() == []
    wait_until(lambda: not any(runs(process) for process in families), 10, "nothing to be left")


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("way", "signals"), WAYS)
@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_is_told_to_stop_drains(
    data_folder: Path, command: str, way: Callable[..., None], signals: Sequence[Signals]
) -> None:
    """Workers finish what they run, take nothing more, end with 0 and leave no process."""
    with Stack(data_folder) as stack:
        assert_drains(stack, command, way, signals)


@pytest.mark.parametrize("way", [pytest.param(tell_all, id="all"), pytest.param(tell_leader, id="leader")])
def test_a_group_that_is_hung_up_drains(data_folder: Path, way: Callable[..., None]) -> None:
    """A closed terminal, and systemd's SendSIGHUP after SIGTERM, end `goqueue worker` in order."""
    with Stack(data_folder) as stack:
        assert_drains(stack, "goqueue worker", way, [SIGTERM, SIGHUP] if way is tell_all else [SIGHUP])


@pytest.mark.parametrize("signals", [[SIGTERM, SIGTERM], [SIGHUP]], ids=["twice", "hang up"])
def test_workers_that_are_told_without_their_parent_drain(
    data_folder: Path, signals: Sequence[Signals]
) -> None:
    """Under Dramatiq's own command the parent ends with its workers, with 0."""
    with Stack(data_folder) as stack:
        assert_drains(stack, "dramatiq", tell_workers, signals)


@pytest.mark.parametrize("command", COMMANDS)
def test_workers_that_are_told_at_their_start_end(data_folder: Path, command: str) -> None:
    """All are told as soon as the process that will run jobs is there: nothing hangs, and no lease stays.

    `goqueue worker` ends with 0. Dramatiq's own worker may be told before it can take it, and end with 1.
    """
    with Stack(data_folder) as stack:
        generations = 1 if command == "dramatiq" else 2  # the supervisor's own child is Dramatiq's parent
        codes = set()
        for _ in range(TRIES):
            child = stack.run(COMMANDS[command])
            wait_until(partial(_is_deep, child, generations), 60, "a worker", poll_seconds=0.001)
            tell_all(child, SIGTERM)
            wait_until(child.has_ended, 60, "it to end")
            codes.add(child.exit_code)
        assert codes <= ({0, 1} if command == "dramatiq" else {0})
        assert stack.worker_pids() == []


def _is_deep(child: ChildProcess, generations: int) -> bool:
    """Whether a Python process so many generations below has begun, which is no check before the start."""
    found = [psutil.Process(child.pid)]
    for _ in range(generations):
        found = [below for process in found if _is_kept(process) for below in process.children()]
    return any(_is_kept(process) for process in found)


def _is_kept(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return "python" in "".join(line[:1]) and "--check" not in line


def test_a_supervisor_that_waits_for_the_database_ends_when_told(data_folder: Path) -> None:
    """`goqueue worker` and `goqueue scheduler` that wait for a schema end with 0 after SIGTERM, or two."""
    with Stack(data_folder) as stack:
        nothing = _without_schema(stack)
        children = [stack.run(["-m", "goqueue", name], **nothing) for name in ("worker", "scheduler")]
        wait_until(lambda: stack.logged("start_postponed") == len(children), 60, "both to wait")
        for child in children:
            tell_all(child, SIGTERM, SIGTERM)
        wait_until(lambda: all(child.has_ended() for child in children), 20, "both to end")
        assert [child.exit_code for child in children] == [0, 0]


def test_the_api_and_the_scheduler_end_in_order(data_folder: Path) -> None:
    """Told all at once, and twice, they end with 0."""
    with Stack(data_folder) as stack:
        children = [stack.api(), stack.scheduler()]
        wait_until(lambda: stack.rows("SELECT 1 FROM leadership WHERE holder IS NOT NULL"), 60, "a leader")
        for child in children:
            tell_all(child, SIGTERM, SIGTERM)
        wait_until(lambda: all(child.has_ended() for child in children), 30, "both to end")
        assert [child.exit_code for child in children] == [0, 0]


def test_without_a_schema_a_worker_says_so_and_ends(data_folder: Path) -> None:
    """Dramatiq's own command on an empty database ends with 2, after one line that says what to do."""
    with Stack(data_folder) as stack:
        child = stack.run(COMMANDS["dramatiq"], **_without_schema(stack))
        wait_until(child.has_ended, 60, "it to end")
        assert child.exit_code == 2
        said = "".join(path.read_text() for path in data_folder.glob("process-*.log"))
        assert said.count("goqueue: the database has no schema yet: run `goqueue migrate`\n") == 1
        assert "Traceback" not in said


def _without_schema(stack: Stack) -> dict[str, Any]:
    """The settings of a process that is to work on an empty database."""
    stack.postgres.create_database("nothing")
    return {"database_url": SecretStr(stack.postgres.url_for("nothing"))}


def test_async_jobs_finish_within_the_grace_period(data_folder: Path) -> None:
    """They hold no thread, and are waited for all the same."""
    actors = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.process_jobs")
    with Stack(data_folder, actors=actors, shutdown_grace_seconds=20.0) as stack:
        child = stack.run([*COMMANDS["dramatiq"], "-t", "2"])
        wait_until(stack.worker_pids, 60, "the worker to register")
        stack.collector.submit("naps", 20, seconds=2.0)
        wait_until(lambda: stack.count("running") == 20, 20, "the jobs to run")
        tell_all(child, SIGTERM)
        wait_until(child.has_ended, 40, "it to end")
        assert child.exit_code == 0
        assert stack.rows("SELECT DISTINCT status, attempts, fence FROM jobs") == [("completed", 1, 1)]
        assert stack.worker_pids() == []


def test_what_does_not_end_within_the_grace_period_goes_back(data_folder: Path) -> None:
    """Dramatiq's own command keeps the setting, too, and waits neither for a system call nor for a thread."""
    actors = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.process_jobs")
    with Stack(data_folder, actors=actors, shutdown_grace_seconds=1.0) as stack:
        child = stack.run([*COMMANDS["dramatiq"], "-t", "2"])
        wait_until(stack.worker_pids, 60, "the worker to register")
        stack.collector.submit("leaves_thread", 1)
        stack.collector.submit("quick", 50)
        stack.wait_until_finished(20)
        stack.collector.submit("slow", 2, seconds=600.0)
        stack.collector.submit("naps", 3, seconds=600.0)
        # While jobs are short, some are claimed that have to wait.
        stack.collector.submit("quick", 10)
        wait_until(lambda: stack.count("running") >= 5, 20, "the jobs to run")
        tell_all(child, SIGTERM)
        wait_until(child.has_ended, 40, "it to end")
        assert child.exit_code == 0
        left = stack.rows("SELECT DISTINCT status, attempts FROM jobs WHERE status <> 'completed'")
        assert left == [("queued", 0)]
        assert stack.rows("SELECT count(*) FROM jobs WHERE type = 'slow' AND status = 'queued'") == [(2,)]
        assert stack.rows("SELECT count(*) FROM jobs WHERE type = 'naps' AND status = 'queued'") == [(3,)]
        assert stack.worker_pids() == []
