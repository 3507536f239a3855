"""What only a real server shows: chunked bodies under gunicorn, and outages."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from pydantic import SecretStr

from goqueue.api.app import create_app
from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from goqueue.engine.runway.runway import Runway
from tests.api.conftest import NOOP
from tests.support import shared_database
from tests.support.servers.clusters import own_postgres_in
from tests.support.waiting import wait_until

MIB = 1024 * 1024
WORKER = "goqueue.api.server.worker.BufferingWorker"
EMAIL = {"queue": "email", "payload": {"to": "a@example.com", "subject": "Hello", "body": "World"}}


@pytest.fixture
def port(settings: Settings) -> Iterator[int]:
    """The API under gunicorn, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "goqueue.wsgi:app", "-k", WORKER, "--threads", "4"]
    server = subprocess.Popen([*command, "-b", f"127.0.0.1:{port}"], env=environment_of(settings))
    try:
        wait_until(lambda: answers(port))
        yield port
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    """Whether the server answers."""
    try:
        return post(port, "/jobs", [b"{"])[0] == 400
    except OSError:
        return False


def post(port: int, path: str, chunks: list[bytes]) -> tuple[int, Any, dict[str, str]]:
    """Post a body in chunks, without a length; status, document and headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "POST", path, body=iter(chunks), headers={"Content-Type": "application/json"}, encode_chunked=True
        )
        answer = connection.getresponse()
        return (
            answer.status,
            json.loads(answer.read()),
            {name.lower(): value for name, value in answer.headers.items()},
        )
    finally:
        connection.close()


def test_a_chunked_body_is_read_and_counted(port: int) -> None:
    """A body without a length is accepted, and answers 413 as soon as it is over the limit."""
    text = json.dumps(EMAIL).encode()
    status, document, headers = post(port, "/jobs", [text[:10], text[10:]])
    assert (status, document["type"]) == (201, "send_email")
    assert headers["location"] == f"/jobs/{document['id']}"
    status, document, headers = post(port, "/jobs", [b" " * MIB, b" "])
    assert (status, document["status"]) == (413, 413)
    assert headers["content-type"] == "application/problem+json"
    assert post(port, "/jobs/batch", [b" " * MIB, b'{"jobs": [', text, b"]}"])[0] == 201


def test_a_request_that_is_no_http_is_no_job(port: int) -> None:
    """A chunk with a wrong size is refused, and the server goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/jobs")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(b"nonsense\r\n")
        assert connection.getresponse().status == 400
    assert answers(port)


@pytest.fixture
def own_postgres(data_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that the test may stop."""
    with own_postgres_in(data_folder) as server:
        yield server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_without_postgresql_the_answer_is_503(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, mode: Any
) -> None:
    """While PostgreSQL is away what needs it answers 503 with Retry-After, and then works again."""
    settings = Settings(
        database_url=SecretStr(own_postgres.url),
        redis_url=SecretStr(valkey.url),
        namespace=f"outage_{mode}",
        allowed_hosts=(shared_database.TESTED_HOST,),
    )
    database, runway = Database(settings), Runway(settings)
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    job = client.simulate_post("/jobs", json=NOOP).json
    own_postgres.stop(mode)
    for method, path, body in [
        ("POST", "/jobs", NOOP),
        ("POST", "/jobs/batch", {"jobs": [NOOP]}),
        ("GET", f"/jobs/{job['id']}", None),
        ("POST", f"/jobs/{job['id']}/cancel", None),
        ("GET", "/queues", None),
        ("GET", "/health/db", None),
    ]:
        result = client.simulate_request(method, path, json=body)
        assert result.status_code == 503, result.text
        assert int(result.headers["retry-after"]) >= 1
        assert result.headers["content-type"] == "application/problem+json"
        assert "127.0.0.1" not in result.text
    assert client.simulate_post("/jobs", json=NOOP, headers={"Idempotency-Key": "k"}).status_code == 503
    assert client.simulate_get("/health").status_code == 200
    own_postgres.start()
    assert client.simulate_get(f"/jobs/{job['id']}").json == job
    assert client.simulate_post("/jobs", json=NOOP).status_code == 201
    runway.close()
    database.close()


def test_without_redis_nothing_is_refused(
    settings: Settings, database: Database, rows: Callable[[], int]
) -> None:
    """While Redis is away jobs are created, and queues paused, resumed and configured, all the same."""
    gone = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")})
    runway = Runway(gone)
    client = testing.TestClient(create_app(gone, database=database, runway=runway))
    assert client.simulate_post("/jobs", json=NOOP).status_code == 201
    assert client.simulate_post("/jobs/batch", json={"jobs": [NOOP] * 3}).status_code == 201
    assert client.simulate_post("/queues/noop/pause").status_code == 200
    assert client.simulate_post("/queues/noop/resume").status_code == 200
    assert client.simulate_put("/queues/noop", json={"concurrency": 1}).status_code == 200
    assert client.simulate_put("/types/noop", json={"concurrency": 1}).status_code == 200
    assert rows() == 4
    runway.close()


def test_what_we_did_not_expect_is_a_500_without_details(
    client: testing.TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug answers a 500 problem; neither the answer nor the log has the text of the error."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the payload of a customer")

    monkeypatch.setattr("goqueue.engine.job_rows.get", fail)
    result = client.simulate_get("/jobs/1")
    assert result.status_code == 500
    assert result.headers["content-type"] == "application/problem+json"
    assert "customer" not in result.text
    assert "request_failed" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "customer" not in caplog.text
