"""Failed jobs in groups, over REST."""

from __future__ import annotations

from typing import Any

import pytest
from falcon import testing

from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.fingerprints import kind_of
from goqueue.insight import failure_rows as failure_store
from tests.api.test_service import assert_described
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

KIND = kind_of("noop", "ValueError", "no customer 17", "app.charge")


@pytest.fixture
def dead(make_job: JobFactory, database: Database) -> list[int]:
    """Three dead letters of one kind, the newest with an attempt; and one of another."""
    jobs = [
        make_job("failed", queue="noop", fingerprint=KIND.fingerprint, error=f"ValueError: {n}", fence=1)
        for n in range(3)
    ]
    make_job("failed", queue="email", type="send_email", reason="worker_died", error="the worker died")
    make_job("completed", queue="noop")
    with database.autocommit() as connection:
        failure_store.insert_kinds(connection, [KIND])
    make_job.attempt(jobs[-1], traceback="Traceback …")
    return [job.id for job in jobs]


def test_failures_are_listed_in_groups(client: testing.TestClient, dead: list[int]) -> None:
    """GET /failures has each failed job in one group, with a count, times and a sample."""
    killed, group = client.simulate_get("/failures").json
    assert group.pop("first_seen") <= group.pop("last_seen")
    assert group == {
        "fingerprint": KIND.fingerprint,
        "type": "noop",
        "exception": "ValueError",
        "message": "no customer <n>",
        "frame": "app.charge",
        "count": 3,
        "is_estimate": False,
        "sample": {
            "job_id": dead[-1],
            "error": "ValueError: 2",
            "reason": None,
            "traceback": "Traceback …",
        },
    }
    assert (killed["exception"], killed["message"], killed["count"]) == (None, "worker_died", 1)


@pytest.mark.parametrize(
    ("query", "counts"),
    [
        pytest.param("", [1, 3], id="the latest first"),
        pytest.param("order=count", [3, 1], id="the largest first"),
        pytest.param("queue=email", [1], id="queue"),
        pytest.param("type=noop", [3], id="type"),
        pytest.param("since=2100-01-01T00:00:00Z", [], id="since a time to come"),
        pytest.param("since=2020-01-01T00:00:00%2B01:00", [1, 3], id="since long ago"),
        pytest.param("limit=1", [1], id="limit"),
    ],
)
@pytest.mark.usefixtures("dead")
def test_groups_are_chosen(client: testing.TestClient, query: str, counts: list[int]) -> None:
    """The parameters of GET /failures choose and order the groups."""
    groups = client.simulate_get("/failures", query_string=query).json
    assert [group["count"] for group in groups] == counts


def test_a_group_has_its_newest_jobs(client: testing.TestClient, dead: list[int]) -> None:
    """GET /failures/{fingerprint} has the group and its jobs, newest first."""
    group = client.simulate_get(f"/failures/{KIND.fingerprint}", query_string="limit=2").json
    assert group["count"] == 3
    assert [job["id"] for job in group["jobs"]] == [dead[2], dead[1]]
    assert {job["fingerprint"] for job in group["jobs"]} == {KIND.fingerprint}


def test_a_group_without_an_exception_has_its_jobs(client: testing.TestClient, dead: list[int]) -> None:
    """The fingerprint of a group without an exception leads to its jobs as well."""
    killed = client.simulate_get("/failures", query_string="queue=email").json[0]
    group = client.simulate_get(f"/failures/{killed['fingerprint']}").json
    assert [job["fingerprint"] for job in group["jobs"]] == [killed["fingerprint"]]
    assert group["jobs"][0]["id"] == dead[-1] + 1


def test_jobs_are_listed_by_fingerprint(client: testing.TestClient, dead: list[int]) -> None:
    """GET /jobs?fingerprint= pages through a group; another status than failed is refused."""
    query = f"fingerprint={KIND.fingerprint}&limit=2"
    first = client.simulate_get("/jobs", query_string=query)
    assert [job["id"] for job in first.json] == [dead[2], dead[1]]
    link = first.headers["link"].partition(">")[0].removeprefix("<").partition("?")[2]
    assert [job["id"] for job in client.simulate_get("/jobs", query_string=link).json] == [dead[0]]
    also = client.simulate_get("/jobs", query_string=f"{query}&status=failed&queue=noop&type=noop")
    assert len(also.json) == 2
    wrong = client.simulate_get("/jobs", query_string=f"{query}&status=completed")
    assert (wrong.status_code, list(wrong.json["fields"])) == (400, ["status"])


