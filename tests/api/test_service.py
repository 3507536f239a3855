"""What the service says about itself: queues, workers, statistics, types, health, its own description."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import falcon.inspect
import jsonschema
import pytest
from falcon import testing
from openapi_spec_validator import validate as validate_openapi

from goqueue.api.operations import OPERATIONS
from goqueue.db.database import Database
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory

Create = Callable[..., dict[str, Any]]


def by_name(result: testing.Result) -> dict[str, Any]:
    """The documents of a list by their names."""
    assert result.status_code == 200, result.text
    return {document["name"]: document for document in result.json}


def test_queues_are_counted(client: testing.TestClient, make_job: JobFactory) -> None:
    """GET /queues counts each state of each queue and the workers that serve it."""
    for status in ["failed", "failed", "running", "queued", "queued", "queued", "completed"]:
        make_job(status, queue="noop")
    make_job("queued", queue="noop", available_at="2031-01-01T00:00:00Z")
    make_job("queued", queue="noop", quarantined=True)
    make_job.worker(queues=["noop", "email"], threads=4)
    make_job.worker(queues=["noop"], silent_seconds=100)
    queues = by_name(client.simulate_get("/queues"))
    noop = queues["noop"]
    assert 0 <= noop.pop("oldest_ready_age_seconds") < 60
    assert noop == {
        "name": "noop",
        "paused": False,
        "paused_at": None,
        "paused_until": None,
        "paused_by": None,
        "pause_reason": None,
        "throttled_until": None,
        "ready": 3,
        "waiting": 1,
        "quarantined": 1,
        "running": 1,
        "failed": 2,
        "workers": 1,
        "threads": 4,
        "slots": 4,
        "estimated": [],
    }


def test_a_declared_queue_is_listed_before_its_first_job(client: testing.TestClient) -> None:
    """The queues of the built-in types are there from the start, empty; the engine's own is not."""
    queues = by_name(client.simulate_get("/queues"))
    assert queues.keys() >= {"default", "email", "payment", "webhooks", "noop"}
    assert "quarantine" not in queues
    assert queues["email"]["ready"] == 0
    assert queues["email"]["oldest_ready_age_seconds"] is None


def test_workers_are_listed(client: testing.TestClient, make_job: JobFactory) -> None:
    """GET /workers lists the newest first and tells which are alive."""
    silent = make_job.worker(silent_seconds=100)
    alive = make_job.worker(threads=2, pid=77)
    workers = client.simulate_get("/workers").json
    assert [(worker["id"], worker["alive"]) for worker in workers] == [(alive, True), (silent, False)]
    assert workers[0]["pid"] == 77
    assert workers[0]["queues"] == ["default"]


def test_the_service_is_counted(client: testing.TestClient, make_job: JobFactory, database: Database) -> None:
    """GET /stats counts unfinished and unsuccessful jobs exactly and estimates the completed."""
    for status in ["failed", "running", "queued", "queued", "cancelled", "expired", "blocked"]:
        make_job(status)
    for _ in range(5):
        make_job("completed")
    make_job("failed", finished_at="2026-01-01T00:00:00Z")
    with database.autocommit() as connection:
        connection.exec_driver_sql("ANALYZE jobs")
    stats = client.simulate_get("/stats").json
    assert stats["counts"] == {
        "ready": 2,
        "waiting": 0,
        "quarantined": 0,
        "blocked": 1,
        "running": 1,
        "failed": 2,
        "cancelled": 1,
        "expired": 1,
    }
    assert stats["completed_estimate"] == 5
    assert stats["finished_last_minute"] == {"completed": 5, "failed": 1, "cancelled": 1, "expired": 1}
    assert (stats["workers"], stats["threads"], stats["busy"]) == (1, 8, 0)


