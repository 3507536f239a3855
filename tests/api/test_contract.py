"""The six routes of the original service, field by field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.jobs import JobStatus
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

EMAIL = {"to": "a@example.com", "subject": "Hello", "body": "World"}
ORIGINAL_FIELDS = {
    "id",
    "queue",
    "payload",
    "status",
    "attempts",
    "max_retries",
    "result",
    "error",
    "created_at",
    "updated_at",
}
Create = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("path", ["/jobs", "/jobs/create"])
def test_a_job_is_created_and_read(client: testing.TestClient, path: str) -> None:
    """A create answers 201 with the whole job and where it is, and a read answers the same."""
    created = client.simulate_post(path, json={"queue": "email", "payload": EMAIL})
    assert created.status_code == 201, created.text
    assert created.headers["content-type"] == "application/json"
    assert created.headers["location"] == f"/jobs/{created.json['id']}"
    assert created.json.keys() >= ORIGINAL_FIELDS
    found = client.simulate_get(created.headers["location"])
    assert found.status_code == 200
    assert found.json == created.json


def test_a_new_job_has_the_defaults(create: Create) -> None:
    """What a create does not say comes from the type and the contract."""
    job = create(payload={"number": 7})
    expected = {
        "queue": "noop",
        "type": "noop",
        "status": "queued",
        "payload": {"number": 7},
        "attempts": 0,
        "max_retries": 5,
        "priority": 0,
        "time_limit_seconds": None,
        "result": None,
        "error": "",
        "reason": None,
        "worker_id": None,
        "started_at": None,
        "finished_at": None,
    }
    assert job | expected == job


def test_times_are_rfc_3339_in_utc(create: Create) -> None:
    """Every time of an answer is UTC and ends in Z, whatever zone the request used."""
    job = create(available_at="2031-02-03T04:05:06.5+02:00")
    assert job["available_at"] == "2031-02-03T02:05:06.500000Z"
    created_at = datetime.fromisoformat(job["created_at"])
    assert job["created_at"].endswith("Z")
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)


def test_the_zero_time_of_go_means_now(create: Create) -> None:
    """A client in Go that leaves the time unset sends year one: the job may run at once."""
    assert create(available_at="0001-01-01T00:00:00Z")["status"] == "queued"


def test_a_create_takes_everything_that_it_says(create: Create) -> None:
    """The options of a create are in the job."""
    members = {"max_retries": 0, "priority": -100, "time_limit_seconds": 1.5, "type": "noop"}
    job = create(**members)
    assert job | members == job


@pytest.mark.parametrize(
    ("queue", "payload", "type_name"),
    [
        pytest.param("default", EMAIL, "send_email", id="default"),
        pytest.param("email", EMAIL, "send_email", id="email"),
        pytest.param(
            "payment",
            {"payment_id": "p1", "user_id": "u1", "amount": 5, "currency": "INR", "method": "upi"},
            "process_payment",
            id="payment",
        ),
        pytest.param(
            "webhooks",
            {"url": "https://example.com/", "method": "POST", "body": {}, "timeout": 5},
            "send_webhook",
            id="webhooks",
        ),
    ],
)
def test_a_queue_of_the_original_names_the_type(
    client: testing.TestClient, queue: str, payload: dict[str, Any], type_name: str
) -> None:
    """A client that knows only queues gets the job type that the original ran there."""
    created = client.simulate_post("/jobs/create", json={"queue": queue, "payload": payload})
    assert created.status_code == 201, created.text
    assert created.json["type"] == type_name
    assert created.json["max_retries"] == 3


def test_the_list_of_a_queue_is_an_array_newest_first(client: testing.TestClient, create: Create) -> None:
    """GET /jobs?queue= answers a JSON array of whole jobs, the newest first."""
    older, newer = create(), create()
    create(queue="email", type="noop")
    listed = client.simulate_get("/jobs", params={"queue": "noop"})
    assert listed.json == [newer, older]
    assert "link" not in listed.headers


@pytest.mark.parametrize("target", [s.value for s in JobStatus])
@pytest.mark.parametrize("source", [s.value for s in JobStatus])
def test_a_client_moves_a_job_where_the_state_machine_allows(
    client: testing.TestClient, make_job: JobFactory, source: str, target: str
) -> None:
    """PUT …/status answers 204 and moves the job, or 409 and leaves it."""
    legal = {
        "queued": {"running", "cancelled", "expired"},
        "blocked": {"cancelled"},
        "running": {"queued", "completed", "failed", "cancelled"},
        "failed": {"queued"},
        "cancelled": {"queued"},
    }
    job = make_job(source)
    result = client.simulate_put(f"/jobs/{job.id}/status", json={"status": target})
    allowed = target in legal.get(source, set())
    assert result.status_code == (204 if allowed else 409), result.text
    assert result.text == "" or result.json["error"].startswith(f"job {job.id} is {source}")
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == (target if allowed else source)


def test_an_attempt_is_counted(client: testing.TestClient, create: Create) -> None:
    """POST …/increment answers 204 and counts one; a finished job answers 409."""
    job = create()
    path = f"/jobs/{job['id']}"
    assert client.simulate_post(f"{path}/increment").status_code == 204
    assert client.simulate_get(path).json["attempts"] == 1
    client.simulate_post(f"{path}/cancel")
    assert client.simulate_post(f"{path}/increment").status_code == 409


def test_a_result_is_saved(client: testing.TestClient, create: Create) -> None:
    """POST …/save answers 204; the result and the error are in the job."""
    path = f"/jobs/{create()['id']}"
    saved = client.simulate_post(f"{path}/save", json={"result": {"a": [1]}, "error": "half done"})
    assert (saved.status_code, saved.text) == (204, "")
    job = client.simulate_get(path).json
    assert (job["result"], job["error"]) == ({"a": [1]}, "half done")
    client.simulate_post(f"{path}/save", json={"result": {}, "error": ""})
    job = client.simulate_get(path).json
    assert (job["result"], job["error"]) == ({}, "")


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        pytest.param("GET", "", None, id="read"),
        pytest.param("GET", "/attempts", None, id="attempts"),
        pytest.param("PUT", "/status", {"status": "running"}, id="status"),
        pytest.param("POST", "/increment", None, id="increment"),
        pytest.param("POST", "/save", {"result": {}, "error": ""}, id="save"),
        pytest.param("POST", "/retry", None, id="retry"),
        pytest.param("POST", "/cancel", None, id="cancel"),
    ],
)
@pytest.mark.parametrize(
    "job_id", ["1", "0", "-1", "9223372036854775807", "9223372036854775808", "9" * 5000, "1_0", "abc", "%00"]
)
def test_a_job_that_is_not_there_is_404(
    client: testing.TestClient, method: str, suffix: str, body: Any, job_id: str
) -> None:
    """An unknown id, and what cannot be an id, is a 404 problem on every route of a job."""
    result = client.simulate_request(method, f"/jobs/{job_id}{suffix}", json=body)
    assert result.status_code == 404
    assert result.headers["content-type"] == "application/problem+json"


def test_attempts_are_listed_in_their_order(
    client: testing.TestClient,
    make_job: JobFactory,
) -> None:
    """GET …/attempts answers what each run ended with; a job without runs has an empty array."""
    job = make_job("failed", attempts=2, fence=2)
    make_job.attempt(job, fence=2, attempt=2, error="boom")
    make_job.attempt(job, "snoozed", run_seconds=0.25)
    attempts = client.simulate_get(f"/jobs/{job.id}/attempts").json
    assert [(a["attempt"], a["outcome"], a["error"], a["run_seconds"]) for a in attempts] == [
        (1, "snoozed", "", 0.25),
        (2, "failed", "boom", 0.5),
    ]
    assert client.simulate_get(f"/jobs/{make_job().id}/attempts").json == []


def test_each_answer_names_its_request(client: testing.TestClient) -> None:
    """X-Request-ID comes back as it was sent, or made where it is missing or odd."""
    assert (
        client.simulate_get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    )
    made = client.simulate_get("/health", headers={"X-Request-ID": "no spaces"}).headers["x-request-id"]
    assert len(made) == 32
