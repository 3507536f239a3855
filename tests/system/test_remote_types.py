"""Types that no Python code declares, over real processes: sent to a URL, and kept from older workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from goqueue.dev.fakes.http_server import FakeAnswer
from tests.support.jobs.label_jobs import QUEUE
from tests.support.processes.stack import Stack
from tests.support.servers.job_receiver import JobReceiver
from tests.support.waiting import wait_until

ACTORS: dict[str, Any] = {
    "actors": ("tests.support.jobs.label_jobs",),
    "webhook_allow_networks": ("127.0.0.0/8",),
}


@pytest.fixture
def stack(data_folder: Path) -> Iterator[Stack]:
    """A stack of real processes, without workers."""
    with Stack(data_folder, **ACTORS) as stack:
        stack.scheduler()
        stack.api()
        yield stack


@pytest.fixture
def receiver() -> Iterator[JobReceiver]:
    """Where jobs are sent."""
    with JobReceiver() as receiver:
        yield receiver


def ask(stack: Stack, method: str, path: str, document: dict[str, Any]) -> Any:
    """The answer of the API, which is a success."""
    answer = httpx.request(method, stack.api_url + path, json=document, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()


def create(stack: Stack, queue: str, job_type: str, **said: Any) -> int:
    """Create a job over REST."""
    return int(
        ask(stack, "POST", "/jobs/create", {"queue": queue, "type": job_type, "payload": {}} | said)["id"]
    )


def states(stack: Stack, ids: list[int]) -> list[str]:
    """The states of jobs."""
    return [row[0] for row in stack.rows("SELECT status FROM jobs WHERE id = ANY (%s) ORDER BY id", (ids,))]


def wait_until_completed(stack: Stack, ids: list[int]) -> None:
    """Wait until each of these jobs has completed."""
    wait_until(lambda: set(states(stack, ids)) == {"completed"}, 30, "the jobs to complete")


def test_running_workers_serve_a_type_that_is_declared(stack: Stack, receiver: JobReceiver) -> None:
    """One with a queue of its own, in processes that began before it was there."""
    stack.workers(2, **ACTORS)
    declared = {"schema": {}, "queue": "films", "url": f"{receiver.url}/run"}
    ask(stack, "PUT", "/types/render", {"declared": declared, "concurrency": 2})
    jobs = [create(stack, "films", "render") for _ in range(20)]
    wait_until_completed(stack, jobs)
    assert sorted(job["id"] for job in receiver.jobs) == jobs


def test_what_a_killed_worker_was_calling_is_sent_again(stack: Stack, receiver: JobReceiver) -> None:
    """By another worker, as another run of the same job: it says so by its key."""
    receiver.gives(FakeAnswer(delay_seconds=20), FakeAnswer())
    (worker,) = stack.workers(1, **ACTORS)
    ask(stack, "PUT", "/types/render", {"declared": {"schema": {}, "url": f"{receiver.url}/run"}})
    job = create(stack, "default", "render")
    wait_until(lambda: receiver.calls, 30, "the call")
    worker.kill()
    stack.workers(1, **ACTORS)
    wait_until_completed(stack, [job])
    keys = [call.headers["idempotency-key"] for call in receiver.calls]
    assert len(set(keys)) == len(keys) == 2
    assert {call.headers["goqueue-job-id"] for call in receiver.calls} == {str(job)}


def test_an_older_worker_never_runs_what_needs_a_newer_one(stack: Stack) -> None:
    """It runs the others; explain says which version is missing, until a worker has it."""
    stack.workers(2, **ACTORS, worker_version=3)
    needing = [
        create(stack, QUEUE, "train", payload={"number": 1}, requires={}, min_version=4) for _ in range(20)
    ]
    others = [create(stack, QUEUE, "train", payload={"number": 1}, requires={}) for _ in range(20)]
    wait_until_completed(stack, others)
    assert set(states(stack, needing)) == {"queued"}
    explained = ask(stack, "GET", f"/jobs/{needing[0]}/explain", {})
    assert explained["reasons"][0]["code"] == "version_too_low"
    stack.workers(1, **ACTORS, worker_version=10)
    wait_until_completed(stack, needing)
    newer = stack.rows("SELECT id FROM workers WHERE labels = ARRAY['!version=0000000010']")
    ran = stack.rows("SELECT DISTINCT worker_id FROM attempts WHERE job_id = ANY (%s)", (needing,))
    assert set(ran) == set(newer)
