"""Tags: said at the create, shown, searched for, and gone with their jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import cleaning_rows as cleaning
from goqueue.errors import InvalidJobError
from tests.support.engine import process_of
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

NOOP = {"queue": "noop", "payload": {}}
Create = Callable[..., dict[str, Any]]


def pairs(database: Database) -> list[tuple[str, int]]:
    """Every (tag, job) that can be searched for."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT tag, job_id FROM job_tags ORDER BY job_id, tag")
        return [(row[0], row[1]) for row in rows]


def tagged(client: testing.TestClient, tag: str) -> list[int]:
    """The ids of the jobs of a tag."""
    result = client.simulate_get("/jobs", params={"tag": tag})
    assert result.status_code == 200, result.text
    return [job["id"] for job in result.json]


def test_a_job_keeps_its_tags_and_is_found_by_each(client: testing.TestClient, create: Create) -> None:
    """The document has them in their order; a job without has none."""
    job = create(tags=["billing", "größe/é 😀"])
    plain = create()
    assert job["tags"] == ["billing", "größe/é 😀"]
    assert client.simulate_get(f"/jobs/{job['id']}").json["tags"] == job["tags"]
    assert plain["tags"] == []
    assert tagged(client, "billing") == tagged(client, "größe/é 😀") == [job["id"]]
    assert tagged(client, "bill") == []


def test_the_jobs_of_a_batch_and_of_a_chain_have_their_own(
    client: testing.TestClient, database: Database
) -> None:
    """Each job has what it says, also those without a tag between them."""
    jobs = [NOOP | {"tags": ["a"]}, NOOP, NOOP | {"tags": ["a", "b"], "priority": 3}]
    ids = client.simulate_post("/jobs/batch", json={"jobs": jobs}).json["ids"]
    assert pairs(database) == [("a", ids[0]), ("a", ids[2]), ("b", ids[2])]
    chain = NOOP | {"tags": ["c"], "then": [NOOP | {"tags": ["d"]}]}
    document = client.simulate_post("/jobs/create", json=chain).json
    assert tagged(client, "c") == [document["id"]]
    assert tagged(client, "d") == document["then"]


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        pytest.param(["a", "a"], "tags[1]", id="twice"),
        pytest.param([""], "tags[0]", id="empty"),
        pytest.param(["x" * 101], "tags[0]", id="long"),
        pytest.param(["a", "b\n"], "tags[1]", id="control"),
        pytest.param(["\u202e"], "tags[0]", id="not printable"),
        pytest.param([5], "tags[0]", id="number"),
        pytest.param("a", "tags", id="text"),
        pytest.param([str(n) for n in range(21)], "tags", id="many"),
    ],
)
def test_what_is_no_tag_is_refused_by_name(client: testing.TestClient, tags: Any, field: str) -> None:
    """A 400 names the field, alone and in a batch; from Python it is an InvalidJobError with the same."""
    alone = client.simulate_post("/jobs/create", json=NOOP | {"tags": tags})
    assert (alone.status_code, list(alone.json["fields"])) == (400, [field])
    batch = client.simulate_post("/jobs/batch", json={"jobs": [NOOP, NOOP | {"tags": tags}]})
    assert (batch.status_code, list(batch.json["fields"])) == (400, [f"jobs[1].{field}"])
    with pytest.raises(InvalidJobError) as refused:
        goqueue.enqueue(noop_jobs.noop, {}, tags=tags)
    assert list(refused.value.fields) == [field]


def test_tags_are_said_from_python(settings: Settings, database: Database) -> None:
    """In the caller's transaction as well: the job and its tags come together, or not at all."""
    with process_of(settings):

        @goqueue.actor
        def count(number: int) -> None:
            """Do nothing."""

        with database.transaction() as connection:
            job_id = goqueue.enqueue(count, {"number": 1}, tags=["x"], session=connection)
            assert pairs(database) == []
        other = goqueue.enqueue(count, {"number": 1}, tags=("x", "y"))
    assert pairs(database) == [("x", job_id), ("x", other), ("y", other)]


def test_a_replayed_job_keeps_its_tags(
    client: testing.TestClient, create: Create, database: Database
) -> None:
    """A retry is the same job."""
    job = create(tags=["a"])
    client.simulate_post(f"/jobs/{job['id']}/cancel")
    assert client.simulate_post(f"/jobs/{job['id']}/retry").json["tags"] == ["a"]
    assert pairs(database) == [("a", job["id"])]


def test_the_jobs_of_a_schedule_have_its_tags(client: testing.TestClient) -> None:
    """They are kept with the schedule, and each of its jobs is found by them."""
    said = {"name": "nightly", "cron": "0 3 * * *", "queue": "noop", "payload": {}, "tags": ["night"]}
    assert client.simulate_post("/schedules", json=said).json["tags"] == ["night"]
    job = client.simulate_post("/schedules/nightly/run").json
    assert job["tags"] == ["night"]
    assert tagged(client, "night") == [job["id"]]


def test_tags_go_with_their_jobs(make_job: JobFactory, database: Database) -> None:
    """Deleting by age and by id takes the tags of the deleted jobs, and no others."""
    gone, kept = (make_job("completed", tags=["a", "b"]) for _ in range(2))
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO job_tags SELECT unnest(tags), id FROM jobs")
        assert cleaning.delete_final(connection, [gone.id]) == [gone.id]
    assert pairs(database) == [("a", kept.id), ("b", kept.id)]
    with database.autocommit() as connection:
        assert cleaning.delete_completed(connection, age_seconds=0, limit=9).jobs == 1
    assert pairs(database) == []


def test_cleaning_does_not_read_all_tags(database: Database) -> None:
    """With 100,000 tags of other jobs the tags of deleted ones are found by the primary key."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, finished_at, tags) "
            "SELECT 'noop', 'noop', '{}', 'completed', now() - interval '1 day', ARRAY['a', 'b'] "
            "FROM generate_series(1, 1000)"
        )
        connection.exec_driver_sql("INSERT INTO job_tags SELECT unnest(tags), id FROM jobs")
        connection.exec_driver_sql(
            "INSERT INTO job_tags SELECT 'a', n + 1000000 FROM generate_series(1, 100000) AS n"
        )
        connection.exec_driver_sql("ANALYZE jobs")
        connection.exec_driver_sql("ANALYZE job_tags")
        sql = cleaning._DELETE_COMPLETED  # noqa: SLF001  (the plan of this very statement)
        parameters = {"age": 0, "limit": 1000, "after_id": 0, "page": 10_000, "below": 2**40}
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {sql}", parameters).scalars())
    assert "Seq Scan on job_tags" not in plan, plan
    assert "job_tags_pkey" in plan, plan
