"""GET /jobs: filters and pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.db.statements import fetch_all
from goqueue.engine.listing import listing_rows as job_lists
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

Create = Callable[..., dict[str, Any]]


def ids(result: testing.Result) -> list[int]:
    """The ids of a list."""
    assert result.status_code == 200, result.text
    return [job["id"] for job in result.json]


def next_page(result: testing.Result) -> str | None:
    """Where the Link header leads."""
    match = re.fullmatch(r"<(/jobs\?[^>]+)>; rel=next", result.headers.get("link", ""))
    return match[1] if match else None


def pages(client: testing.TestClient, query: str) -> list[list[int]]:
    """Every page of a list."""
    found: list[list[int]] = []
    path: str | None = f"/jobs?{query}"
    while path:
        result = client.simulate_get("/jobs", query_string=path.partition("?")[2])
        found.append(ids(result))
        path = next_page(result)
    return found


def test_pages_together_are_the_list(client: testing.TestClient, make_job: JobFactory) -> None:
    """Following the Link headers gives every job once, newest first, and ends."""
    made = [make_job(queue="noop").id for _ in range(7)]
    assert pages(client, "queue=noop&limit=3") == [made[:-4:-1], made[3:0:-1], made[:1]]
    assert pages(client, "queue=noop&limit=7") == [made[::-1]]


def test_pages_stay_in_place_while_jobs_come(client: testing.TestClient, make_job: JobFactory) -> None:
    """Jobs that are created between two pages shift nothing: none is shown twice, none is left out."""
    made = [make_job(queue="noop").id for _ in range(4)]
    first = client.simulate_get("/jobs", query_string="queue=noop&limit=2")
    make_job(queue="noop")
    path = next_page(first)
    assert path is not None
    second = client.simulate_get("/jobs", query_string=path.partition("?")[2])
    assert ids(first) + ids(second) == made[::-1]


def test_a_cursor_belongs_to_its_filters(client: testing.TestClient, make_job: JobFactory) -> None:
    """The cursor of one list is refused by another."""
    for _ in range(2):
        make_job(queue="noop")
    path = next_page(client.simulate_get("/jobs", query_string="queue=noop&limit=1"))
    assert path is not None
    other = path.partition("?")[2].replace("queue=noop", "queue=email")
    result = client.simulate_get("/jobs", query_string=other)
    assert result.status_code == 400
    assert "cursor" in result.json["fields"]


def test_filters_are_combined(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job is listed when every filter fits it."""
    wanted = make_job("failed", queue="email", type="send_email").id
    make_job("failed", queue="email", type="noop")
    make_job("failed", queue="noop", type="send_email")
    make_job("completed", queue="email", type="send_email")
    assert ids(client.simulate_get("/jobs", query_string="queue=email&type=send_email&status=failed")) == [
        wanted
    ]
    assert len(ids(client.simulate_get("/jobs", query_string="status=failed"))) == 3
    assert len(ids(client.simulate_get("/jobs", query_string="type=send_email"))) == 3


@pytest.mark.parametrize(
    "status", ["queued", "blocked", "running", "completed", "failed", "cancelled", "expired"]
)
def test_every_status_can_be_listed(client: testing.TestClient, make_job: JobFactory, status: str) -> None:
    """Each status filters to exactly its jobs."""
    made = {name: make_job(name).id for name in ["queued", "running", "failed"] if name != status}
    wanted = make_job(status).id
    assert ids(client.simulate_get("/jobs", query_string=f"status={status}")) == [wanted]
    assert wanted not in made.values()


def test_a_range_of_time_has_a_first_and_no_last_moment(
    client: testing.TestClient, make_job: JobFactory
) -> None:
    """`created_after` belongs to the range and `created_before` does not, over hours of jobs."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = [make_job(queue="noop", created_at=start + timedelta(hours=hour)).id for hour in range(48)]

    def between(after: int, before: int) -> list[int]:
        bounds = {
            "created_after": (start + timedelta(hours=after)).isoformat(),
            "created_before": (start + timedelta(hours=before)).isoformat().replace("+00:00", "Z"),
        }
        return ids(client.simulate_get("/jobs", params=bounds))

    assert between(10, 20) == made[10:20][::-1]
    assert between(-5, 2) == made[:2][::-1]
    assert between(46, 60) == made[46:][::-1]
    assert between(60, 70) == []
    assert between(-9, -8) == []


def test_a_plus_sign_that_was_not_encoded_is_understood(client: testing.TestClient) -> None:
    """A zone like +02:00 arrives as a space from clients that do not encode queries."""
    assert ids(client.simulate_get("/jobs", query_string="created_after=2026-01-01T00:00:00+02:00")) == []


def test_a_page_of_large_jobs_is_cut(
    client: testing.TestClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page ends early where its jobs are large, and the next page goes on there."""
    monkeypatch.setattr(job_lists, "PAGE_MAX_BYTES", 1000)
    made = [make_job(queue="noop", payload={"text": "x" * 600}).id for _ in range(4)]
    found = pages(client, "queue=noop")
    assert len(found) > 1
    assert [job_id for page in found for job_id in page] == made[::-1]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param("queue=noop", "jobs_queue_id_idx", id="queue"),
        pytest.param("queue=rare", "jobs_queue_id_idx", id="rare queue"),
        pytest.param("status=queued", "jobs_pkey|ready_jobs_pkey", id="queued"),
        pytest.param("status=failed", "jobs_rare_idx", id="failed"),
        pytest.param("queue=noop&status=failed", "jobs_rare_queue_idx", id="failed of a queue"),
        pytest.param("type=noop&status=failed", "jobs_rare_type_idx", id="failed of a type"),
        pytest.param("type=noop", "jobs_pkey", id="type"),
        pytest.param("type=absent", "jobs_pkey", id="absent type"),
        pytest.param("tag=all&queue=rare", "job_tags_queue_idx", id="tag in a queue"),
        pytest.param("fingerprint=0123456789abcdef", "jobs_failure_idx", id="fingerprint"),
        pytest.param("status=running", "running_jobs_pkey", id="running"),
        pytest.param("created_after=2020-01-01T00:00:00Z", "jobs_pkey", id="time"),
    ],
)
def test_no_list_reads_the_whole_table(
    client: testing.TestClient, database: Database, query: str, index: str
) -> None:
    """With 20,000 jobs each list walks its index, also when PostgreSQL has never counted them."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, rank, finished_at) "
            "SELECT CASE WHEN n %% 5000 = 0 THEN 'rare' ELSE 'noop' END, 'noop', "
            "CASE WHEN n %% 1000 = 0 THEN 'failed' WHEN n %% 3 = 0 THEN 'completed' ELSE 'queued' END, '{}', "
            "now(), CASE WHEN n %% 1000 = 0 OR n %% 3 = 0 THEN now() END FROM generate_series(1, 20000) AS n"
        )
        connection.exec_driver_sql(
            "INSERT INTO job_tags (tag, job_id, queue) SELECT 'all', id, queue FROM jobs"
        )
    plans: list[str] = []
    original = fetch_all

    def explain(connection: Any, sql: str, parameters: Any) -> Any:
        plans.append("\n".join(row[0] for row in original(connection, f"EXPLAIN {sql}", parameters)))
        return original(connection, sql, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_lists, "fetch_all", explain)
        assert client.simulate_get("/jobs", query_string=query).status_code == 200
    assert "Seq Scan" not in plans[0], plans[0]
    assert re.search(index, plans[0]), plans[0]
    # The rows of the page are put in order; what is looked at is not, but for the few that run.
    assert plans[0].count("Sort Key") == (2 if query == "status=running" else 1), plans[0]
