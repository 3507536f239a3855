"""An upgrade while everything runs: processes of the release before, and of this one, on one schema."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from goqueue.db.retired_indexes import RETIRED_INDEXES
from goqueue.migrations.upgrade import downgrade, upgrade
from goqueue.ops.processes import ChildProcess
from tests.support.database.places import misplaced
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import FAST_LEASES, ROOT, Stack
from tests.support.waiting import wait_until

#: The last commit of the release before, and the revision of its schema.
COMMIT = "0b2eefa"
REVISION = "0015"

#: So many jobs are created by each request, and so many are waited for in each part of the test.
BATCH = 20
JOBS = 400


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before, out of the history of this repository."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not here")
    archive = subprocess.run(
        [git, "-C", str(ROOT), "archive", COMMIT, "goqueue", "tests"], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip("the history of this repository is not here")
    folder = tmp_path_factory.mktemp("release-before")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """Servers with the schema of the release before."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        downgrade(stack.database, REVISION)
        yield stack


@contextmanager
def created(stack: Stack) -> Iterator[list[int]]:
    """Create jobs over REST inside the block; the ids of those that were acknowledged."""
    ended = threading.Event()
    ids: list[int] = []
    jobs = [{"queue": QUEUE, "type": "quick", "payload": {"token": "t"}}] * BATCH

    def create() -> None:
        while not ended.wait(0.05):
            answer = httpx.post(f"{stack.api_url}/jobs/batch", json={"jobs": jobs}, trust_env=False)
            if answer.is_success:
                ids.extend(answer.json()["ids"])

    thread = threading.Thread(target=create, name="creates", daemon=True)
    thread.start()
    try:
        yield ids
    finally:
        ended.set()
        thread.join(30)


def wait_for_more(stack: Stack, count: int = JOBS) -> None:
    """Wait until so many more jobs have completed."""
    before = stack.count("completed")
    wait_until(lambda: stack.count("completed") >= before + count, 60, "jobs to complete")


def wait_until_registered(stack: Stack, workers: int) -> None:
    """Wait until so many workers hold a lease."""
    wait_until(lambda: len(stack.worker_pids()) == workers, 30, f"{workers} workers")


def end(*children: ChildProcess) -> None:
    """End processes as a deploy ends them."""
    for child in children:
        child.terminate()
    for child in children:
        wait_until(child.has_ended, 30, "the process to end")


def indexes(stack: Stack) -> set[Any]:
    """The indexes of jobs."""
    return {row[0] for row in stack.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'jobs'")}


def test_an_upgrade_beside_the_release_before(stack: Stack, old_code: Path) -> None:
    """Migrated under load, served by both releases at once, then by this one alone: every job ran once."""
    worker = ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", "4", "--skip-logging"]
    old_scheduler = stack.run(["-m", "goqueue", "scheduler"], root=old_code)
    old_workers = [stack.run(worker, root=old_code) for _ in range(2)]
    old_api = stack.run(["-m", "goqueue", "api"], root=old_code)
    wait_until(stack.api_answers, 30, "the API to answer")
    wait_until_registered(stack, 2)
    with created(stack) as ids:
        wait_for_more(stack)
        upgrade(stack.database)
        assert set(RETIRED_INDEXES) <= indexes(stack)
        wait_for_more(stack)
        new_workers = [stack.worker() for _ in range(2)]
        wait_until_registered(stack, 4)
        wait_for_more(stack)
        new_scheduler = stack.scheduler()
        end(old_scheduler)
        wait_for_more(stack)
        end(*old_workers)
        wait_for_more(stack)
    end(old_api)
    stack.wait_until_finished(60)
    with stack.database.autocommit() as connection:
        assert misplaced(connection) == {}
    ran = stack.rows(
        "SELECT status, count(*), count(DISTINCT job_id) FROM jobs JOIN attempts ON job_id = id "
        "WHERE id = ANY (%s) GROUP BY status",
        (ids,),
    )
    assert [tuple(row) for row in ran] == [("completed", len(ids), len(ids))]
    wait_until(lambda: not set(RETIRED_INDEXES) & indexes(stack), 60, "the old indexes to go")
    end(new_scheduler, *new_workers)