@pytest.mark.parametrize("suffix", ["", "/retry"])
@pytest.mark.parametrize("fingerprint", ["0" * 16, "x", "%00", "A" * 16, "a" * 17])
@pytest.mark.usefixtures("dead")
def test_an_unknown_fingerprint_is_404(client: testing.TestClient, fingerprint: str, suffix: str) -> None:
    """What no failed job has, or what cannot be a fingerprint, is not found."""
    method = "POST" if suffix else "GET"
    result = client.simulate_request(method, f"/failures/{fingerprint}{suffix}")
    assert result.status_code == 404
    assert result.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        pytest.param("/failures", "limit=0", "limit", id="limit 0"),
        pytest.param("/failures", "limit=201", "limit", id="limit too large"),
        pytest.param("/failures", "order=name", "order", id="order"),
        pytest.param("/failures", "since=yesterday", "since", id="no time"),
        pytest.param("/failures", "since=2020-01-01T00:00:00", "since", id="no zone"),
        pytest.param("/failures", "queue=a%00", "queue", id="NUL"),
        pytest.param("/failures", "type=", "type", id="empty type"),
        pytest.param("/failures", "status=failed", "status", id="unknown parameter"),
        pytest.param(f"/failures/{KIND.fingerprint}", "limit=x", "limit", id="limit of a group"),
        pytest.param("/jobs", "fingerprint=x", "fingerprint", id="no fingerprint"),
    ],
)
@pytest.mark.usefixtures("dead")
def test_a_wrong_query_is_refused(client: testing.TestClient, path: str, query: str, field: str) -> None:
    """A question that is wrong answers 400 and names the parameter."""
    result = client.simulate_get(path, query_string=query)
    assert (result.status_code, list(result.json["fields"])) == (400, [field])


def test_a_group_is_retried(
    client: testing.TestClient, dead: list[int], settings: Settings, database: Database
) -> None:
    """POST /failures/{fingerprint}/retry begins an operation over the group: its jobs run again."""
    begun = client.simulate_post(f"/failures/{KIND.fingerprint}/retry")
    assert begun.status_code == 202, begun.text
    assert_described(client, "post", "/failures/{fingerprint}/retry", begun)
    assert begun.headers["location"] == f"/bulk-operations/{begun.json['id']}"
    assert (begun.json["action"], begun.json["total"]) == ("retry", 3)
    run(settings, database)
    statuses = {client.simulate_get(f"/jobs/{job_id}").json["status"] for job_id in dead}
    assert statuses == {"queued"}
    assert [group["type"] for group in client.simulate_get("/failures").json] == ["send_email"]


def run(settings: Settings, database: Database) -> None:
    """Do what there is to be done."""
    operator = BulkOperator(settings, database, lambda _seconds: None)
    while operator.run_once()["done"]:
        pass


def test_a_group_is_retried_with_care(client: testing.TestClient, dead: list[int]) -> None:
    """Rate, canary and author of the shortcut are the operation's."""
    asked: dict[str, Any] = {"rate": 2.5, "canary": 1, "author": "ann"}
    begun = client.simulate_post(f"/failures/{KIND.fingerprint}/retry", json=asked).json
    assert {name: begun[name] for name in asked} == asked
    assert (begun["state"], begun["filter"]) == (
        "canary",
        {"fingerprint": KIND.fingerprint, "status": "failed"},
    )
    assert client.simulate_get(f"/jobs/{dead[0]}").json["status"] == "failed"


def test_a_dry_run_changes_nothing(client: testing.TestClient, dead: list[int]) -> None:
    """A dry run of the shortcut counts, shows the jobs, and begins nothing."""
    result = client.simulate_post(f"/failures/{KIND.fingerprint}/retry", json={"dry_run": True})
    assert result.status_code == 200
    assert (result.json["dry_run"], result.json["total"]) == (True, 3)
    assert [job["id"] for job in result.json["jobs"]] == dead
    assert client.simulate_get("/bulk-operations").json == []
