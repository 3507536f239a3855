"""Unique jobs over the API."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from falcon import testing

from goqueue.db.database import Database
from tests.api.conftest import NOOP
from tests.support.counted import counted
from tests.support.factories import JobFactory, set_status

KEY: dict[str, Any] = {"unique": {"key": "report-7"}}
FIELDS: dict[str, Any] = {"unique": {"fields": ["number", "anything.id"]}}


def post(client: testing.TestClient, headers: dict[str, str] | None = None, **members: Any) -> testing.Result:
    """Create a job; any answer."""
    return client.simulate_post("/jobs/create", json=NOOP | members, headers=headers)


def deduplicated() -> float:
    """What the counter of suppressed creates says."""
    return counted("jobs_deduplicated_total", queue="noop")


def test_a_suppressed_create_answers_with_the_holder(
    client: testing.TestClient, create: Callable[..., Any], rows: Callable[[], int]
) -> None:
    """It is 200, the holder's document with `deduplicated`, the holder's Location, one row, and counted."""
    before = deduplicated()
    first = create(**KEY)
    answer = post(client, **KEY, payload={"number": 5})
    assert answer.status_code == 200
    assert answer.json == first | {"deduplicated": True}
    assert answer.headers["location"] == f"/jobs/{first['id']}"
    assert "deduplicated" not in first
    assert rows() == 1
    assert deduplicated() == before + 1


def test_both_answers_are_as_described(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """The 201 and the 200 of a create fit the models that the OpenAPI document names for each."""
    document = client.simulate_get("/openapi.json").json
    described = document["paths"]["/jobs/create"]["post"]["responses"]
    first = create(**KEY)
    for status, answer in ("201", first), ("200", post(client, **KEY).json):
        schema = described[status]["content"]["application/json"]["schema"]
        whole = schema | {"components": document["components"]}
        jsonschema.Draft202012Validator(whole).validate(answer)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(whole).validate(first)


def test_fields_make_the_key(client: testing.TestClient, create: Callable[..., Any]) -> None:
    """Jobs are alike when the named values of their payloads are equal, however they are written."""
    payload = {"number": 1, "anything": {"id": {"b": 1, "a": [2]}}}
    first = create(**FIELDS, payload=payload)
    alike = {"anything": {"id": {"a": [2.0], "b": 1}, "more": 1}, "number": 1, "text": "other"}
    assert post(client, **FIELDS, payload=alike).json["id"] == first["id"]
    create(**FIELDS, payload=payload | {"number": 2})
    assert first["unique_key"].startswith("noop:")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
def test_a_final_holder_frees_its_key(create: Callable[..., Any], database: Database, status: str) -> None:
    """By default the key is taken while the holder is queued, blocked or running."""
    first = create(**KEY)
    set_status(database, first["id"], status)
    assert create(**KEY)["id"] != first["id"]


def test_the_states_may_be_named(
    client: testing.TestClient, create: Callable[..., Any], database: Database
) -> None:
    """With `while` the key is taken in exactly these states of its holder."""
    said: dict[str, Any] = {"unique": KEY["unique"] | {"while": ["failed", "running"]}}
    create(**said)
    second = create(**said)
    set_status(database, second["id"], "failed")
    assert post(client, **said).json["id"] == second["id"]


def test_a_window_ends(client: testing.TestClient, create: Callable[..., Any], database: Database) -> None:
    """After the window the key is free, whatever its holder does."""
    said: dict[str, Any] = {"unique": KEY["unique"] | {"window_seconds": 60}}
    first = create(**said)
    shift(database, 59)
    assert post(client, **said).json["id"] == first["id"]
    shift(database, 2)
    assert create(**said)["id"] != first["id"]


def test_replace_payload(client: testing.TestClient, create: Callable[..., Any], database: Database) -> None:
    """A waiting holder gets the new payload, the old one is a version; one that runs is left alone."""
    said: dict[str, Any] = {"unique": KEY["unique"] | {"mode": "replace_payload"}}
    first = create(**said, payload={"number": 1})
    answer = post(client, **said, payload={"number": 2})
    assert (answer.status_code, answer.json["id"], answer.json["payload"]) == (
        200,
        first["id"],
        {"number": 2},
    )
    versions = client.simulate_get(f"/jobs/{first['id']}/versions").json
    assert [version["payload"] for version in versions] == [{"number": 1}, {"number": 2}]
    assert versions[1]["author"] == "a create with the same unique key"
    set_status(database, first["id"], "running")
    assert create(**said, payload={"number": 3})["payload"] == {"number": 3}
    assert client.simulate_get(f"/jobs/{first['id']}").json["payload"] == {"number": 2}


def test_replace_payload_of_another_type(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A payload does not go to a job of a type that it was not made for: 409 that names the holder."""
    holder = make_job(type="other", unique_key="report-7")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO unique_keys (key, job_id, states) VALUES ('report-7', %(id)s, '{queued}')",
            {"id": holder.id},
        )
    answer = post(client, unique=KEY["unique"] | {"mode": "replace_payload"})
    assert answer.status_code == 409
    assert f"job {holder.id}" in answer.json["detail"]


