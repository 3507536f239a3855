"""Lifespans of real worker processes: opened before the first job, closed after the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from goqueue.worker.process import EXIT_UNUSABLE
from tests.support.jobs.lifespan_jobs import FAULT_VARIABLE
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.lifespan_jobs")
CLOSE_SECONDS = 1.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack whose workers have lifespans."""
    with Stack(data_folder, actors=ACTORS, lifespan_close_seconds=CLOSE_SECONDS) as started:
        yield started


def noted(stack: Stack) -> list[str]:
    """What the lifespans and their jobs have noted, in order."""
    log = stack.effects.with_name(f"{stack.effects.name}.lifespans")
    return log.read_text().splitlines() if log.exists() else []


def last_log(stack: Stack) -> str:
    """The log of the process that was started last."""
    return max(stack.folder.glob("process-*.log"), key=lambda path: int(path.stem[8:])).read_text()


def test_lifespans_are_open_while_jobs_run(stack: Stack) -> None:
    """Before the first fetch in their order, until what runs at SIGTERM has ended, then in reverse."""
    stack.scheduler()
    stack.collector.submit("uses_inner", 1, seconds=2.0)
    worker = stack.worker()
    wait_until(lambda: stack.count("running") == 1, 40, "the job to run")
    worker.terminate()
    assert worker.wait(30)
    assert worker.exit_code == 0
    expected = ["outer opens", "inner opens", "runs with inner of Connection", "ends"]
    assert noted(stack) == [*expected, "inner closes", "outer closes"]
    assert stack.count("completed") == 1


def test_a_process_whose_lifespan_cannot_be_opened_ends_before_it_fetches(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which and why in one line, and exits as a start of no use; what was open is closed."""
    monkeypatch.setenv(FAULT_VARIABLE, "open")
    stack.scheduler()
    stack.collector.submit("uses_inner", 1, seconds=0.0)
    worker = stack.worker()
    assert worker.wait(60)
    assert worker.exit_code == EXIT_UNUSABLE
    assert noted(stack) == ["outer opens", "outer closes"]
    lines = [line for line in last_log(stack).splitlines() if line.startswith("goqueue: ")]
    name = "tests.support.jobs.lifespan_jobs.open_inner"
    assert lines == [f"goqueue: the lifespan {name} cannot be opened: OSError: the vault is sealed"]
    assert stack.rows("SELECT attempts, status FROM jobs") == [(0, "queued")]
    assert stack.rows("SELECT 1 FROM workers") == []


@pytest.mark.parametrize(
    ("fault", "event", "closed"),
    [
        pytest.param("close", "lifespan_close_failed", ["outer closes"], id="raises"),
        pytest.param("hang", "lifespans_not_closed_in_time", [], id="hangs"),
    ],
)
def test_a_lifespan_that_does_not_close_holds_nothing_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, fault: str, event: str, closed: list[str]
) -> None:
    """It is logged; the others are closed, within a bounded time, and the process ends in order."""
    monkeypatch.setenv(FAULT_VARIABLE, fault)
    worker = stack.worker()
    wait_until(lambda: len(stack.worker_pids()) == 1, 40, "the worker to register")
    worker.terminate()
    assert worker.wait(20)
    assert worker.exit_code == 0
    assert noted(stack) == ["outer opens", "inner opens", *closed]
    assert stack.logged(event) == 1
    assert stack.rows("SELECT 1 FROM workers WHERE stopped_at IS NULL") == []
