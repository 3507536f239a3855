"""`Idempotency-Key`: one key, one result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseUnavailableError
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


SAID = "what the customer said"
SECRET = {"number": 77, "text": SAID}
CHAIN = NOOP | {"payload": SECRET, "then": [NOOP]}
UNIQUE = NOOP | {"payload": SECRET, "unique": {"key": "one"}}


def kept_answers(database: Database) -> str:
    """Everything that is kept of answers, as text."""
    with database.autocommit() as connection:
        return str(connection.exec_driver_sql("SELECT * FROM idempotency_keys").all())


@pytest.mark.parametrize(
    ("path", "document"),
    [
        pytest.param("/jobs/create", NOOP | {"payload": SECRET}, id="one"),
        pytest.param("/jobs/create", CHAIN, id="chain"),
        pytest.param("/jobs/batch", {"jobs": [NOOP | {"payload": SECRET}]}, id="batch"),
        pytest.param("/jobs/create", UNIQUE, id="unique"),
        pytest.param("/jobs/create", UNIQUE | {"then": [NOOP]}, id="unique chain"),
    ],
)
@pytest.mark.parametrize("suppressed", [False, True])
def test_no_payload_is_kept_beside_a_key(
    client: testing.TestClient, database: Database, path: str, document: Any, suppressed: bool
) -> None:
    """A job that is deleted is gone, and a repeat is answered as the first was all the same."""
    if suppressed:
        client.simulate_post("/jobs", json=UNIQUE)
    first = client.simulate_post(path, json=document, headers=KEY)
    assert first.status_code in {200, 201}
    assert SAID not in kept_answers(database)
    assert client.simulate_post(path, json=document, headers=KEY).text == first.text


def test_a_deleted_holder_is_shown_to_nobody(client: testing.TestClient, database: Database) -> None:
    """A repeat of a create that was suppressed creates the job, once its holder is deleted."""
    client.simulate_post("/jobs", json=UNIQUE)
    suppressed = client.simulate_post("/jobs", json=UNIQUE, headers=KEY)
    assert suppressed.json["deduplicated"] is True
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM unique_keys")
        connection.exec_driver_sql("DELETE FROM jobs")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.simulate_post("/jobs", json=UNIQUE, headers=KEY), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.fixture
def clients(settings: Settings, database: Database, runway: Runway) -> dict[str, testing.TestClient]:
    """A client for each API key: two with names, of which one has two keys, and two without."""
    keys = {
        "web": "web:",
        "web again": "web:",
        "mobile": "mobile:",
        "first": "",
        "second": "",
    }
    entries = tuple(f"{prefix}{hashlib.sha256(key.encode()).hexdigest()}" for key, prefix in keys.items())
    app = create_app(
        settings.model_copy(update={"api_keys": entries}), database=database, runway=runway, site=DASHBOARD
    )
    return {key: testing.TestClient(app, headers={"Authorization": f"Bearer {key}"}) for key in keys}


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        pytest.param("web", "mobile", False, id="two names"),
        pytest.param("web", "first", False, id="a name and none"),
        pytest.param("web", "web again", True, id="two keys of one name"),
        pytest.param("first", "second", True, id="two without a name"),
    ],
)
def test_keys_are_those_of_a_client(
    clients: dict[str, testing.TestClient], rows: Callable[[], int], one: str, other: str, is_shared: bool
) -> None:
    """Clients of different names meet neither each other's idempotency keys nor unique keys."""
    first = clients[one].simulate_post("/jobs", json=NOOP, headers=KEY)
    second = clients[other].simulate_post("/jobs", json=NOOP | {"priority": 1}, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 422 if is_shared else 201)
    before = rows()
    first = clients[one].simulate_post("/jobs", json=UNIQUE)
    second = clients[other].simulate_post("/jobs", json=UNIQUE | {"payload": {}})
    assert first.json["unique_key"] == second.json["unique_key"] == "one"
    assert (second.json.get("deduplicated", False), rows() - before) == (is_shared, 1 if is_shared else 2)
    assert (SAID in second.text) == is_shared
    in_batch = clients[other].simulate_post("/jobs/batch", json={"jobs": [UNIQUE]})
    assert in_batch.json["deduplicated"] == 1