def test_debounce(client: testing.TestClient, create: Callable[..., Any], database: Database) -> None:
    """The start is pushed out to the new job's, never back, and at most so long after the creation."""
    said: dict[str, Any] = {"unique": KEY["unique"] | {"mode": "debounce", "debounce_max_seconds": 100}}
    create(**said, delay_seconds=10)

    def start_after(seconds: float) -> float:
        job = post(client, **said, delay_seconds=seconds).json
        assert job["deduplicated"] is True
        with database.autocommit() as connection:
            query = "SELECT extract(epoch FROM available_at - created_at)::float FROM jobs WHERE id = %(id)s"
            return float(connection.exec_driver_sql(query, {"id": job["id"]}).scalar_one())

    assert 50 <= start_after(50) < 90
    pushed_out = start_after(5)
    assert 50 <= pushed_out < 90
    assert start_after(500) == 100
    assert start_after(0) == 100


def test_a_debounced_job_that_was_ready_waits_again(
    client: testing.TestClient, create: Callable[..., Any], database: Database
) -> None:
    """A holder that might have started gives its place in the order back."""
    said: dict[str, Any] = {"unique": KEY["unique"] | {"mode": "debounce", "debounce_max_seconds": 100}}
    job = create(**said)
    assert rank_of(database, job["id"]) is not None
    post(client, **said, delay_seconds=50)
    assert rank_of(database, job["id"]) is None


def test_fifty_creates_at_once_make_one_job(client: testing.TestClient, rows: Callable[[], int]) -> None:
    """Of fifty parallel creates one is answered 201, and all name the same job."""
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: post(client, **KEY), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert rows() == 1


def test_a_batch_answers_in_order(
    client: testing.TestClient, create: Callable[..., Any], rows: Callable[[], int]
) -> None:
    """Each suppressed job has the id of the one that is there, or of the earlier one of the batch."""
    before = deduplicated()
    holder = create(**KEY)
    jobs = [NOOP, NOOP | {"unique": {"key": "b"}}, NOOP | KEY, NOOP | {"unique": {"key": "b"}}, NOOP]
    answer = client.simulate_post("/jobs/batch", json={"jobs": jobs})
    assert answer.status_code == 201
    ids = answer.json["ids"]
    assert answer.json == {"ids": ids, "count": 5, "deduplicated": 2}
    assert ids[2] == holder["id"]
    assert ids[3] == ids[1]
    assert len(set(ids)) == 4
    assert rows() == 4
    assert deduplicated() == before + 2


