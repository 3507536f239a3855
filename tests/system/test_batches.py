"""Batches in real worker processes: what their death, and a drain, do to the jobs."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from goqueue.jobs import NewJob
from tests.support.jobs.batch_jobs import BATCH_QUEUE, PATIENT_QUEUE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

ACTORS = ("tests.support.jobs.chaos_jobs", "tests.support.jobs.batch_jobs")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack with batch types."""
    with Stack(data_folder, actors=ACTORS, **FAST_LEASES) as started:
        started.scheduler()
        yield started


def create(stack: Stack, count: int, name: str, queue: str = BATCH_QUEUE, **more: object) -> list[int]:
    """Create jobs of a type; their ids."""
    places = {"log": str(stack.folder / "batches.log"), "gate": str(stack.folder / "gate")}
    jobs = [
        NewJob(queue=queue, type=name, payload=json.dumps({"number": number} | places | more))
        for number in range(count)
    ]
    return stack.submitter.many(jobs)


def batches(stack: Stack) -> list[tuple[int, list[int]]]:
    """The batches that began: their process, and their jobs."""
    path = stack.folder / "batches.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        (int(pid), [int(job_id) for job_id in ids.split(",")])
        for pid, ids in (line.split() for line in lines)
    ]


def has_completed(stack: Stack, count: int) -> bool:
    """Whether so many jobs have."""
    return stack.count("completed") >= count


def completions(stack: Stack) -> Counter[int]:
    """How often each job was recorded as completed."""
    rows = stack.rows("SELECT job_id FROM attempts WHERE outcome = 'completed'")
    return Counter(job_id for (job_id,) in rows)


def test_every_job_of_a_killed_batch_runs_again(stack: Stack) -> None:
    """They are suspects, so each runs by itself; nothing is lost, and nothing is recorded twice."""
    stack.workers(1, threads=1)
    ids = create(stack, 10, "waits_together")
    wait_until(lambda: batches(stack), 20, "the batch")
    ((pid, first),) = batches(stack)
    assert first == ids
    others = create(stack, 10, "waits_together")
    os.kill(pid, signal.SIGKILL)
    (stack.folder / "gate").touch()
    stack.workers(2, threads=2)
    stack.wait_until_finished(60)
    rows = stack.rows("SELECT DISTINCT status, attempts, deaths FROM jobs WHERE id = ANY (%s)", (ids,))
    assert rows == [("completed", 1, 0)]
    again = [jobs for _, jobs in batches(stack)[1:]]
    assert all(len(jobs) == 1 for jobs in again if set(jobs) & set(ids))
    assert any(len(jobs) > 1 for jobs in again)
    assert completions(stack) == Counter(ids + others)


def test_a_deadly_job_dies_alone(stack: Stack) -> None:
    """It takes its batch along once; after that it is in no batch with others, which complete."""
    stack.supervisor(2, threads=2)
    (stack.folder / "gate").touch()
    (deadly,) = create(stack, 1, "waits_together", deadly=True)
    others = create(stack, 30, "waits_together")
    stack.wait_until_finished(120)
    ends = dict(stack.rows("SELECT id, coalesce(reason, status) FROM jobs"))
    assert ends == {deadly: "worker_died"} | dict.fromkeys(others, "completed")
    with_it = [jobs for _, jobs in batches(stack) if deadly in jobs]
    assert [len(jobs) for jobs in with_it[1:]] == [1] * (len(with_it) - 1)
    assert completions(stack) == Counter(others)


def test_processes_that_die_anywhere_lose_no_job_of_a_batch(stack: Stack) -> None:
    """Killed at random while they work off a backlog, each job completes, and is recorded once."""
    chosen = random.Random(7)
    ids = create(stack, 2_000, "runs_together")
    stack.workers(2, threads=2)
    for done in (200, 700, 1_200):
        wait_until(partial(has_completed, stack, done), 60, "more to be done")
        stack.kill(chosen.choice(stack.worker_pids()))
        stack.workers(1, threads=2)
    stack.wait_until_finished(120)
    assert completions(stack) == Counter(ids)
    ran = Counter(chain.from_iterable(jobs for _, jobs in batches(stack)))
    assert set(ran) == set(ids)
    rows = stack.rows("SELECT DISTINCT status, attempts FROM jobs")
    assert rows == [("completed", 1)]


def test_a_drain_gives_back_what_has_not_begun(stack: Stack) -> None:
    """A batch that runs is finished; one that fills goes back at once, with no attempt spent."""
    (worker,) = stack.workers(1, threads=2)
    running = create(stack, 3, "waits_together")
    wait_until(lambda: batches(stack), 20, "the batch")
    filling = create(stack, 3, "waits_for_others", PATIENT_QUEUE)
    claimed = "SELECT count(*) FROM jobs WHERE id = ANY (%s) AND status = 'running'"
    wait_until(lambda: stack.rows(claimed, (filling,))[0][0] == 3, 5, "the claim")
    (pid,) = stack.worker_pids()
    stack.signal(pid, signal.SIGTERM)
    wait_until(lambda: stack.rows(claimed, (filling,))[0][0] == 0, 3, "the return")
    rows = stack.rows("SELECT DISTINCT status, attempts FROM jobs WHERE id = ANY (%s)", (filling,))
    assert rows == [("queued", 0)]
    (stack.folder / "gate").touch()
    wait_until(worker.has_ended, 20, "the worker to end")
    assert completions(stack) == Counter(running)
    assert [jobs for _, jobs in batches(stack)] == [running]
