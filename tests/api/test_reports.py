"""Cancelling what runs, times that pass, progress and logs, through the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import report_rows as reports
from goqueue.engine.report_rows import Line, Progress, Report
from tests.support.factories import JobFactory

Create = Callable[..., dict[str, Any]]


def say(database: Database, job_id: int, fence: int, *lines: str, progress: float | None = None) -> None:
    """Write what an attempt said."""
    said = Report(
        job_id,
        fence,
        None if progress is None else Progress(progress, "text", 0.0),
        [Line(number, text, 0.0) for number, text in enumerate(lines, 1)],
    )
    with database.autocommit() as connection:
        reports.write_progress(connection, [said])
        reports.write_lines(connection, [said])


# Cancel


def test_a_cancel_of_a_running_job_is_a_request(client: testing.TestClient, make_job: JobFactory) -> None:
    """The answer is the job, still running, with the time of the request; asking again changes nothing."""
    job = make_job("running")
    first = client.simulate_post(f"/jobs/{job.id}/cancel")
    assert first.status_code == 200
    assert (first.json["status"], first.json["worker_id"]) == ("running", job.worker_id)
    assert first.json["cancel_requested_at"].endswith("Z")
    assert (first.json["cancel_acknowledged_at"], first.json["finished_at"]) == (None, None)
    assert client.simulate_post(f"/jobs/{job.id}/cancel").json == first.json


def test_a_job_that_a_client_runs_is_cancelled_at_once(
    client: testing.TestClient, make_job: JobFactory
) -> None:
    """Nobody can be asked to stop a job that no worker holds."""
    job = make_job("running", worker_id=None)
    result = client.simulate_post(f"/jobs/{job.id}/cancel")
    assert (result.json["status"], result.json["cancel_requested_at"]) == ("cancelled", None)


def test_running_jobs_are_cancelled_by_filter(client: testing.TestClient, make_job: JobFactory) -> None:
    """The answer tells those that are cancelled from those whose workers were asked."""
    held, client_held = make_job("running", queue="noop"), make_job("running", queue="noop", worker_id=None)
    answer = client.simulate_post("/jobs/cancel", json={"queue": "noop", "status": "running"})
    assert answer.json == {"cancelled": 1, "requested": 1}
    statuses = [client.simulate_get(f"/jobs/{job.id}").json["status"] for job in (held, client_held)]
    assert statuses == ["running", "cancelled"]


def test_a_client_that_queues_a_job_again_forgets_the_cancel(
    client: testing.TestClient, make_job: JobFactory
) -> None:
    """PUT …/status to queued is a new life, as a retry is."""
    job = make_job("running")
    client.simulate_post(f"/jobs/{job.id}/cancel")
    assert client.simulate_put(f"/jobs/{job.id}/status", json={"status": "queued"}).status_code == 204
    assert client.simulate_get(f"/jobs/{job.id}").json["cancel_requested_at"] is None


# Times


def test_the_times_of_a_job_are_told(create: Create) -> None:
    """A created job says until when it may start and run."""
    job = create(expires_at="2033-01-01T00:00:00+02:00", deadline_seconds=60)
    assert job["expires_at"] == "2032-12-31T22:00:00Z"
    assert job["deadline_at"] > job["created_at"]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": "60"}, "ttl_seconds"),
        ({"deadline_seconds": 1e300}, "deadline_seconds"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2033-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "2033-01-01T00:00:00Z", "ttl_seconds": 5}, "ttl_seconds"),
        ({"expires_at": "2033-01-01T00:00:00Z", "available_at": "2033-01-01T00:00:00Z"}, "expires_at"),
        ({"deadline_seconds": 5, "delay_seconds": 60}, "deadline_seconds"),
    ],
)
def test_a_time_that_cannot_be_is_refused(
    client: testing.TestClient, rows: Callable[[], int], members: dict[str, Any], field: str
) -> None:
    """A 400 that names the field, and no row."""
    result = client.simulate_post("/jobs", json={"queue": "noop", "payload": {}} | members)
    assert (result.status_code, list(result.json["fields"])) == (400, [field])
    assert rows() == 0


@pytest.mark.parametrize("name", ["expires_at", "deadline_at"])
def test_a_client_cannot_start_an_expired_job(
    client: testing.TestClient, make_job: JobFactory, name: str
) -> None:
    """PUT …/status to running answers 409 once the time has passed, as a worker's claim is refused."""
    late, early = make_job(**{name: "2020-01-01"}), make_job(**{name: "2100-01-01"})
    answers = [
        client.simulate_put(f"/jobs/{job.id}/status", json={"status": "running"}).status_code
        for job in (late, early)
    ]
    assert answers == [409, 204]


