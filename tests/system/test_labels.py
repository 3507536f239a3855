"""Worker processes with labels: jobs run where they may; explain says what is missing where they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from goqueue.jobs import NewJob
from tests.support.jobs.label_jobs import QUEUE
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

ACTORS: dict[str, Any] = {"actors": ("tests.support.jobs.label_jobs",)}
GPU: dict[str, Any] = ACTORS | {"worker_labels": {"gpu": "true", "region": "eu"}}

JOBS = 20


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack of real processes, with an API that knows the types."""
    with Stack(data_folder, **ACTORS) as stack:
        stack.scheduler()
        stack.api()
        yield stack


def create(stack: Stack, **said: Any) -> int:
    """Create a job over REST."""
    document = {"queue": QUEUE, "type": "train", "payload": {"number": 1}} | said
    answer = httpx.post(f"{stack.api_url}/jobs/create", json=document, trust_env=False)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return int(answer.json()["id"])


def results(stack: Stack, ids: list[int]) -> list[tuple[str, Any]]:
    """The state and the result of each job."""
    sql = "SELECT status, result FROM jobs WHERE id = ANY (%s) ORDER BY id"
    return [(row[0], row[1]) for row in stack.rows(sql, (ids,))]


def wait_until_all_ran(stack: Stack, ids: list[int]) -> None:
    """Wait until every one of these jobs has completed."""
    wait_until(
        lambda: {status for status, _ in results(stack, ids)} == {"completed"}, 30, "the jobs to complete"
    )


def explanation(stack: Stack, job_id: int) -> dict[str, Any]:
    """What GET /jobs/{id}/explain answers."""
    found: dict[str, Any] = httpx.get(f"{stack.api_url}/jobs/{job_id}/explain", trust_env=False).json()
    return found


def test_jobs_run_only_where_their_labels_are(stack: Stack) -> None:
    """The type says what its jobs require, or a job itself; what nobody can run hides none behind it."""
    stack.workers(1, **ACTORS)
    stack.workers(1, **GPU)
    missing = create(stack, requires={"gpu": True, "region": "us"})
    stack.submitter.many([NewJob(QUEUE, "train", '{"number": 1}', requires=("tpu=true",))] * 500)
    by_type = [create(stack) for _ in range(JOBS)]
    itself = [create(stack, requires={"region": "eu"}) for _ in range(JOBS)]
    anywhere = [create(stack, requires={}) for _ in range(JOBS)]
    wait_until_all_ran(stack, by_type + itself + anywhere)
    assert {result for _, result in results(stack, by_type + itself)} == {"gpu=true,region=eu"}
    assert results(stack, [missing]) == [("queued", None)]
    waits = stack.rows(
        "SELECT extract(epoch FROM started_at - created_at)::float FROM jobs WHERE id = ANY (%s)", (by_type,)
    )
    assert sorted(wait for (wait,) in waits)[JOBS // 2] < 1.0


def test_what_is_missing_is_said_and_ends_with_the_worker(stack: Stack) -> None:
    """Explain names the labels that no worker has, and those that there are; an edit or a worker ends it."""
    stack.workers(2, **ACTORS)
    jobs = [create(stack), create(stack, requires={"gpu": True, "region": "us"}), create(stack, slots=99)]
    said = explanation(stack, jobs[0])
    assert said["reasons"][0]["code"] == "labels_missing"
    assert said["summary"].endswith(
        "no worker of the queue 'labels' has gpu=true; 2 workers listen to it: 2 without labels"
    )
    assert said["reasons"][0]["evidence"]["missing"] == {"gpu": "true"}
    assert "labels_missing" in [reason["code"] for reason in explanation(stack, jobs[2])["reasons"]]
    stack.workers(1, **GPU)
    wait_until_all_ran(stack, jobs[:1])
    said = explanation(stack, jobs[1])
    assert said["reasons"][0]["evidence"]["missing"] == {"region": "us"}
    assert "1 with gpu=true, region=eu" in said["summary"]
    said = explanation(stack, jobs[2])
    assert said["reasons"][0]["code"] == "workers_too_small"
    assert said["reasons"][0]["evidence"] | {"queue": ""} == {
        "queue": "",
        "slots": 99,
        "workers": 1,
        "most_threads": 4,
    }
    edit = {"requires": {"gpu": True}, "author": "ada"}
    answer = httpx.patch(f"{stack.api_url}/jobs/{jobs[1]}", json=edit, trust_env=False)
    assert answer.json()["requires"] == {"gpu": "true"}
    assert httpx.patch(f"{stack.api_url}/jobs/{jobs[2]}", json={"slots": 2}, trust_env=False).is_success
    wait_until_all_ran(stack, jobs)
    workers = httpx.get(f"{stack.api_url}/workers", trust_env=False).json()
    assert [worker["labels"] for worker in workers if worker["labels"]] == [{"gpu": "true", "region": "eu"}]
