"""Queues, keys and types by REST: their settings, pauses and circuit breakers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Runway
from tests.api.test_service import assert_described
from tests.support.factories import JobFactory
from tests.support.hostile.wrong_settings import WRONG_QUEUE_SETTINGS, WRONG_TYPE_SETTINGS
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

JSON = {"Content-Type": "application/json"}
DEFAULTS = {
    "name": "noop",
    "concurrency": None,
    "key_concurrency": None,
    "on_conflict": "wait",
    "fair": False,
    "fifo": False,
    "rate": None,
    "key_rate": None,
    "ramp_seconds": 0,
    "slo_wait_seconds": None,
    "slo_objective": 0.99,
}
RATE = {"limit": 10, "period_seconds": 1.5, "algorithm": "token_bucket"}
BREAKER = {"failure_rate": 0.25, "minimum": 5, "window_seconds": 30, "cooldown_seconds": 5, "probes": 1}


def put(client: testing.TestClient, path: str, status: int = 200, /, **members: Any) -> Any:
    """The answer of a PUT, which has this status."""
    result = client.simulate_put(path, json=members)
    assert result.status_code == status, result.text
    return result.json


def test_a_queue_has_counts_and_settings(client: testing.TestClient, make_job: JobFactory) -> None:
    """GET /queues/{name} answers both; a declared queue that nobody has used has the defaults."""
    queue = client.simulate_get("/queues/noop").json
    assert queue | DEFAULTS == queue
    make_job("queued", queue="noop")
    put(client, "/queues/noop", concurrency=2)
    result = client.simulate_get("/queues/noop")
    assert (result.json["ready"], result.json["concurrency"], result.json["paused"]) == (1, 2, False)
    assert_described(client, "get", "/queues/{name}", result)
    listed = next(item for item in client.simulate_get("/queues").json if item["name"] == "noop")
    assert listed.pop("oldest_ready_age_seconds") is not None
    assert listed.items() <= result.json.items()


def test_settings_of_a_queue_change_one_by_one(client: testing.TestClient, runway: Runway) -> None:
    """PUT /queues/{name} changes what is given, and null takes it back."""
    del runway
    given = {
        "concurrency": 5,
        "key_concurrency": 1,
        "on_conflict": "drop_new",
        "fair": True,
        "fifo": True,
        "rate": RATE,
        "key_rate": {"limit": 1, "period_seconds": 60},
        "ramp_seconds": 3,
        "slo_wait_seconds": 2.5,
        "slo_objective": 0.9,
    }
    changed = put(client, "/queues/noop", **given)
    assert changed == DEFAULTS | given | {"key_rate": given["key_rate"] | {"algorithm": "sliding_window"}}  # type: ignore[operator]
    assert put(client, "/queues/noop") == changed
    assert put(client, "/queues/noop", concurrency=6) == changed | {"concurrency": 6}
    assert put(client, "/queues/noop", **dict.fromkeys(given)) == DEFAULTS


#: What no Python object says.
WRONG_BODIES = [
    pytest.param('{"concurrency": 1e400}', "concurrency", id="infinity"),
    pytest.param('{"slo_wait_seconds": 1e400}', "slo_wait_seconds", id="an endless wait"),
    pytest.param("[]", "body", id="a list of nothing"),
    pytest.param("null", "body", id="null"),
    pytest.param("{", "body", id="cut off"),
]


@pytest.mark.parametrize(("body", "field"), [*WRONG_QUEUE_SETTINGS, *WRONG_BODIES])
def test_wrong_settings_of_a_queue_are_refused(client: testing.TestClient, body: Any, field: str) -> None:
    """What cannot be meant is a 400 that names the field, and changes nothing."""
    text = body if isinstance(body, str) else json.dumps(body)
    result = client.simulate_put("/queues/noop", body=text, headers=JSON)
    assert result.status_code == 400, result.text
    assert list(result.json["fields"]) == [field]
    queue = client.simulate_get("/queues/noop").json
    assert queue | DEFAULTS == queue


def test_a_contradiction_with_what_is_set_is_refused(client: testing.TestClient) -> None:
    """Settings contradict each other also when they are said one after the other."""
    put(client, "/queues/noop", key_concurrency=2)
    assert put(client, "/queues/noop", 400, fifo=True)["fields"].keys() == {"key_concurrency"}
    put(client, "/queues/noop", fifo=True, key_concurrency=None)


UNKNOWN = ["nosuch", "quarantine", "%00", "%F0%90%80", "a%0Ab", "x" * 3000]


@pytest.mark.parametrize("name", UNKNOWN, ids=range(len(UNKNOWN)))
def test_an_unknown_queue_is_404(client: testing.TestClient, database: Database, name: str) -> None:
    """Nothing about a queue that is not there can be read or set, and asking does not make it."""
    for method, suffix, body in [
        ("GET", "", None),
        ("PUT", "", {"concurrency": 1}),
        ("GET", "/keys", None),
        ("PUT", "/keys/a", {"weight": 1}),
        ("DELETE", "/keys/a", None),
        ("POST", "/pause", {"reason": "x"}),
        ("POST", "/resume", None),
    ]:
        result = client.simulate_request(method, f"/queues/{name}{suffix}", json=body)
        assert result.status_code == 404, (method, suffix, result.text)
    with database.autocommit() as connection:
        assert queue_store.list_all(connection) == []


@pytest.mark.parametrize(
    ("path", "key"),
    [
        pytest.param("a", "a", id="a letter"),
        pytest.param("a/b//c", "a/b//c", id="slashes"),
        pytest.param("a%2Fb", "a/b", id="an encoded slash"),
        pytest.param("%E2%82%AC%20%3F%23", "€ ?#", id="anything printable"),
        pytest.param("x" * 200, "x" * 200, id="long"),
    ],
)
def test_a_key_has_settings(client: testing.TestClient, path: str, key: str) -> None:
    """A key is set, listed and deleted, whatever characters it has."""
    assert put(client, f"/queues/noop/keys/{path}", weight=3) == {
        "key": key,
        "weight": 3,
        "concurrency": None,
    }
    changed = put(client, f"/queues/noop/keys/{path}", concurrency=2)
    assert changed == {"key": key, "weight": 3, "concurrency": 2}
    listed = client.simulate_get("/queues/noop/keys")
    assert listed.json == [changed]
    assert_described(client, "get", "/queues/{name}/keys", listed)
    assert put(client, f"/queues/noop/keys/{path}", weight=None)["weight"] == 1
    assert client.simulate_delete(f"/queues/noop/keys/{path}").status_code == 204
    assert client.simulate_delete(f"/queues/noop/keys/{path}").status_code == 404
    assert client.simulate_get("/queues/noop/keys").json == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param("a", {"weight": 0}, "weight", id="no weight"),
        pytest.param("a", {"weight": 1001}, "weight", id="too heavy"),
        pytest.param("a", {"concurrency": 0}, "concurrency", id="no slot"),
        pytest.param("a", {"rate": RATE}, "rate", id="an unknown setting"),
        pytest.param("", {"weight": 1}, "key", id="an empty key"),
        pytest.param("a%00", {"weight": 1}, "key", id="a NUL"),
        pytest.param("a%0A", {"weight": 1}, "key", id="a line end"),
        pytest.param("x" * 201, {"weight": 1}, "key", id="too long"),
        pytest.param("a%FF", {"weight": 1}, "key", id="no UTF-8"),
    ],
)
def test_a_wrong_key_is_refused(
    client: testing.TestClient, path: str, body: dict[str, Any], field: str
) -> None:
    """A key that no job can have, or a wrong setting, is a 400."""
    assert put(client, f"/queues/noop/keys/{path}", 400, **body)["fields"].keys() == {field}
    assert client.simulate_get("/queues/noop/keys").json == []


def test_a_pause_says_why(client: testing.TestClient) -> None:
    """Reason, author and end of a pause are in every document of the queue."""
    body = {"reason": "deploy", "author": "ann", "until": "2031-02-03T04:05:06+01:00"}
    result = client.simulate_post("/queues/noop/pause", json=body)
    assert result.status_code == 200, result.text
    assert_described(client, "post", "/queues/{name}/pause", result)
    said = {
        "paused": True,
        "paused_until": "2031-02-03T03:05:06Z",
        "paused_by": "ann",
        "pause_reason": "deploy",
    }
    for document in (
        result.json,
        client.simulate_get("/queues/noop").json,
        next(item for item in client.simulate_get("/queues").json if item["name"] == "noop"),
    ):
        assert document | said == document
        assert document["paused_at"] == result.json["paused_at"]
    resumed = client.simulate_post("/queues/noop/resume")
    assert resumed.json == dict.fromkeys(result.json) | {"name": "noop", "paused": False}


def test_a_pause_ends_in_seconds(client: testing.TestClient, database: Database) -> None:
    """With `seconds` a pause ends so long from now, and then the queue is open in every document."""
    paused = client.simulate_post("/queues/noop/pause", json={"seconds": 60}).json
    assert paused["paused_until"] > paused["paused_at"]
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE queues SET paused_until = now()")
    queue = client.simulate_get("/queues/noop").json
    assert (queue["paused"], queue["paused_at"], queue["paused_until"]) == (False, None, None)
    listed = next(item for item in client.simulate_get("/queues").json if item["name"] == "noop")
    assert (listed["paused"], listed["pause_reason"]) == (False, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param('{"reason": ""}', "reason", id="no reason"),
        pytest.param('{"reason": "a\\u0000"}', "reason", id="a NUL"),
        pytest.param(json.dumps({"reason": "x" * 501}), "reason", id="a long reason"),
        pytest.param('{"author": 1}', "author", id="a number"),
        pytest.param(json.dumps({"author": "x" * 201}), "author", id="a long author"),
        pytest.param('{"until": "tomorrow"}', "until", id="not a time"),
        pytest.param('{"until": "2031-02-03T04:05:06"}', "until", id="no zone"),
        pytest.param('{"until": "2001-02-03T04:05:06Z"}', "until", id="a time that has passed"),
        pytest.param('{"until": 5}', "until", id="a number for a time"),
        pytest.param('{"seconds": 0}', "seconds", id="no time"),
        pytest.param('{"seconds": 1e300}', "seconds", id="for ever"),
        pytest.param('{"seconds": "60"}', "seconds", id="text"),
        pytest.param('{"seconds": 1, "until": "2031-02-03T04:05:06Z"}', "seconds", id="two ends"),
        pytest.param('{"end": 1}', "end", id="an unknown member"),
        pytest.param("[]", "body", id="a list"),
    ],
)
def test_a_wrong_pause_is_refused(client: testing.TestClient, body: str, field: str) -> None:
    """What cannot be meant is a 400 that names the field, and pauses nothing."""
    result = client.simulate_post("/queues/noop/pause", body=body, headers=JSON)
    assert result.status_code == 400, result.text
    assert list(result.json["fields"]) == [field]
    assert client.simulate_get("/queues/noop").json["paused"] is False


def test_a_slow_down_is_shown(client: testing.TestClient, database: Database) -> None:
    """Until when a queue is throttled is in its documents, as long as it is."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["noop"])
        queue_store.slow_down(connection, "noop", seconds=60, ramp_seconds=10)
    assert client.simulate_get("/queues/noop").json["throttled_until"].endswith("Z")
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE queues SET throttled_until = now()")
    assert client.simulate_get("/queues/noop").json["throttled_until"] is None