# Progress and logs


def test_the_progress_of_a_job_is_the_latest_attempts(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A new attempt starts with none; the ended ones keep theirs."""
    job = make_job("running", fence=2, attempts=2)
    say(database, job.id, 1, progress=0.9)
    expected = {"job_id": job.id, "status": "running", "attempts": 2, "fence": 2}
    nothing = {"progress": None, "message": None, "updated_at": None}
    assert client.simulate_get(f"/jobs/{job.id}/progress").json == expected | nothing
    say(database, job.id, 2, progress=0.25)
    answer = client.simulate_get(f"/jobs/{job.id}/progress").json
    assert (answer["progress"], answer["message"]) == (0.25, "text")
    assert answer["updated_at"].endswith("Z")


def test_attempts_tell_how_far_they_came(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """Each ended attempt carries the progress that it had reached, or null."""
    job = make_job("failed", fence=2, attempts=2)
    for number in (1, 2):
        make_job.attempt(job, fence=number, attempt=number)
    say(database, job.id, 2, progress=0.5)
    attempts = client.simulate_get(f"/jobs/{job.id}/attempts").json
    assert [attempt["progress"] for attempt in attempts] == [None, 0.5]


def test_a_log_is_read_from_where_one_was(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """`after` gives the lines behind the last that was seen, `fence` those of another attempt."""
    job = make_job("running", fence=2, attempts=2)
    say(database, job.id, 1, "old")
    say(database, job.id, 2, "one", "two", "three")
    path = f"/jobs/{job.id}/logs"
    lines = client.simulate_get(path).json
    assert [(line["fence"], line["line"], line["text"]) for line in lines] == [
        (2, 1, "one"),
        (2, 2, "two"),
        (2, 3, "three"),
    ]
    assert lines[0]["logged_at"].endswith("Z")
    assert client.simulate_get(path, params={"after": 2}).json == lines[2:]
    assert client.simulate_get(path, params={"after": 3}).json == []
    assert client.simulate_get(path, params={"after": 0, "limit": 1}).json == lines[:1]
    assert [line["text"] for line in client.simulate_get(path, params={"fence": 1}).json] == ["old"]


@pytest.mark.parametrize("what", ["progress", "logs"])
def test_an_unknown_job_has_neither(client: testing.TestClient, what: str) -> None:
    """404 for a job that does not exist."""
    assert client.simulate_get(f"/jobs/4711/{what}").status_code == 404


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"after": "-1"}, "after"),
        ({"after": "x"}, "after"),
        ({"after": "1" * 30}, "after"),
        ({"fence": "2.5"}, "fence"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"before": "3"}, "before"),
    ],
)
def test_a_wrong_question_about_a_log_is_refused(
    client: testing.TestClient, make_job: JobFactory, parameters: dict[str, str], field: str
) -> None:
    """400 names the parameter."""
    result = client.simulate_get(f"/jobs/{make_job().id}/logs", params=parameters)
    assert (result.status_code, list(result.json["fields"])) == (400, [field])


def test_answers_are_as_described(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """Each answer fits its model in the description."""
    from goqueue.api.documents import CancelledDocument  # noqa: PLC0415
    from goqueue.api.reports import LogLineDocument, ProgressDocument  # noqa: PLC0415

    job = make_job("running")
    say(database, job.id, job.fence, "line", progress=1.0)
    ProgressDocument.model_validate(client.simulate_get(f"/jobs/{job.id}/progress").json)
    for line in client.simulate_get(f"/jobs/{job.id}/logs").json:
        LogLineDocument.model_validate(line)
    CancelledDocument.model_validate(client.simulate_post("/jobs/cancel", json={"queue": "noop"}).json)
