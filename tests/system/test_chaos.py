"""Random faults: those that the code injects into itself, and those that a nemesis does from outside."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until
from tests.system import chaos

SHORT_SECONDS = 10.0

WORKER_FAILPOINTS = (
    "after_fetch:kill:0.05,after_claim:kill:0.05,before_record_commit:kill:0.02,"
    "after_record_before_ack:kill:0.02,in_heartbeat:kill:0.03"
)
SCHEDULER_FAILPOINTS = "in_dispatch:kill:0.004"


@pytest.mark.timeout(300)
def test_processes_that_die_anywhere_lose_nothing(data_folder: Path) -> None:
    """Workers and the scheduler kill themselves at every failpoint, and are restarted: the run is valid."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.supervisor(2, failpoints=WORKER_FAILPOINTS)
        stack.supervisor(1, threads=1, worker_queues=("quarantine",))
        scheduler = [stack.scheduler(failpoints=SCHEDULER_FAILPOINTS)]
        stack.collector.submit("quick", 300)
        stack.collector.submit("slow", 200, seconds=0.02)

        def is_over() -> bool:
            if scheduler[-1].has_ended():
                scheduler.append(stack.scheduler(failpoints=SCHEDULER_FAILPOINTS))
            return stack.unfinished() == 0

        wait_until(is_over, 180, "every job to finish")
        report = stack.report()
        print(f"schedulers {len(scheduler)}, worker processes {len(stack.rows('SELECT FROM workers'))}")  # noqa: T201
        assert report.valid


@pytest.mark.timeout(200)
def test_random_faults_lose_nothing(data_folder: Path) -> None:
    """A while of kills, stops, wiped and cut and restarted servers: the run is valid."""
    seed = random.SystemRandom().randrange(2**32)
    assert chaos.run(data_folder, SHORT_SECONDS, seed).valid