def test_a_type_has_settings(client: testing.TestClient) -> None:
    """PUT /types/{name} changes what is given; what a breaker does not say is its default."""
    plain = client.simulate_get("/types/noop")
    assert (plain.json["concurrency"], plain.json["breaker"]) == (None, None)
    stands = {"state": "closed", "changed_at": None, "reason": None}
    assert put(client, "/types/noop", concurrency=3, breaker=BREAKER)["breaker"] == BREAKER | stands
    changed = client.simulate_get("/types/noop")
    assert changed.json == plain.json | {"concurrency": 3, "breaker": BREAKER | stands}
    assert_described(client, "get", "/types/{name}", changed)
    listed = client.simulate_get("/types")
    assert changed.json in listed.json
    assert_described(client, "get", "/types", listed)
    assert put(client, "/types/noop", breaker={})["breaker"]["minimum"] == 10
    assert put(client, "/types/noop", breaker=None, concurrency=None) == plain.json


@pytest.mark.parametrize(("body", "field"), WRONG_TYPE_SETTINGS)
def test_wrong_settings_of_a_type_are_refused(
    client: testing.TestClient, body: dict[str, Any], field: str
) -> None:
    """What cannot be meant is a 400 that names the field, and changes nothing."""
    assert put(client, "/types/noop", 400, **body)["fields"].keys() == {field}
    assert client.simulate_get("/types/noop").json["breaker"] is None


