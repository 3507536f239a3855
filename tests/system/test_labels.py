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


def lift(stack: Stack, slots: int, seconds: float, count: int = 1) -> list[int]:
    """Create jobs that take so many slots for so long."""
    payload = {"slots": slots, "seconds": seconds}
    return [create(stack, type="lift", payload=payload, slots=slots) for _ in range(count)]


def most_held(stack: Stack, ids: list[int]) -> int:
    """The most slots that were held in a process at once, as these jobs saw it."""
    return max(int(result["most"]) for _, result in results(stack, ids))


def test_jobs_that_take_several_slots_share_the_threads(stack: Stack) -> None:
    """Never are more slots held than there are threads, whatever comes together; and all of it runs."""
    stack.workers(1, threads=4, **ACTORS)
    ids = []
    for number in range(10):
        ids += lift(stack, 1, 0.02, 3) + lift(stack, 1 + number % 4, 0.05)
    wait_until_all_ran(stack, ids)
    assert most_held(stack, ids) <= 4
    (spent,) = stack.rows("SELECT max(attempts) FROM jobs WHERE id = ANY (%s)", (ids,))
    assert spent[0] == 1
    # Two that take half of the threads run beside each other.
    pair = lift(stack, 2, 1.0, 2)
    wait_until_all_ran(stack, pair)
    sql = "SELECT started_at, finished_at FROM jobs WHERE id = ANY (%s) ORDER BY started_at"
    first, second = stack.rows(sql, (pair,))
    assert second[0] < first[1]


def test_a_job_that_takes_all_threads_is_not_starved(stack: Stack) -> None:
    """Beside a backlog of jobs that take one it starts soon, and well before the last of those."""
    stack.workers(1, threads=4, **ACTORS)
    one = NewJob(QUEUE, "lift", '{"slots": 1, "seconds": 0.1}')
    all_threads = NewJob(QUEUE, "lift", '{"slots": 4, "seconds": 0.1}', slots=4)
    ids = stack.submitter.many([one] * 10 + [all_threads] + [one] * 200)
    wide, behind = ids[10], ids[11:]
    wait_until_all_ran(stack, ids)
    assert most_held(stack, ids) <= 4
    sql = (
        "SELECT count(*) FROM jobs WHERE id = ANY (%s) "
        "AND started_at < (SELECT started_at FROM jobs WHERE id = %s)"
    )
    ((earlier,),) = stack.rows(sql, (behind, wide))
    assert earlier < 100


def test_a_worker_that_is_too_small_says_so(stack: Stack) -> None:
    """It logs the type when it registers, and a larger one runs the job."""
    own = {**ACTORS, "actors": (*ACTORS["actors"], "tests.support.jobs.wide_jobs")}
    stack.workers(1, threads=2, **own)
    logs = list(stack.folder.glob("process-*.log"))
    wait_until(lambda: any("worker_too_small" in log.read_text() for log in logs), 10, "the warning")
    (job_id,) = stack.submitter.many([NewJob("wide", "span", "{}", slots=3)])
    assert explanation(stack, job_id)["reasons"][0]["code"] == "workers_too_small"
    stack.workers(1, threads=3, **own)
    wait_until_all_ran(stack, [job_id])
