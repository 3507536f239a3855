"""Operations over many jobs, over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from falcon import testing
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from tests.api.test_service import assert_described
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PATH = "/bulk-operations"
JSON = {"Content-Type": "application/json"}


def asked(**members: Any) -> dict[str, Any]:
    """A request."""
    return {"action": "retry", "filter": {"queue": "noop"}, **members}


@pytest.fixture
def operator(settings: Settings, database: Database) -> BulkOperator:
    """Who does it."""
    return BulkOperator(settings, database, lambda _seconds: None)


def test_an_operation_can_be_watched(
    client: testing.TestClient, make_job: JobFactory, operator: BulkOperator
) -> None:
    """202 and a Location at once; then its progress, and its end."""
    for _ in range(3):
        make_job("failed", queue="noop")
    begun = client.simulate_post(PATH, json=asked(author="ann"))
    assert (begun.status_code, begun.headers["location"]) == (202, f"{PATH}/{begun.json['id']}")
    assert_described(client, "post", PATH, begun)
    document = begun.json
    for name in ("id", "created_at", "updated_at"):
        assert document.pop(name)
    assert document == {
        "action": "retry",
        "filter": {"queue": "noop", "status": "failed"},
        "arguments": {},
        "state": "running",
        "reason": None,
        "rate": None,
        "canary": None,
        "total": 3,
        "done": 0,
        "changed": 0,
        "author": "ann",
        "finished_at": None,
    }
    for _ in range(2):
        operator.run_once()
    ended = client.simulate_get(begun.headers["location"]).json
    assert (ended["state"], ended["done"], ended["changed"]) == ("completed", 3, 3)
    assert ended["finished_at"].endswith("Z")


def test_operations_are_listed(client: testing.TestClient) -> None:
    """GET /bulk-operations has the newest first; the Link header leads through all of them."""
    ids = [client.simulate_post(PATH, json=asked()).json["id"] for _ in range(3)]
    assert [item["id"] for item in client.simulate_get(PATH).json] == ids[::-1]
    seen, path = [], f"{PATH}?limit=2"
    while path:
        page = client.simulate_get(path)
        seen += [item["id"] for item in page.json]
        path = page.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("request_", "before", "after"),
    [
        pytest.param({"action": "retry", "filter": {"type": "noop"}}, "failed", "queued", id="retry"),
        pytest.param(
            {"action": "retry", "filter": {"type": "noop", "status": "cancelled"}},
            "cancelled",
            "queued",
            id="retry what was cancelled",
        ),
        pytest.param({"action": "cancel", "filter": {"type": "noop"}}, "queued", "cancelled", id="cancel"),
        pytest.param(
            {"action": "set_priority", "filter": {"type": "noop"}, "arguments": {"priority": -5}},
            "queued",
            "queued",
            id="set_priority",
        ),
        pytest.param(
            {"action": "delete", "filter": {"type": "noop", "status": "completed"}},
            "completed",
            None,
            id="delete",
        ),
    ],
)
def test_each_action_is_done(
    client: testing.TestClient,
    make_job: JobFactory,
    operator: BulkOperator,
    request_: dict[str, Any],
    before: str,
    after: str | None,
) -> None:
    """What is asked for is done to the jobs of the filter, and to no others."""
    wanted, other = make_job(before, queue="noop"), make_job(before, queue="noop", type="other")
    begun = client.simulate_post(PATH, json=request_)
    assert begun.status_code == 202, begun.text
    assert begun.json["total"] == 1
    operator.run_once()
    job = client.simulate_get(f"/jobs/{wanted.id}")
    assert job.status_code == (404 if after is None else 200)
    if after is not None:
        assert job.json["status"] == after
        assert job.json["priority"] == request_.get("arguments", {}).get("priority", 0)
    assert client.simulate_get(f"/jobs/{other.id}").json["status"] == before


def test_a_dry_run_changes_nothing(
    client: testing.TestClient, make_job: JobFactory, operator: BulkOperator
) -> None:
    """The answer is the count and the first twenty jobs, oldest first; there is no operation."""
    jobs = [make_job("failed", queue="noop").id for _ in range(22)]
    result = client.simulate_post(PATH, json=asked(dry_run=True, rate=1, canary=10))
    assert result.status_code == 200
    assert (result.json["dry_run"], result.json["total"]) == (True, 22)
    assert [job["id"] for job in result.json["jobs"]] == jobs[:20]
    operator.run_once()
    assert client.simulate_get(PATH).json == []
    assert client.simulate_get(f"/jobs/{jobs[0]}").json["status"] == "failed"
    assert_described(client, "post", PATH, result)


def test_an_operation_is_aborted(
    client: testing.TestClient, make_job: JobFactory, operator: BulkOperator
) -> None:
    """An abort ends it between two steps; a second one answers the same."""
    jobs = [make_job("failed", queue="noop").id for _ in range(3)]
    path = f"{PATH}/{client.simulate_post(PATH, json=asked(rate=0.001)).json['id']}"
    operator.run_once()
    aborted = client.simulate_post(f"{path}/abort")
    assert (aborted.status_code, aborted.json["state"], aborted.json["done"]) == (200, "aborted", 1)
    assert client.simulate_post(f"{path}/abort").json == aborted.json
    operator.run_once()
    statuses = [client.simulate_get(f"/jobs/{job_id}").json["status"] for job_id in jobs]
    assert statuses == ["queued", "failed", "failed"]


def test_an_ended_operation_cannot_be_aborted(client: testing.TestClient, operator: BulkOperator) -> None:
    """An abort of what is through answers 409."""
    path = f"{PATH}/{client.simulate_post(PATH, json=asked()).json['id']}"
    for _ in range(2):
        operator.run_once()
    assert client.simulate_post(f"{path}/abort").status_code == 409
    assert client.simulate_get(path).json["state"] == "completed"


@pytest.mark.parametrize("operation_id", ["1", "0", "x", "9223372036854775807", "9223372036854775808", "%00"])
def test_an_unknown_operation_is_404(client: testing.TestClient, operation_id: str) -> None:
    """Looking and aborting alike."""
    assert client.simulate_get(f"{PATH}/{operation_id}").status_code == 404
    assert client.simulate_post(f"{PATH}/{operation_id}/abort").status_code == 404


NUL = "a\0b"

WRONG = [
    pytest.param({}, {"action", "filter"}, id="nothing"),
    pytest.param(asked(action="explode"), {"action"}, id="unknown action"),
    pytest.param(asked(action=1), {"action"}, id="action is a number"),
    pytest.param(asked(action=["retry"]), {"action"}, id="action is a list"),
    pytest.param(asked(filter={}), {"filter"}, id="no filter"),
    pytest.param(asked(filter={"status": "failed"}), {"filter"}, id="a status alone"),
    pytest.param(asked(filter=[]), {"filter"}, id="filter is a list"),
    pytest.param(asked(filter={"color": "red"}), {"filter.color"}, id="unknown filter"),
    pytest.param(asked(filter={"queue": ""}), {"filter.queue"}, id="empty queue"),
    pytest.param(asked(filter={"queue": NUL}), {"filter.queue"}, id="NUL"),
    pytest.param(asked(filter={"queue": 1}), {"filter.queue"}, id="queue is a number"),
    pytest.param(asked(filter={"type": "x" * 201}), {"filter.type"}, id="a long type"),
    pytest.param(asked(filter={"queue": "a", "status": "queued"}), {"filter.status"}, id="cannot be retried"),
    pytest.param(asked(filter={"queue": "a", "status": "lost"}), {"filter.status"}, id="unknown status"),
    pytest.param(asked(filter={"created_after": "2031-02-03"}), {"filter.created_after"}, id="no zone"),
    pytest.param(asked(filter={"created_before": 5}), {"filter.created_before"}, id="time is a number"),
    pytest.param(asked(filter={"fingerprint": "x"}), {"filter.fingerprint"}, id="no fingerprint"),
    pytest.param(asked(filter={"fingerprint": "a" * 17}), {"filter.fingerprint"}, id="long fingerprint"),
    pytest.param(
        asked(filter={"fingerprint": "a" * 16, "status": "cancelled"}),
        {"filter.status"},
        id="cancelled of a fingerprint",
    ),
    pytest.param(
        asked(action="cancel", filter={"fingerprint": "a" * 16}), {"filter.status"}, id="cancel of a kind"
    ),
    pytest.param(asked(filter={"ids": []}), {"filter.ids"}, id="no ids"),
    pytest.param(asked(filter={"ids": [0]}), {"filter.ids[0]"}, id="id 0"),
    pytest.param(asked(filter={"ids": [2**63]}), {"filter.ids[0]"}, id="a huge id"),
    pytest.param(asked(filter={"ids": ["1"]}), {"filter.ids[0]"}, id="id is text"),
    pytest.param(asked(filter={"ids": [True]}), {"filter.ids[0]"}, id="id is a boolean"),
    pytest.param(asked(filter={"ids": list(range(1, 10_002))}), {"filter.ids"}, id="too many ids"),
    pytest.param(asked(action="delete"), {"filter.status"}, id="delete without a status"),
    pytest.param(
        asked(action="delete", filter={"queue": "a", "status": "running"}),
        {"filter.status"},
        id="delete of running jobs",
    ),
    pytest.param(asked(action="set_priority"), {"arguments.priority"}, id="no priority"),
    pytest.param(
        asked(action="set_priority", arguments={"priority": 101}), {"arguments.priority"}, id="priority 101"
    ),
    pytest.param(
        asked(action="set_priority", arguments={"priority": 1.5}), {"arguments.priority"}, id="priority 1.5"
    ),
    pytest.param(asked(arguments={"priority": 1}), {"arguments.priority"}, id="priority of a retry"),
    pytest.param(asked(arguments={"speed": 1}), {"arguments.speed"}, id="unknown argument"),
    pytest.param(asked(rate=0), {"rate"}, id="rate 0"),
    pytest.param(asked(rate=-1), {"rate"}, id="negative rate"),
    pytest.param(asked(rate=10**400), {"rate"}, id="a huge rate"),
    pytest.param(asked(rate="10"), {"rate"}, id="rate is text"),
    pytest.param(asked(canary=0), {"canary"}, id="canary 0"),
    pytest.param(asked(canary=1001), {"canary"}, id="canary 1001"),
    pytest.param(asked(canary=1.5), {"canary"}, id="canary 1.5"),
    pytest.param(asked(action="cancel", canary=1), {"canary"}, id="canary of a cancel"),
    pytest.param(asked(dry_run="yes"), {"dry_run"}, id="dry_run is text"),
    pytest.param(asked(author=NUL), {"author"}, id="NUL in the author"),
    pytest.param(asked(author=""), {"author"}, id="empty author"),
    pytest.param(asked(priority=1), {"priority"}, id="unknown member"),
]


@pytest.mark.parametrize(("document", "fields"), WRONG)
def test_a_wrong_operation_is_refused(
    client: testing.TestClient, document: dict[str, Any], fields: set[str]
) -> None:
    """400 names what is wrong, with or without a dry run; nothing begins."""
    for dry_run in ({}, {"dry_run": True}):
        result = client.simulate_post(PATH, json=dry_run | document)
        assert result.status_code == 400, result.text
        assert fields <= result.json["fields"].keys()
    assert client.simulate_get(PATH).json == []


@pytest.mark.parametrize("text", ["1e400", "NaN", "-Infinity", "1" * 400])
def test_numbers_beyond_json_are_refused(client: testing.TestClient, text: str) -> None:
    """A rate that no float has answers 400 and names it."""
    body = json.dumps(asked(rate=0)).replace('"rate": 0', f'"rate": {text}')
    result = client.simulate_post(PATH, body=body, headers=JSON)
    assert (result.status_code, list(result.json["fields"])) == (400, ["rate"])


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=0", "cursor=x", "cursor=" + "9" * 30])
def test_a_wrong_list_is_refused(client: testing.TestClient, query: str) -> None:
    """400 names the parameter."""
    result = client.simulate_get(PATH, query_string=query)
    assert (result.status_code, list(result.json["fields"])) == (400, [query.partition("=")[0]])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {"action": st.sampled_from(["retry", "cancel", "delete", "set_priority"]) | VALUES},
    optional={
        "filter": st.fixed_dictionaries(
            {},
            optional={
                "queue": st.just("noop") | VALUES,
                "type": st.just("noop") | VALUES,
                "status": st.sampled_from(["failed", "queued", "completed"]) | VALUES,
                "created_after": st.just("2026-01-01T00:00:00Z") | VALUES,
                "created_before": st.sampled_from(["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]) | VALUES,
                "fingerprint": st.just("0123456789abcdef") | VALUES,
                "ids": st.lists(st.integers(1, 9) | VALUES, max_size=3) | VALUES,
            },
        )
        | VALUES,
        "arguments": st.fixed_dictionaries({"priority": st.integers(-101, 101) | VALUES}) | VALUES,
        "rate": st.floats(-1, 10) | VALUES,
        "canary": st.integers(-1, 10) | VALUES,
        "dry_run": st.booleans() | VALUES,
        "author": VALUES,
    },
)


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_no_document_breaks_a_bulk_operation(client: testing.TestClient, document: Any) -> None:
    """Whatever is sent, the answer is a dry run, an operation or a problem with fields; never a 500."""
    result = client.simulate_post(PATH, body=json.dumps(document), headers=JSON)
    assert result.status_code in {200, 202, 400}, result.text
    assert (result.status_code == 400) == ("fields" in result.json)