def test_a_breaker_is_moved_by_hand(client: testing.TestClient) -> None:
    """An operator opens and closes a breaker; the type says since when and why; without one it is a 409."""
    assert client.simulate_post("/types/noop/breaker/open").status_code == 409
    put(client, "/types/noop", breaker=BREAKER)
    opened = client.simulate_post("/types/noop/breaker/open")
    assert_described(client, "post", "/types/{name}/breaker/open", opened)
    assert (opened.json["breaker"]["state"], opened.json["breaker"]["reason"]) == ("open", "by an operator")
    assert opened.json["breaker"]["changed_at"].endswith("Z")
    assert put(client, "/types/noop", breaker=BREAKER)["breaker"]["state"] == "open"
    closed = client.simulate_post("/types/noop/breaker/close").json
    assert closed["breaker"]["state"] == "closed"


@pytest.mark.parametrize("name", ["nosuch", "%00", "x" * 3000], ids=["unknown", "a NUL", "long"])
def test_an_unknown_type_is_404(client: testing.TestClient, database: Database, name: str) -> None:
    """Nothing about a type that is not declared can be read or set."""
    for method, suffix, body in [
        ("GET", "", None),
        ("PUT", "", {"concurrency": 1}),
        ("POST", "/breaker/open", None),
        ("POST", "/breaker/close", None),
    ]:
        assert client.simulate_request(method, f"/types/{name}{suffix}", json=body).status_code == 404
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM types").scalar_one() == 0
