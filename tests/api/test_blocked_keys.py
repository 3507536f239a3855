"""GET /queues/{name}/blocked-keys: keys in strict order whose oldest job holds up later ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.insight.explain import blocked_key_rows as blocked_keys
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits
from tests.support.factories import JobFactory
from tests.support.http.explanations import seconds_from
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def strict(database: Database) -> None:
    """The queue of the tests is in strict order."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", QueueLimits(fifo=True))


def listed(client: testing.TestClient, query: str = "", name: str = "default") -> testing.Result:
    """A page."""
    result = client.simulate_get(f"/queues/{name}/blocked-keys", query_string=query)
    assert result.status_code == 200, result.text
    return result


@pytest.mark.parametrize(
    ("status", "columns", "why"),
    [
        ("running", {}, "running"),
        ("blocked", {}, "dependencies"),
        ("queued", {"available_at": FAR}, "run_at"),
        ("queued", {"available_at": FAR, "attempts": 1, "fence": 1}, "backoff"),
        ("queued", {"quarantined": True}, "quarantined"),
    ],
    ids=["running", "dependencies", "run-at", "backoff", "quarantined"],
)
def test_a_blocked_key_says_why(
    client: testing.TestClient,
    make_job: JobFactory,
    status: str,
    columns: dict[str, Any],
    why: str,
) -> None:
    """The oldest job of a blocked key is told, what it does, and how many wait behind it."""
    oldest = make_job(status, concurrency_key="a", **columns)
    if why == "backoff":
        make_job.attempt(oldest)
    for _ in range(2):
        make_job(concurrency_key="a")
    (blocked,) = listed(client).json
    assert abs(seconds_from(blocked.pop("since"))) < 10
    assert blocked == {
        "key": "a",
        "job_id": oldest.id,
        "status": status,
        "why": why,
        "until": "2100-01-01T00:00:00Z" if "available_at" in columns else None,
        "waiting": 2,
    }


def test_keys_that_move_are_not_listed(client: testing.TestClient, make_job: JobFactory) -> None:
    """Neither a key whose oldest job may start, nor one behind whose oldest nothing waits, is blocked."""
    make_job(concurrency_key="ready")
    make_job(concurrency_key="ready")
    make_job("running", concurrency_key="alone")
    make_job(concurrency_key="later", available_at=FAR)
    make_job(concurrency_key="later", available_at=FAR)
    make_job("failed", concurrency_key="failed")
    make_job(concurrency_key="failed")
    make_job("running")
    make_job()
    assert listed(client).json == []


def test_without_strict_order_no_key_is_blocked(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """Where the jobs of a key may run side by side, none waits for an older one."""
    make_job("running", concurrency_key="a")
    make_job(concurrency_key="a")
    with database.transaction() as connection:
        queue_settings.set_limits(connection, "default", QueueLimits(fair=True))
    assert listed(client).json == []
    assert listed(client, name="email").json == []


def test_pages_together_are_the_list(client: testing.TestClient, make_job: JobFactory) -> None:
    """Following the Link headers gives every blocked key once, by key, and ends."""
    keys = sorted(f"käy {number}/&" for number in range(5))
    for key in keys:
        make_job("running", concurrency_key=key)
        make_job(concurrency_key=key)
        make_job(concurrency_key=f"{key} moves")
    found, query = [], "limit=2"
    while query:
        result = listed(client, query)
        assert len(result.json) <= 2
        found += [blocked["key"] for blocked in result.json]
        query = result.headers.get("link", "").partition("?")[2].partition(">")[0]
    assert found == keys


def test_a_page_looks_at_so_many_keys(make_job: JobFactory, database: Database) -> None:
    """A page ends after so many keys, blocked or not, and the next one begins behind them."""
    for number in range(7):
        make_job("running" if number in {0, 5} else "queued", concurrency_key=f"{number}")
        make_job(concurrency_key=f"{number}")
    pages: list[list[str]] = []
    after: str | None = ""
    with database.autocommit() as connection:
        while after is not None:
            page, after = blocked_keys.page(connection, "default", after=after, limit=2, keys_max=3)
            pages.append([blocked.key for blocked in page])
    assert pages == [["0"], ["5"], []]


@pytest.mark.parametrize("name", ["nowhere", "quarantine"])
def test_an_unknown_queue_is_404(client: testing.TestClient, name: str) -> None:
    """There are no keys of a queue that does not exist."""
    assert client.simulate_get(f"/queues/{name}/blocked-keys").status_code == 404


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=%C3%BC", "cursor=AAAAAAAAAAAA", "nonsense=1"],
)
def test_a_wrong_page_is_400(client: testing.TestClient, query: str) -> None:
    """A page that cannot be is refused, with the name of what is wrong."""
    result = client.simulate_get("/queues/default/blocked-keys", query_string=query)
    assert result.status_code == 400
    assert set(result.json["fields"]) == {query.partition("=")[0]}


def test_a_cursor_belongs_to_its_queue(client: testing.TestClient, make_job: JobFactory) -> None:
    """The cursor of one queue is refused by another."""
    for key in "ab":
        make_job("running", concurrency_key=key)
        make_job(concurrency_key=key)
    cursor = listed(client, "limit=1").headers["link"].partition("?")[2].partition(">")[0]
    result = client.simulate_get("/queues/email/blocked-keys", query_string=cursor)
    assert result.status_code == 400
    assert set(result.json["fields"]) == {"cursor"}
