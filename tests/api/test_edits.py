"""Editing jobs over the API, replaying them edited, and their versions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from falcon import testing

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import edit_rows as edit_store
from goqueue.scheduler.cleaner import Cleaner
from tests.support.factories import JobFactory

SOON = "2033-01-01T00:00:00Z"


def patch(client: testing.TestClient, job_id: int, **members: Any) -> testing.Result:
    """Edit a job; any answer."""
    return client.simulate_patch(f"/jobs/{job_id}", json=members)


def versions(client: testing.TestClient, job_id: int) -> list[dict[str, Any]]:
    """The versions of a job."""
    found: list[dict[str, Any]] = client.simulate_get(f"/jobs/{job_id}/versions").json
    return found


def row(database: Database, job_id: int, expression: str) -> Any:
    """One expression over a job's row."""
    with database.autocommit() as connection:
        return connection.exec_driver_sql(
            f"SELECT {expression} FROM jobs WHERE id = %(id)s", {"id": job_id}
        ).scalar_one()


def test_an_edit_changes_what_it_says(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """Payload, priority and start become the new ones; the rest of the job is as it was."""
    job = create(payload={"number": 1})
    answer = patch(client, job["id"], payload={"number": 2}, priority=7, available_at=SOON)
    assert answer.status_code == 200, answer.text
    changed = {"payload": {"number": 2}, "priority": 7, "available_at": SOON}
    assert answer.json == job | changed | {"updated_at": answer.json["updated_at"]}
    assert client.simulate_get(f"/jobs/{job['id']}").json == answer.json


def test_versions_tell_who_changed_what(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """Each version has its content, its author, its time, and what is different from the one before."""
    job = create(payload={"number": 1, "text": "a"})
    second = patch(client, job["id"], payload={"number": 2}, author="ada").json
    third = patch(client, job["id"], priority=5).json
    found = versions(client, job["id"])
    assert [version["version"] for version in found] == [1, 2, 3]
    assert [version["author"] for version in found] == [None, "ada", None]
    times = [job["created_at"], second["updated_at"], third["updated_at"]]
    assert [version["edited_at"] for version in found] == times
    assert [version["changes"] for version in found] == [
        [],
        [{"path": "/payload/number", "before": 1, "after": 2}, {"path": "/payload/text", "before": "a"}],
        [{"path": "/priority", "before": 0, "after": 5}],
    ]
    assert (found[2]["payload"], found[2]["priority"]) == ({"number": 2}, 5)


def test_the_versions_are_as_described(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """The list fits the schema of the OpenAPI document."""
    job = create()
    patch(client, job["id"], payload={"anything": [None, 1]}, author="ada")
    document = client.simulate_get("/openapi.json").json
    schema = {"$ref": "#/components/schemas/VersionDocument", "components": document["components"]}
    for version in versions(client, job["id"]):
        jsonschema.Draft202012Validator(schema).validate(version)


def test_a_job_that_was_never_edited_has_one_version(
    client: testing.TestClient, create: Callable[..., Any]
) -> None:
    """It is the job as it is; of a job that does not exist there is none."""
    job = create(payload={"number": 1})
    (version,) = versions(client, job["id"])
    assert (version["version"], version["payload"], version["changes"]) == (1, {"number": 1}, [])
    assert client.simulate_get("/jobs/999/versions").status_code == 404


def test_only_the_last_fifty_versions_are_kept(
    client: testing.TestClient, create: Callable[..., Any]
) -> None:
    """The oldest go; the first that is left does not say what changed."""
    job = create()
    for priority in range(1, edit_store.MAX_VERSIONS + 3):
        patch(client, job["id"], priority=priority, author=f"a{priority}")
    found = versions(client, job["id"])
    assert [version["version"] for version in found] == list(range(3, edit_store.MAX_VERSIONS + 4))
    assert (found[0]["changes"], found[0]["edited_at"], found[0]["author"]) == (None, None, None)
    assert found[1]["changes"] == [{"path": "/priority", "before": 2, "after": 3}]


def test_the_order_follows_an_edit(
    client: testing.TestClient, create: Callable[..., Any], database: Database, settings: Settings
) -> None:
    """A ready job's rank is its start less its priority's head start; a later start takes it away."""
    job = create()
    patch(client, job["id"], priority=10)
    head_start = settings.priority_head_start_seconds * 10
    assert row(database, job["id"], "extract(epoch FROM available_at - rank)::float") == head_start
    patch(client, job["id"], available_at=SOON)
    assert row(database, job["id"], "rank") is None
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    patch(client, job["id"], available_at=past)
    assert row(database, job["id"], "extract(epoch FROM available_at - rank)::float") == head_start


def test_a_blocked_job_is_edited_and_stays_blocked(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """It gets no place in the order."""
    job = make_job("blocked", type="noop")
    answer = patch(client, job.id, priority=3, payload={"number": 3})
    assert (answer.json["status"], answer.json["priority"]) == ("blocked", 3)
    assert row(database, job.id, "rank") is None


@pytest.mark.parametrize(
    ("available_at", "admitted"),
    [(SOON, False), ("2020-01-01T00:00:00Z", True)],
    ids=["later", "at once"],
)
def test_an_edit_to_later_gives_the_slot_back(
    client: testing.TestClient, make_job: JobFactory, available_at: str, admitted: bool
) -> None:
    """A job that was let in and does not start now holds its slot no more."""
    job = make_job(admitted=True)
    assert patch(client, job.id, available_at=available_at).json["admitted"] is admitted


@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled", "expired"])
def test_what_does_not_wait_is_not_edited(
    client: testing.TestClient, make_job: JobFactory, status: str
) -> None:
    """It is a 409 that says what the job is, and there is no version."""
    job = make_job(status)
    answer = patch(client, job.id, priority=1)
    assert answer.status_code == 409
    assert f"is {status}" in answer.json["detail"]
    assert len(versions(client, job.id)) == 1


def test_an_unknown_job_is_not_found(client: testing.TestClient) -> None:
    """Neither an edit nor a replay of it."""
    assert patch(client, 999, priority=1).status_code == 404
    assert client.simulate_post("/jobs/999/retry", json={"priority": 1}).status_code == 404


WRONG = {
    "nothing": ({}, "body"),
    "only an author": ({"author": "ada"}, "body"),
    "a payload that does not fit": ({"payload": {"number": "x"}}, "payload.number"),
    "a payload that is no object": ({"payload": [1]}, "payload"),
    "unknown member of the payload": ({"payload": {"nope": 1}}, "payload.nope"),
    "priority as text": ({"priority": "1"}, "priority"),
    "priority too high": ({"priority": 101}, "priority"),
    "huge priority": ({"priority": 2**63}, "priority"),
    "no zone": ({"available_at": "2033-01-01T00:00:00"}, "available_at"),
    "no time": ({"available_at": 5}, "available_at"),
    "unknown field": ({"queue": "other"}, "queue"),
    "empty author": ({"priority": 1, "author": ""}, "author"),
    "long author": ({"priority": 1, "author": "x" * 201}, "author"),
    "unprintable author": ({"priority": 1, "author": "a\u2028"}, "author"),
}


@pytest.mark.parametrize(("body", "field"), WRONG.values(), ids=WRONG)
def test_bad_input(
    client: testing.TestClient, create: Callable[..., Any], body: dict[str, Any], field: str
) -> None:
    """What is wrong is a 400 that names it, and changes nothing."""
    job = create()
    answer = patch(client, job["id"], **body)
    assert answer.status_code == 400, answer.text
    named = set(answer.json["fields"])
    assert field in named or (field == "body" and named == {"body"}), named
    assert client.simulate_get(f"/jobs/{job['id']}").json == job
    assert len(versions(client, job["id"])) == 1


@pytest.mark.parametrize(
    "body", [b'{"payload": {"text": "\\u0000"}}', b'{"priority": 1e400}', b"[]", b"{", b""]
)
def test_unreadable_bodies(client: testing.TestClient, create: Callable[..., Any], body: bytes) -> None:
    """NUL, numbers beyond a double, and what is no object are refused."""
    job = create()
    answer = client.simulate_patch(
        f"/jobs/{job['id']}", body=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert client.simulate_get(f"/jobs/{job['id']}").json == job


def test_a_job_of_an_undeclared_type(client: testing.TestClient, make_job: JobFactory) -> None:
    """Its payload cannot be judged, so it is not replaced; its priority may be."""
    job = make_job(type="elsewhere")
    answer = patch(client, job.id, payload={})
    assert (answer.status_code, list(answer.json["fields"])) == (400, ["payload"])
    assert patch(client, job.id, priority=1).status_code == 200


@pytest.mark.parametrize("end", ["expires_at", "deadline_at"])
def test_a_start_beyond_the_end_is_refused(
    client: testing.TestClient, create: Callable[..., Any], make_job: JobFactory, end: str
) -> None:
    """An edit that keeps the job from ever running is a 400; what a failed one has behind it is no end."""
    job = create(**{end: "2032-12-31T00:00:00Z"})
    answer = patch(client, job["id"], available_at=SOON)
    assert (answer.status_code, list(answer.json["fields"])) == (400, ["available_at"])
    assert patch(client, job["id"], available_at="2032-01-01T00:00:00Z").status_code == 200
    ended = make_job("failed", **{end: datetime.now(UTC) - timedelta(seconds=1)})
    answer = client.simulate_post(f"/jobs/{ended.id}/retry", json={"available_at": SOON})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_edit_and_retry(
    client: testing.TestClient, make_job: JobFactory, database: Database, settings: Settings, status: str
) -> None:
    """A failed job runs again with the new payload, priority and start; what failed is kept as a version."""
    job = make_job(status, attempts=4, max_retries=5, payload={"number": 1})
    answer = client.simulate_post(
        f"/jobs/{job.id}/retry", json={"payload": {"number": 2}, "priority": 10, "author": "ada"}
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json["status"], answer.json["attempts"]) == ("queued", 0)
    assert (answer.json["payload"], answer.json["priority"]) == ({"number": 2}, 10)
    head_start = settings.priority_head_start_seconds * 10
    assert row(database, job.id, "extract(epoch FROM available_at - rank)::float") == head_start
    before, after = versions(client, job.id)
    assert (before["payload"], after["author"]) == ({"number": 1}, "ada")
    assert {"path": "/payload/number", "before": 1, "after": 2} in after["changes"]


def test_a_replay_may_wait(client: testing.TestClient, make_job: JobFactory, database: Database) -> None:
    """With `available_at` it is queued for later."""
    job = make_job("failed")
    answer = client.simulate_post(f"/jobs/{job.id}/retry", json={"available_at": SOON})
    assert (answer.json["status"], answer.json["available_at"]) == ("queued", SOON)
    assert row(database, job.id, "rank") is None


def test_a_replay_without_a_body_is_as_it_was(client: testing.TestClient, make_job: JobFactory) -> None:
    """No body and an empty object change nothing but the state, and keep no version."""
    arguments: dict[str, Any]
    for arguments in ({}, {"json": {}}):
        job = make_job("failed", payload={"number": 1})
        answer = client.simulate_post(f"/jobs/{job.id}/retry", **arguments)
        assert (answer.json["status"], answer.json["payload"]) == ("queued", {"number": 1})
        assert len(versions(client, job.id)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": {"number": "x"}}, "payload.number"),
        ({"priority": -101}, "priority"),
        ({"attempts": 1}, "attempts"),
        ([], "body"),
    ],
    ids=["payload", "priority", "unknown", "array"],
)
def test_a_wrong_edit_retries_nothing(
    client: testing.TestClient, make_job: JobFactory, body: Any, field: str
) -> None:
    """It is a 400, and the job is still failed."""
    job = make_job("failed")
    answer = client.simulate_post(f"/jobs/{job.id}/retry", json=body)
    assert answer.status_code == 400
    assert list(answer.json["fields"]) == [field]
    assert client.simulate_get(f"/jobs/{job.id}").json["status"] == "failed"


@pytest.mark.parametrize("status", ["queued", "running", "completed"])
def test_what_has_not_failed_is_not_edited_by_a_retry(
    client: testing.TestClient, make_job: JobFactory, status: str
) -> None:
    """It is a 409, and nothing of the edit stays."""
    job = make_job(status)
    answer = client.simulate_post(f"/jobs/{job.id}/retry", json={"priority": 5})
    assert answer.status_code == 409
    assert client.simulate_get(f"/jobs/{job.id}").json["priority"] == 0
    assert len(versions(client, job.id)) == 1


def test_edits_at_once_are_all_versions(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """Twenty parallel edits are twenty versions, each with the content of the one before it."""
    job = create()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda number: patch(client, job["id"], priority=number), range(1, 21)))
    assert {answer.status_code for answer in answers} == {200}
    found = versions(client, job["id"])
    assert [version["version"] for version in found] == list(range(1, 22))
    assert sorted(version["priority"] for version in found) == list(range(21))
    assert all(len(version["changes"]) == 1 for version in found[1:])


def test_versions_go_with_their_job(
    client: testing.TestClient, create: Callable[..., Any], database: Database, settings: Settings
) -> None:
    """The cleaner deletes both."""
    job = create()
    patch(client, job["id"], priority=1)
    client.simulate_post(f"/jobs/{job['id']}/cancel")
    at_once = settings.model_copy(update={"cancelled_retention_seconds": 0.001})
    assert Cleaner(at_once, database, lambda _: None).run_once()["cancelled"] == 1
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM job_versions").scalar_one() == 0
