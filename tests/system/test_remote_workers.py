"""Workers outside of GoQueue, in three languages, killed, stopped and cut off: the checker's verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from goqueue.ops.processes import ChildProcess
from tests.support.chaos.history import read_effects
from tests.support.processes.stack import FAST_LEASES, ROOT, Stack, load
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

# Go builds its standard library first, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)

SLOTS = 4
WORKERS = 3
JOBS = Path("tests/support/jobs")

#: A line of the head of every request, as each client writes it: the answer to such a request is lost.
HEADERS = {
    "JavaScript": "content-type: application/json",
    "Go": "Content-Type: application/json",
    "Python": "Content-Type: application/json",
}

Command = Callable[[Path], list[str]]


def node(_folder: Path) -> list[str]:
    """The worker of examples/remote_worker.mjs."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    handlers = str(ROOT / JOBS / "chaos_handlers.mjs")
    worker = str(ROOT / "examples" / "remote_worker.mjs")
    return ["node", worker, "--queue", "chaos", "--slots", str(SLOTS), "--handlers", handlers]


def go(folder: Path) -> list[str]:
    """The worker of examples/remote_worker_go, built with the handlers of the test."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    source = folder / "worker"
    source.mkdir()
    shutil.copy(ROOT / "examples" / "remote_worker_go" / "main.go", source)
    shutil.copy(ROOT / JOBS / "chaos_handlers.go", source)
    (source / "go.mod").write_text("module worker\n\ngo 1.22\n")
    subprocess.run(["go", "build", "-o", "worker", "."], cwd=source, check=True)
    return [str(source / "worker"), "-queue", "chaos", "-slots", str(SLOTS)]


def python(_folder: Path) -> list[str]:
    """The least that speaks the protocol."""
    return [sys.executable, "-m", "tests.support.processes.remote_worker", str(SLOTS)]


LANGUAGES: dict[str, Command] = {"JavaScript": node, "Go": go, "Python": python}


class RemoteStack:
    """A stack whose jobs are run by remote workers alone, with a network between these and the API."""

    def __init__(self, stack: Stack, command: list[str]) -> None:
        self.stack = stack
        self._command = command
        stack.scheduler()
        self.api = stack.api()
        self.network = TcpProxy(stack.settings.api_port)

    def worker(self) -> ChildProcess:
        """Start a worker."""
        path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.stack.folder)}
        url = {"GOQUEUE_URL": f"http://127.0.0.1:{self.network.port}"}
        return self.stack.program(self._command, path | url)

    def workers(self, count: int) -> list[ChildProcess]:
        """Start workers, and wait until each is known."""
        living = "SELECT count(*) FROM workers WHERE stopped_at IS NULL AND remote_name IS NOT NULL"
        children = [self.worker() for _ in range(count)]
        wait_until(lambda: self.stack.rows(living)[0][0] >= count, 30, "the workers to register")
        return children

    def kill_api(self) -> None:
        """SIGKILL one process of the API; another one takes its place."""
        with suppress(psutil.NoSuchProcess, IndexError):
            self.stack.kill(psutil.Process(self.api.pid).children()[0].pid, kind="kill api")

    def go_on(self, seconds: float) -> None:
        """Let the load go on for so long."""
        until = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= until, seconds + 60)


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """The language of the workers."""
    name: str = request.param
    return name


@pytest.fixture
def remote(language: str, data_folder: Path) -> Iterator[RemoteStack]:
    """The stack of remote workers."""
    command = LANGUAGES[language](data_folder)
    with Stack(data_folder, api_processes=2, **FAST_LEASES) as stack:
        found = RemoteStack(stack, command)
        yield found
        found.network.close()


def test_remote_workers_lose_nothing(remote: RemoteStack, language: str) -> None:
    """Killed, stopped past their leases, cut off, with an API that dies: every job ends, and none wrongly."""
    stack = remote.stack
    first, second, _ = remote.workers(WORKERS)
    with load(stack, "slow", batch=8, seconds=0.05), load(stack, "fails_once", batch=2):
        stack.collector.submit("slow_at_first", 2 * SLOTS, seconds=20.0, again_seconds=0.1)
        remote.go_on(1.0)
        stack.kill(first.pid)
        remote.worker()
        stack.pause(second.pid)
        remote.go_on(2 * stack.settings.lease_seconds)
        stack.resume(second.pid)
        remote.network.cut(HEADERS[language], times=10)
        remote.go_on(1.0)
        remote.network.black_hole()
        remote.go_on(1.5 * stack.settings.lease_seconds)
        remote.network.heal()
        remote.kill_api()
        remote.go_on(2.0)
    stack.wait_until_finished(90)
    report = stack.report()
    assert report.valid
    assert report.recovered > 0
    assert report.ok > 50


def test_a_remote_worker_ends_in_order(remote: RemoteStack, language: str) -> None:
    """SIGTERM: it takes no more, finishes what it has, and says goodbye."""
    if language == "Python":
        pytest.skip("it knows of no end")
    stack = remote.stack
    stack.collector.submit("slow", 1, seconds=1.0)
    (worker,) = remote.workers(1)
    wait_until(lambda: read_effects(stack.effects), 30, "the job to begin")
    worker.terminate()
    stack.wait_until_finished(20)
    assert worker.wait(20)
    assert stack.rows("SELECT status, attempts FROM jobs") == [("completed", 1)]
    assert stack.rows("SELECT shutdown_reason, lost FROM workers WHERE remote_name IS NOT NULL") == [
        ("signal", False)
    ]
    assert stack.report().valid
