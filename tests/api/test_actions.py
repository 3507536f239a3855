"""Cancelling and running again, pausing and resuming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine.runway.runway import Message, Runway
from goqueue.jobs import JobStatus
from tests.support.factories import JobFactory

Create = Callable[..., dict[str, Any]]


def test_a_cancelled_job_never_starts(
    client: testing.TestClient,
    create: Create,
    make_job: JobFactory,
) -> None:
    """After the answer to a cancel no claim gets the queued job, although its message is in Redis."""
    job = create()
    cancelled = client.simulate_post(f"/jobs/{job['id']}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json["status"], cancelled.json["reason"]) == ("cancelled", "cancelled")
    assert make_job.claim(job["id"]) == []


def test_a_cancel_may_be_repeated(client: testing.TestClient, create: Create) -> None:
    """A second cancel answers 200 with the same job."""
    path = f"/jobs/{create()['id']}/cancel"
    assert client.simulate_post(path).json == client.simulate_post(path).json


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
def test_a_finished_job_cannot_be_cancelled(
    client: testing.TestClient, make_job: JobFactory, status: str
) -> None:
    """A cancel of a job that ended otherwise answers 409 and leaves it."""
    job = make_job(status)
    result = client.simulate_post(f"/jobs/{job.id}/cancel")
    assert result.status_code == 409
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == status


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_dead_letter_runs_again(
    client: testing.TestClient, make_job: JobFactory, runway: Runway, status: str
) -> None:
    """A retry answers 200 with the queued job, its attempts counted anew, and its id is on the runway."""
    job = make_job(status, queue="noop", attempts=4, max_retries=3, fence=4)
    result = client.simulate_post(f"/jobs/{job.id}/retry")
    assert result.status_code == 200
    assert (result.json["status"], result.json["attempts"], result.json["finished_at"]) == ("queued", 0, None)
    assert runway.fetch("noop", 10, block_seconds=1) == [Message(job.id, 4).key.encode()]


@pytest.mark.parametrize("status", ["queued", "running", "completed", "expired", "blocked"])
def test_only_dead_letters_run_again(client: testing.TestClient, make_job: JobFactory, status: str) -> None:
    """A retry of any other job answers 409 and leaves it."""
    job = make_job(status)
    assert client.simulate_post(f"/jobs/{job.id}/retry").status_code == 409
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == status


def test_dead_letters_run_again_by_filter(client: testing.TestClient, make_job: JobFactory) -> None:
    """POST /jobs/retry queues what fits the filter, failed ones by default, and answers how many."""
    wanted = [make_job("failed", queue="noop").id for _ in range(3)]
    others = [make_job("failed", queue="email").id, make_job("cancelled", queue="noop").id]
    assert client.simulate_post("/jobs/retry", json={"queue": "noop"}).json == {"retried": 3}
    status = {job_id: client.simulate_get(f"/jobs/{job_id}").json["status"] for job_id in [*wanted, *others]}
    assert [status[job_id] for job_id in wanted] == ["queued"] * 3
    assert [status[job_id] for job_id in others] == ["failed", "cancelled"]
    answer = client.simulate_post("/jobs/retry", json={"queue": "noop", "status": "cancelled"})
    assert answer.json == {"retried": 1}


def test_many_are_retried_in_chunks(client: testing.TestClient, database: Database) -> None:
    """More dead letters than one transaction takes are all queued, and each is counted once."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, finished_at) "
            "SELECT 'noop', 'noop', 'failed', '{}', now() FROM generate_series(1, 2500)"
        )
    assert client.simulate_post("/jobs/retry", json={"type": "noop"}).json == {"retried": 2500}
    assert client.simulate_post("/jobs/retry", json={"type": "noop"}).json == {"retried": 0}
    assert client.simulate_post("/jobs/cancel", json={"type": "noop"}).json == {
        "cancelled": 2500,
        "requested": 0,
    }


@pytest.mark.parametrize("status", ["queued", "blocked"])
def test_unfinished_jobs_are_cancelled_by_filter(
    client: testing.TestClient, make_job: JobFactory, status: str
) -> None:
    """POST /jobs/cancel cancels what fits the filter and answers how many."""
    wanted = make_job(status, queue="noop")
    other = make_job(status, queue="email")
    answer = client.simulate_post("/jobs/cancel", json={"queue": "noop", "status": status})
    assert answer.json == {"cancelled": 1, "requested": 0}
    assert client.simulate_get(f"/jobs/{wanted.id}").json["status"] == "cancelled"
    assert client.simulate_get(f"/jobs/{other.id}").json["status"] == status


def test_a_paused_queue_starts_nothing(
    client: testing.TestClient,
    create: Create,
    make_job: JobFactory,
    runway: Runway,
) -> None:
    """After a pause no claim gets the queue's jobs; after a resume the same message does."""
    job = create()
    paused = client.simulate_post("/queues/noop/pause")
    assert paused.status_code == 200
    assert (paused.json["name"], paused.json["paused"]) == ("noop", True)
    assert paused.json["paused_at"].endswith("Z")
    assert make_job.claim(job["id"]) == []
    assert runway.lengths(["noop"]) == [(0, 0)]
    resumed = client.simulate_post("/queues/noop/resume")
    assert resumed.json == {
        "name": "noop",
        "paused": False,
        "paused_at": None,
        "paused_until": None,
        "paused_by": None,
        "pause_reason": None,
    }
    assert runway.wait_for_wake(1)
    assert len(make_job.claim(job["id"])) == 1


def test_a_paused_queue_accepts_jobs(client: testing.TestClient, create: Create, runway: Runway) -> None:
    """Jobs of a paused queue are created and wait; none reaches the runway."""
    client.simulate_post("/queues/noop/pause")
    assert create()["status"] == "queued"
    assert runway.lengths(["noop"]) == [(0, 0)]


def test_a_pause_may_be_repeated(client: testing.TestClient) -> None:
    """A second pause keeps the time of the first."""
    assert client.simulate_post("/queues/noop/pause").json == client.simulate_post("/queues/noop/pause").json


def test_a_queue_with_a_row_may_be_used_without_a_type_of_its_own(
    client: testing.TestClient, make_job: JobFactory
) -> None:
    """A queue that only exists as a row takes jobs that say their type."""
    make_job(queue="only-a-row", status=JobStatus.COMPLETED)
    request = {"queue": "only-a-row", "payload": {}}
    assert "type" in client.simulate_post("/jobs", json=request).json["fields"]
    assert client.simulate_post("/jobs", json=request | {"type": "noop"}).status_code == 201