def test_a_repeat_with_an_idempotency_key_is_answered_as_the_first(
    client: testing.TestClient, create: Callable[..., Any], database: Database
) -> None:
    """A suppressed create stays a 200 that names the holder, also when the key is free by now."""
    holder = create(**KEY)
    headers = {"Idempotency-Key": "once"}
    first = post(client, **KEY, headers=headers)
    set_status(database, holder["id"], "completed")
    again = post(client, **KEY, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json == first.json == holder | {"deduplicated": True}


def test_a_replay_does_not_make_two(
    client: testing.TestClient, create: Callable[..., Any], database: Database
) -> None:
    """A failed job whose key another one has stays failed, 409; once it is free, it runs again."""
    first = create(**KEY)
    set_status(database, first["id"], "failed")
    second = create(**KEY)
    for refused in (
        client.simulate_post(f"/jobs/{first['id']}/retry"),
        client.simulate_post(f"/jobs/{first['id']}/retry", json={"priority": 3}),
        client.simulate_put(f"/jobs/{first['id']}/status", json={"status": "queued"}),
    ):
        assert refused.status_code == 409
        assert f"job {second['id']}" in refused.json["detail"]
    many = client.simulate_post("/jobs/retry", json={"queue": "noop"})
    assert many.json == {"retried": 0}
    assert client.simulate_get(f"/jobs/{first['id']}").json["priority"] == 0
    set_status(database, second["id"], "completed")
    assert client.simulate_post(f"/jobs/{first['id']}/retry").status_code == 200
    assert post(client, **KEY).json["id"] == first["id"]


def test_a_status_set_to_queued_takes_the_key_again(
    client: testing.TestClient, create: Callable[..., Any], database: Database
) -> None:
    """`PUT …/status` of a client that runs its jobs itself counts as a replay."""
    first = create(**KEY)
    set_status(database, first["id"], "failed")
    answer = client.simulate_put(f"/jobs/{first['id']}/status", json={"status": "queued"})
    assert answer.status_code == 204
    assert post(client, **KEY).json["id"] == first["id"]


WRONG = {
    "nothing": ({}, "unique"),
    "both": ({"key": "a", "fields": ["number"]}, "unique"),
    "empty key": ({"key": ""}, "unique.key"),
    "long key": ({"key": "x" * 201}, "unique.key"),
    "number as key": ({"key": 5}, "unique.key"),
    "control character": ({"key": "a\x01"}, "unique.key"),
    "unprintable": ({"key": "a\u2028"}, "unique.key"),
    "no fields": ({"fields": []}, "unique.fields"),
    "field is a number": ({"fields": [5]}, "unique.fields[0]"),
    "empty part": ({"fields": ["a..b"]}, "unique.fields"),
    "field twice": ({"fields": ["number", "number"]}, "unique.fields"),
    "absent field": ({"fields": ["text.id"]}, "unique.fields"),
    "fields is a string": ({"fields": "number"}, "unique.fields"),
    "21 fields": ({"fields": [f"f{n}" for n in range(21)]}, "unique.fields"),
    "unknown state": ({"key": "a", "while": ["waiting"]}, "unique.while[0]"),
    "no states": ({"key": "a", "while": []}, "unique.while"),
    "states by another name": ({"key": "a", "while_": ["queued"]}, "unique.while_"),
    "no window": ({"key": "a", "window_seconds": 0}, "unique.window_seconds"),
    "huge window": ({"key": "a", "window_seconds": 1e300}, "unique.window_seconds"),
    "window as text": ({"key": "a", "window_seconds": "5"}, "unique.window_seconds"),
    "unknown mode": ({"key": "a", "mode": "replace"}, "unique.mode"),
    "debounce without an end": ({"key": "a", "mode": "debounce"}, "unique.debounce_max_seconds"),
    "end without debounce": ({"key": "a", "debounce_max_seconds": 5}, "unique.debounce_max_seconds"),
    "unknown member": ({"key": "a", "until": 5}, "unique.until"),
    "not an object": ("a", "unique"),
}


@pytest.mark.parametrize(("unique", "field"), WRONG.values(), ids=WRONG)
def test_bad_input(client: testing.TestClient, rows: Callable[[], int], unique: Any, field: str) -> None:
    """What is wrong is a 400 that names the field, and no row."""
    answer = post(client, unique=unique)
    assert answer.status_code == 400, answer.text
    assert field in answer.json["fields"], answer.json
    assert rows() == 0


@pytest.mark.parametrize("body", [b'{"key": "a\\u0000"}', b'{"key": "a", "window_seconds": 1e400}'])
def test_unstorable_input(client: testing.TestClient, rows: Callable[[], int], body: bytes) -> None:
    """NUL and numbers beyond a double are refused."""
    text = b'{"queue": "noop", "payload": {}, "unique": ' + body + b"}"
    answer = client.simulate_post("/jobs/create", body=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert rows() == 0


def shift(database: Database, seconds: float) -> None:
    """Let so much time pass for every key."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE unique_keys SET until = until - make_interval(secs => %(seconds)s)", {"seconds": seconds}
        )


def rank_of(database: Database, job_id: int) -> Any:
    """A job's place in the order."""
    with database.autocommit() as connection:
        return connection.exec_driver_sql(
            "SELECT rank FROM jobs WHERE id = %(id)s", {"id": job_id}
        ).scalar_one()
