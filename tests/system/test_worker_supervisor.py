"""`goqueue worker`: real processes that die, are replaced, and end with their supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.ops import kept_command
from goqueue.ops.processes import ChildProcess, Command
from goqueue.ops.supervisor import Supervisor
from tests.support.waiting import wait_until

START_SECONDS = 40  # two busy cores start a worker slowly
NOT_FORCED = threading.Event()

#: These start many processes; on two busy cores that takes its time.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`goqueue worker` with one process on the test's database."""
    command = [sys.executable, "-m", "goqueue", "worker", "--processes", "1", "--threads", "2"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment_of(settings), stderr=log)
        yield process
        process.kill()
        process.wait()


def live_workers(database: Database) -> list[int]:
    """The process ids of the workers that have registered and not said goodbye."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT pid FROM workers WHERE stopped_at IS NULL ORDER BY id")
        return [row[0] for row in rows.fetchall()]


def wait_for_worker(database: Database, *, other_than: int = 0) -> int:
    """Wait until a worker is registered; its process id."""
    wait_until(
        lambda: any(pid != other_than for pid in live_workers(database)),
        START_SECONDS,
        "a worker to register",
    )
    return live_workers(database)[-1]


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_of(script: str, *, grace_seconds: float = 5.0) -> Command:
    """A shell script as a command to keep."""
    return Command("script", ("/bin/sh", "-c", script), {"PATH": os.defpath}, grace_seconds)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the supervisor logs."""
    noted: list[dict[str, Any]] = []

    class Log:
        def note(self, event: str, **fields: Any) -> None:
            noted.append({"event": event, **fields})

        info = error = note

    monkeypatch.setattr(kept_command, "log", Log())
    return noted


@pytest.fixture
def keep() -> Iterator[Callable[[Command], Supervisor]]:
    """Starts a supervisor of one command, and kills what the test leaves."""
    started: list[Supervisor] = []

    def start(command: Command) -> Supervisor:
        kept = Supervisor([command])
        started.append(kept)
        kept.start()
        return kept

    yield start
    forced = threading.Event()
    forced.set()
    for kept in started:
        kept.stop(forced)


def test_a_killed_worker_is_replaced_and_sigterm_ends_all(
    worker: subprocess.Popen[bytes], database: Database
) -> None:
    """A worker that is SIGKILLed gets a successor; SIGTERM drains it, leaves no process, and exits with 0."""
    first = wait_for_worker(database)
    os.kill(first, signal.SIGKILL)
    second = wait_for_worker(database, other_than=first)
    family = psutil.Process(worker.pid).children(recursive=True)
    assert second in {process.pid for process in family}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert second not in live_workers(database)
    assert all(ended(process) for process in family)


def test_workers_drain_when_their_supervisor_is_killed(
    worker: subprocess.Popen[bytes], database: Database
) -> None:
    """A SIGKILLed supervisor leaves no process, and its worker still gives its lease back."""
    wait_for_worker(database)
    family = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    wait_until(lambda: all(ended(process) for process in family), 30, "the orphans to end")
    assert live_workers(database) == []


def test_restarts_slow_down(keep: Callable[[Command], Supervisor], events: list[dict[str, Any]]) -> None:
    """A command that ends at once is started again after 0.1 s, 0.2 s, 0.4 s …, and each exit is logged."""
    kept = keep(command_of("exit 7"))

    def has_ended_three_times() -> bool:
        kept.tend()
        return len([event for event in events if event["event"] == "process_exited"]) == 3

    started = time.monotonic()
    wait_until(has_ended_three_times, 20, "three exits")
    exits = [event for event in events if event["event"] == "process_exited"]
    assert [event["restart_in_seconds"] for event in exits] == [0.1, 0.2, 0.4]
    assert {event["code"] for event in exits} == {7}
    assert time.monotonic() - started >= 0.3


def test_a_signal_is_named(keep: Callable[[Command], Supervisor], events: list[dict[str, Any]]) -> None:
    """The exit of a process that a signal ended names the signal."""
    kept = keep(command_of("kill -s SEGV $$"))

    def is_noted() -> bool:
        kept.tend()
        return bool(events)

    wait_until(is_noted, 10, "the exit")
    assert events[0]["signal"] == "SIGSEGV"


def test_who_does_not_end_is_killed(keep: Callable[[Command], Supervisor]) -> None:
    """A process that ignores SIGTERM is killed after its grace period, and the stop says so."""
    kept = keep(command_of("trap '' TERM; while :; do read -r _ </dev/zero; done", grace_seconds=0.2))
    child = psutil.Process(kept.pids["script"])
    wait_until(lambda: child.cpu_times().user > 0, 10, "the loop")  # the trap is set by then
    assert kept.stop(NOT_FORCED) is False
    assert ended(child)


def test_a_clean_stop_says_so(keep: Callable[[Command], Supervisor]) -> None:
    """A process that ends on SIGTERM is a clean stop, and it is not started again."""
    kept = keep(command_of("exec cat </dev/zero >/dev/null"))
    assert kept.stop(NOT_FORCED) is True
    kept.tend()
    assert kept.pids == {}


@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["obeys", "does not obey"])
def test_what_a_dead_child_left_behind_ends(trap: str) -> None:
    """When a child is gone, what it started is told to end, too, and killed where it does not."""
    child = ChildProcess(command_of(f"{trap} cat /dev/zero >/dev/null & exit 0", grace_seconds=1.0))
    wait_until(child.has_ended, 10, "the child to end")

    def is_gone() -> bool:
        return not [p for p in psutil.process_iter() if _group_of(p.pid) == child.pid and not ended(p)]

    wait_until(is_gone, 10, "the grandchild to end")


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
