"""`Idempotency-Key`: one key, one result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from falcon import testing

from goqueue.db import Database
from goqueue.errors import DatabaseUnavailableError
from goqueue.store import new_jobs as new_job_store
from tests.api.conftest import NOOP
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

KEY = {"Idempotency-Key": "order-1"}
BATCH = {"jobs": [NOOP, NOOP | {"payload": {"number": 1}}]}


@pytest.mark.parametrize(("path", "document", "made"), [("/jobs", NOOP, 1), ("/jobs/batch", BATCH, 2)])
def test_a_repeat_is_answered_as_the_first(
    client: testing.TestClient, rows: Callable[[], int], path: str, document: Any, made: int
) -> None:
    """The same key and body make no second job; status, body and Location are those of the first answer."""
    first = client.simulate_post(path, json=document, headers=KEY)
    again = client.simulate_post(path, json=document, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.text == first.text
    assert again.headers.get("location") == first.headers.get("location")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert rows() == made


def test_a_repeat_may_be_written_differently(client: testing.TestClient, rows: Callable[[], int]) -> None:
    """White space and the order of names do not make another request; nor does the route's other name."""
    headers = KEY | {"Content-Type": "application/json"}
    bodies = ['{"queue":"noop","payload":{"number":1}}', '{ "payload": {"number": 1}, "queue": "noop" }']
    answers = [
        client.simulate_post(path, body=body, headers=headers)
        for path, body in zip(["/jobs", "/jobs/create"], bodies, strict=True)
    ]
    assert answers[0].json == answers[1].json
    assert rows() == 1


@pytest.mark.parametrize(
    ("path", "document"),
    [
        pytest.param("/jobs", NOOP | {"payload": {"number": 2}}, id="another payload"),
        pytest.param("/jobs", NOOP | {"priority": 1}, id="another priority"),
        pytest.param("/jobs/batch", {"jobs": [NOOP]}, id="another route"),
    ],
)
def test_another_request_with_the_key_is_422(
    client: testing.TestClient, rows: Callable[[], int], path: str, document: Any
) -> None:
    """A key that stood for something else answers a 422 problem and makes nothing."""
    client.simulate_post("/jobs", json=NOOP, headers=KEY)
    result = client.simulate_post(path, json=document, headers=KEY)
    assert result.status_code == 422
    assert result.headers["content-type"] == "application/problem+json"
    assert rows() == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "käse", "\x7f"])
def test_a_wrong_key_is_refused(client: testing.TestClient, rows: Callable[[], int], key: str) -> None:
    """A key is 1 to 255 visible ASCII characters."""
    result = client.simulate_post("/jobs", json=NOOP, headers={"Idempotency-Key": key})
    assert result.status_code == 400
    assert "Idempotency-Key" in result.json["fields"]
    assert rows() == 0


def test_a_refused_request_does_not_use_the_key(client: testing.TestClient, rows: Callable[[], int]) -> None:
    """After a 400 the key still stands for nothing."""
    assert client.simulate_post("/jobs", json=NOOP | {"priority": 500}, headers=KEY).status_code == 400
    assert client.simulate_post("/jobs", json=NOOP, headers=KEY).status_code == 201
    assert rows() == 1


def test_a_failed_insert_does_not_use_the_key(
    client: testing.TestClient, rows: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and job are one transaction: what is rolled back leaves neither."""

    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(new_job_store, "insert", fail)
        assert client.simulate_post("/jobs", json=NOOP, headers=KEY).status_code == 503
    answer = client.simulate_post("/jobs", json=NOOP, headers=KEY)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    assert rows() == 1


def test_fifty_equal_posts_make_one_job(client: testing.TestClient, rows: Callable[[], int]) -> None:
    """Fifty parallel requests with one key all answer 201 with the same job, and there is one."""

    def post(_: int) -> testing.Result:
        return client.simulate_post("/jobs", json=NOOP, headers=KEY)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert rows() == 1


def test_the_stored_hash_is_not_the_body(client: testing.TestClient, database: Database) -> None:
    """Only a hash of the request is kept beside the answer."""
    client.simulate_post("/jobs", json=NOOP, headers=KEY)
    with database.autocommit() as connection:
        kept = connection.exec_driver_sql("SELECT key, request_hash FROM idempotency_keys").one()
    assert kept[0] == "order-1"
    assert len(kept[1]) == len(hashlib.sha256().hexdigest())
