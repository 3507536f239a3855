"""Metrics that several processes count together; in real processes, because each has one state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Forks processes that join a group and count; `count(number)` runs in each, and `show()` prints the group's.
SCRIPT = """
import os, sys
from pathlib import Path
from goqueue.observability import metrics
from goqueue.observability.shared_metrics import SharedMetrics, exposition

folder = Path(sys.argv[1])
shared = SharedMetrics(folder)

def run(number, count):
    pid = os.fork()
    if pid == 0:
        shared.join()
        count(number)
        os._exit(0)
    os.waitpid(pid, 0)
    return pid

def show():
    pid = os.fork()
    if pid == 0:
        shared.join()
        sys.stdout.buffer.write(exposition())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
"""


def run(folder: Path, code: str) -> list[str]:
    """The lines that a script of its own process prints."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT + code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout.splitlines()


def test_processes_count_together(tmp_path: Path) -> None:
    """What each process of a group counts is told as one sum, by any of them."""
    lines = run(
        tmp_path,
        """
def count(number):
    metrics.JOBS_CREATED.labels("email").inc(number)
    metrics.STALE_RESULTS.inc()
    metrics.JOB_WAIT.labels("email").observe_all([0.001 * number, 7.0])

for number in (1, 2, 3):
    run(number, count)
show()
""",
    )
    assert 'jobs_created_total{queue="email"} 6.0' in lines
    assert "stale_results_total 3.0" in lines
    assert 'job_wait_seconds_count{queue="email"} 6.0' in lines
    assert 'job_wait_seconds_bucket{le="0.005",queue="email"} 3.0' in lines


def test_the_dead_keep_their_counts_and_lose_their_gauges(tmp_path: Path) -> None:
    """A process that is gone leaves what it counted in one file of the group, and its gauges nowhere."""
    lines = run(
        tmp_path,
        """
def count(number):
    metrics.JOBS_CREATED.labels("email").inc(number)
    metrics.CLAIM_DURATION.observe(0.5)
    metrics.RECORDER_PENDING.set(100)

pids = [run(number, count) for number in range(1, 11)]
assert shared.pids() == set(pids)
for pid in pids:
    shared.retire(pid)
    shared.retire(pid)
print(sorted(path.name for path in folder.glob("*.db")))
show()
""",
    )
    assert lines[0] == "['counter_gone.db', 'histogram_gone.db']"
    assert 'jobs_created_total{queue="email"} 55.0' in lines
    assert "claim_duration_seconds_sum 5.0" in lines
    assert "claim_duration_seconds_count 10.0" in lines
    assert "recorder_pending 0.0" in lines


def test_what_was_counted_before_is_no_part_of_the_group(tmp_path: Path) -> None:
    """A process that joins begins at zero: what its parent counted is the parent's."""
    lines = run(
        tmp_path,
        """
metrics.STALE_RESULTS.inc(1000)
metrics.JOBS_CREATED.labels("old").inc(1000)

def count(number):
    metrics.STALE_RESULTS.inc()
    metrics.JOBS_CREATED.labels("old").inc()

run(1, count)
show()
""",
    )
    assert "stale_results_total 1.0" in lines
    assert 'jobs_created_total{queue="old"} 1.0' in lines


def test_metrics_of_applications_are_told_with_ours(tmp_path: Path) -> None:
    """A metric that a user declares at the import of a module belongs to the group as ours do."""
    lines = run(
        tmp_path,
        """
import prometheus_client
letters = prometheus_client.Counter("letters_total", "A user's.", ["paper"])
for number in (1, 2):
    run(number, lambda number: letters.labels("blue").inc(number))
show()
""",
    )
    assert 'letters_total{paper="blue"} 3.0' in lines


def test_only_a_scheduler_tells_who_leads(tmp_path: Path) -> None:
    """The gauges of the scheduler do not appear in a group of workers or of the API, not even as zeros."""
    lines = run(tmp_path, "show()")
    assert not [line for line in lines if line.startswith(("leader", "dispatcher_lag", "breaker_state"))]
    assert "recorder_pending 0.0" in lines


def test_a_file_that_a_dying_process_left_half_written_is_let_go(tmp_path: Path) -> None:
    """A file that cannot be read costs what is in it, and nothing else."""
    lines = run(
        tmp_path,
        """
run(2, lambda number: metrics.JOBS_CREATED.labels("email").inc(number))
(pid,) = shared.pids()
shared.retire(pid)
(folder / "counter_1.db").write_bytes(b"\\xff\\x00\\x00\\x00" + b"\\x00" * 4 + b"\\xff" * 500)
(folder / "counter_2.db").touch()
shared.retire(1)
show()
""",
    )
    assert [line for line in lines if line.startswith("jobs_created_total")] == [
        'jobs_created_total{queue="email"} 2.0'
    ]
