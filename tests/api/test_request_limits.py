"""How much one key may ask for, and what every answer says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api import job_actions
from goqueue.api.app import create_app
from goqueue.api.frame.request_limits import ConcurrentRequests, RequestRate
from goqueue.api.operations import OPERATIONS
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.api.conftest import NOOP

KEYS = ("first", "second")
HEADERS = {key: {"Authorization": f"Bearer {key}"} for key in KEYS}


@pytest.fixture
def limited(settings: Settings, database: Database, runway: Runway) -> Callable[..., testing.TestClient]:
    """Makes a client of an API with these settings and two keys."""

    def make(**changes: Any) -> testing.TestClient:
        hashes = tuple(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)
        changed = settings.model_copy(update={"api_keys": hashes} | changes)
        return testing.TestClient(create_app(changed, database=database, runway=runway, site=DASHBOARD))

    return make


def test_a_key_has_so_many_requests_a_second(limited: Callable[..., testing.TestClient]) -> None:
    """A key that asks for more gets 429 and a time to wait, however its header is written; others do not."""
    client = limited(api_rate_per_second=0.001, api_rate_burst=3)
    spellings = ["Bearer first", "bearer first", "BEARER   first"]
    answers = [client.simulate_get("/queues", headers={"Authorization": said}) for said in spellings]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.headers["ratelimit"] for answer in answers] == [
        '"requests";r=2;t=1000',
        '"requests";r=1;t=2000',
        '"requests";r=0;t=3000',
    ]
    refused = client.simulate_get("/queues", headers=HEADERS["first"])
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=3000'
    assert 900 < int(refused.headers["retry-after"]) <= 1000
    assert client.simulate_get("/queues", headers=HEADERS["second"]).status_code == 200
    assert client.simulate_get("/queues").status_code == 401
    # Those of a load balancer, which has no key, are no reason to take a process for dead.
    assert {client.simulate_get("/health/live").status_code for _ in range(10)} == {200}


def test_without_a_limit_nothing_is_counted(client: testing.TestClient) -> None:
    """By default there is no limit on requests a second, and nothing is said about one."""
    for _ in range(200):
        answer = client.simulate_get("/health")
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers


def test_a_bucket_fills_as_time_goes_by() -> None:
    """After a pause as many requests are there again as the pause is long, up to the burst."""
    now = 0.0
    rate = RequestRate(2.0, 4, clock=lambda: now)
    assert [rate.take("a") >= 0 for _ in range(5)] == [True, True, True, True, False]
    now = 1.0
    assert [rate.take("a") >= 0 for _ in range(3)] == [True, True, False]
    now = 1_000.0
    assert rate.take("a") == 3


EXPENSIVE = [
    ("GET", "/jobs?queue=noop&payload=a"),
    ("GET", "/jobs?queue=noop&error=a"),
    ("GET", "/schedules/s/preview"),
    ("GET", "/failures"),
    ("GET", "/failures/0000000000000000"),
    ("POST", "/failures/0000000000000000/retry"),
    ("GET", "/queues/noop/blocked-keys"),
    ("POST", "/bulk-operations"),
    ("POST", "/jobs/retry"),
    ("POST", "/jobs/cancel"),
    ("HEAD", "/failures"),
]


@pytest.mark.parametrize(
    ("method", "path"), EXPENSIVE, ids=[f"{method} {path}" for method, path in EXPENSIVE]
)
def test_a_key_has_so_many_expensive_requests_at_once(
    limited: Callable[..., testing.TestClient], monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """While the most of a key are under way a further one gets 429; another key's, and cheap ones, do not."""
    client = limited(api_expensive_concurrency=1)
    path, _, query = path.partition("?")
    begin = ConcurrentRequests.begin
    first = hashlib.sha256(b"first").hexdigest()

    def begin_beside_another(self: ConcurrentRequests, key: str) -> bool:
        self._running[first] = 1
        return begin(self, key)

    monkeypatch.setattr(ConcurrentRequests, "begin", begin_beside_another)

    def status(key: str) -> testing.Result:
        return client.simulate_request(method, path, query_string=query, headers=HEADERS[key], json={})

    refused = status("first")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"expensive";r=0'
    assert refused.headers["ratelimit-policy"] == '"expensive";q=1;qu="concurrent-requests"'
    assert status("second").status_code != 429
    assert client.simulate_get("/queues", headers=HEADERS["first"]).status_code == 200


def test_an_expensive_request_that_has_ended_is_not_counted(
    limited: Callable[..., testing.TestClient],
) -> None:
    """Whether it succeeded or was refused, the next one may run."""
    client = limited(api_expensive_concurrency=1)
    for _ in range(3):
        assert client.simulate_get("/failures", headers=HEADERS["first"]).status_code == 200
        answer = client.simulate_post("/bulk-operations", headers=HEADERS["first"], json={"no": 1})
        assert answer.status_code == 400


def test_one_request_changes_so_many_jobs(
    client: testing.TestClient, create: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel or retry by a filter works on a bounded number of jobs, and says that there are more."""
    monkeypatch.setattr(job_actions, "CHUNK", 2)
    monkeypatch.setattr(job_actions, "SELECTION_MAX_JOBS", 4)
    for _ in range(5):
        create()
    cancel = {"queue": NOOP["queue"]}
    answers = [client.simulate_post("/jobs/cancel", json=cancel).json for _ in range(2)]
    assert [(one["cancelled"], one.get("more", False)) for one in answers] == [(4, True), (1, False)]
    retry = {"queue": NOOP["queue"], "status": "cancelled"}
    answers = [client.simulate_post("/jobs/retry", json=retry).json for _ in range(2)]
    assert [(one["retried"], one.get("more", False)) for one in answers] == [(4, True), (1, False)]


GETS = [path for method, path in OPERATIONS if method == "GET"]


@pytest.mark.parametrize("path", [*GETS, "/dashboard", "/dashboard/jobs", "/dashboard/login"])
def test_what_answers_get_answers_head(
    limited: Callable[..., testing.TestClient], create: Callable[..., dict[str, Any]], path: str
) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    client = limited(api_keys=())
    job = create()
    for name, value in {"job_id": job["id"], "name": NOOP["queue"], "fingerprint": "0" * 16}.items():
        path = path.replace(f"{{{name}}}", str(value))
    query = f"queue={NOOP['queue']}" if path == "/jobs" else ""
    got = client.simulate_get(path, query_string=query)
    head = client.simulate_head(path, query_string=query)
    assert head.status_code == got.status_code != 405
    assert head.content == b""
    volatile = {"x-request-id", "content-length", "set-cookie", "etag"}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("GET", "/nothing", 404), ("DELETE", "/jobs", 405), ("POST", "/jobs", 415)],
)
def test_nobody_keeps_an_answer(client: testing.TestClient, method: str, path: str, status: int) -> None:
    """Every answer of the API, also a refusal, says that it is what it says, and that nobody may keep it."""
    answer = client.simulate_request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
