"""The examples of the documents run, and find everything as they say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.stack import ROOT, Stack
from tests.support.waiting import wait_until

#: Each starts on a machine that is busy with the other tests, too.
pytestmark = pytest.mark.timeout(300)

TIMEOUT_SECONDS = 120

#: The modules that are run; the others hold what several share.
SCRIPTS = sorted(
    path.stem for path in (ROOT / "examples").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack with everything that the examples use."""
    with Stack(
        tmp_path_factory.mktemp("examples"), actors=("examples.jobs",), heartbeat_seconds=0.5
    ) as stack:
        stack.scheduler()
        stack.api()
        stack.workers(2, threads=4)
        yield stack


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_example_runs(stack: Stack, script: str, tmp_path: Path) -> None:
    """`python -m examples.<subject>` ends with exit code 0, and is told nothing but where the API is."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{script}"],
        env=plain | {"EXAMPLES_API_URL": stack.api_url, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout, "it says what it shows"


def test_a_schedule_of_the_code_fires(stack: Stack) -> None:
    """The scheduler process has made the schedule that an actor's module declares, and creates its jobs."""
    tick = (
        "SELECT job.status FROM schedules JOIN schedule_ticks ON schedule_id = schedules.id "
        "JOIN jobs AS job ON job.id = job_id WHERE name = 'weekday_report' AND kind = 'scheduled'"
    )
    declared = "SELECT source FROM schedules WHERE name = 'weekday_report'"
    wait_until(lambda: stack.rows(declared), 30, "the schedule")
    with stack.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = now() - interval '1 hour', due_at = now() - interval '1 hour', "
            "cron = '* * * * *' WHERE name = 'weekday_report'"
        )
    wait_until(lambda: ("completed",) in map(tuple, stack.rows(tick)), 30, "the job of the tick")