def test_declared_types_are_listed(client: testing.TestClient) -> None:
    """GET /types gives each type's queue, policy and payload schema."""
    types = by_name(client.simulate_get("/types"))
    assert types["noop"]["max_retries"] == 5
    assert types["noop"]["default_of"] == ["noop"]
    assert types["send_email"]["default_of"] == ["default", "email"]
    jsonschema.Draft202012Validator.check_schema(types["send_email"]["payload_schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"to": "a@example.com"}, types["send_email"]["payload_schema"])


@pytest.mark.parametrize("path", ["/health", "/health/db"])
def test_health_is_ok(client: testing.TestClient, path: str) -> None:
    """Both health checks answer 200 with servers that run."""
    result = client.simulate_get(path)
    assert (result.status_code, result.json) == (200, {"status": "ok"})


def test_the_description_is_valid_openapi(client: testing.TestClient) -> None:
    """GET /openapi.json is a valid OpenAPI 3.1 document."""
    document = client.simulate_get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    validate_openapi(document)
    assert "payload_of_send_email" in document["components"]["schemas"]


def test_operations_have_names_for_code(client: testing.TestClient) -> None:
    """Each operation has a name of its own that a generator of clients can make a function's."""
    paths = client.simulate_get("/openapi.json").json["paths"]
    names = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert [name for name in names if not name.isidentifier()] == []
    assert len(set(names)) == len(names)


def test_routes_and_description_are_the_same(client: testing.TestClient) -> None:
    """Every route is described, and everything described is a route; HEAD goes with GET."""
    routes = {
        (method.method, re.sub(r":\w+}", "}", route.path))
        for route in falcon.inspect.inspect_app(client.app).routes
        for method in route.methods
        if not method.internal
    }
    heads = {path for method, path in routes if method == "HEAD"}
    assert heads == {path for method, path in routes if method == "GET"}
    routes -= {("HEAD", path) for path in heads}
    assert routes == set(OPERATIONS)
    document = client.simulate_get("/openapi.json").json
    described = {(name.upper(), path) for path, item in document["paths"].items() for name in item}
    assert described == routes


#: What is answered by a stream needs a server: see tests/system/test_event_streams.py.
DESCRIBED = [
    key
    for key, operation in OPERATIONS.items()
    if key[0] == "GET" and key[1] != "/openapi.json" and operation.stream is None
]


@pytest.mark.parametrize(("method", "template"), DESCRIBED)
def test_answers_are_as_described(
    client: testing.TestClient, make_job: JobFactory, method: str, template: str
) -> None:
    """Each answer of a GET fits its schema in the description, with jobs in every state."""
    jobs = [make_job(status, queue="noop") for status in ["failed", "running", "queued", "completed"]]
    make_job.attempt(jobs[0])
    schedule = {"name": "noop", "cron": "@hourly", "queue": "noop", "payload": {}}
    assert client.simulate_post("/schedules", json=schedule).status_code == 201
    assert client.simulate_post("/schedules/noop/run").status_code == 201
    operation = {"action": "retry", "filter": {"queue": "noop"}}
    webhook = {"name": "noop", "url": "https://93.184.216.34/"}
    assert client.simulate_post("/webhooks", json=webhook).status_code == 201
    values = {
        "job_id": jobs[0].id,
        "name": "noop",
        "fingerprint": jobs[0].fingerprint,
        "operation_id": client.simulate_post("/bulk-operations", json=operation).json["id"],
        "delivery_id": client.simulate_post("/webhooks/noop/ping").json["id"],
        "key_id": client.simulate_post("/keys", json={"name": "shop", "scopes": ["client"]}).json["id"],
    }
    if template == "/namespaces/{name}":
        assert client.simulate_post("/namespaces", json={"name": "noop"}).status_code == 201
    path = template.format_map(values)
    query = "queue=noop" if path == "/jobs" else ""
    result = client.simulate_request(method, path, query_string=query)
    assert result.status_code == 200, result.text
    assert_described(client, method.lower(), template, result)


def test_a_created_job_is_as_described(client: testing.TestClient) -> None:
    """The answers of a create, of a batch and of a refusal fit their schemas."""
    assert_described(client, "post", "/jobs", client.simulate_post("/jobs", json=NOOP))
    batch = client.simulate_post("/jobs/batch", json={"jobs": [NOOP]})
    assert_described(client, "post", "/jobs/batch", batch)
    assert_described(client, "post", "/jobs", client.simulate_post("/jobs", json={}))


def assert_described(client: testing.TestClient, method: str, path: str, result: testing.Result) -> None:
    """The answer fits the schema that the description has for it."""
    document = client.simulate_get("/openapi.json").json
    described = document["paths"][path][method]["responses"][str(result.status_code)]["content"]
    kind = result.headers["content-type"].partition(";")[0]
    schema = {**described[kind]["schema"], "components": document["components"]}
    answer = result.text if kind == "text/plain" else result.json
    jsonschema.Draft202012Validator(schema).validate(answer)
