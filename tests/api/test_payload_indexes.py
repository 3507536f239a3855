"""Indexes on paths of payloads: asked for over REST, made by the scheduler, used by lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from falcon import testing

from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.engine.listing import payload_index_rows as payload_indexes
from goqueue.engine.listing import walk_rows as job_walks
from goqueue.engine.listing.filters import JobFilter, terms_of
from goqueue.insight.payload_indexer import PayloadIndexer
from tests.api.test_flow_settings import put
from tests.support.database.plans import scans_along_indexes
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LONG = "x" * 300


@pytest.fixture
def indexer(settings: Settings, database: Database) -> Iterator[PayloadIndexer]:
    """The scheduler's role; the indexes that a test has made are dropped after it."""
    yield PayloadIndexer(settings, database, lambda _seconds: None)
    with database.autocommit() as connection:
        for name in index_names(database):
            connection.exec_driver_sql(f'DROP INDEX "{name}"')


def index_names(database: Database) -> list[str]:
    """The indexes on payloads that PostgreSQL has."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            r"SELECT indexname FROM pg_indexes WHERE indexname LIKE 'jobs\_payload\_%%'"
        )
        return [row[0] for row in rows]


def insert(database: Database, *payloads: str, job_type: str = "noop") -> list[int]:
    """Jobs of a type with these payloads, as JSON; their ids."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, rank) "
            "SELECT 'noop', %(type)s, unnest(%(payloads)s::text[])::json, now() RETURNING id",
            {"type": job_type, "payloads": list(payloads)},
        )
        return [row[0] for row in rows]


def work(indexer: PayloadIndexer) -> None:
    """Let the scheduler do all that is due."""
    while indexer.run_once()["working"]:
        indexer.wait(30)


def states(client: testing.TestClient) -> dict[str, str]:
    """The indexes of the type, as REST tells them."""
    return {index["path"]: index["state"] for index in client.simulate_get("/types/noop").json["indexed"]}


def found(client: testing.TestClient, payload: str) -> tuple[list[int], int]:
    """The ids of a list of the type by a payload, and how many jobs were looked at for it."""
    result = client.simulate_get("/jobs", params={"type": "noop", "payload": payload})
    assert result.status_code == 200, result.text
    return [job["id"] for job in result.json], int(result.headers["jobs-searched"])


def test_a_path_is_indexed_and_given_up_again(
    client: testing.TestClient, database: Database, indexer: PayloadIndexer
) -> None:
    """The index is asked for, building, ready and used; when it is taken back, it is dropped."""
    made = insert(database, *(f'{{"customer_id": {number % 100}}}' for number in range(1000)))
    put(client, "/types/noop", indexed=["customer_id"])
    assert states(client) == {"customer_id": "building"}
    assert found(client, "customer_id:42") == (made[942::-100], 1000)
    work(indexer)
    assert states(client) == {"customer_id": "ready"}
    assert found(client, "customer_id:42") == (made[942::-100], 10)
    put(client, "/types/noop", concurrency=2)
    assert states(client) == {"customer_id": "ready"}
    put(client, "/types/noop", indexed=None)
    assert states(client) == {"customer_id": "dropping"}
    work(indexer)
    assert (states(client), index_names(database)) == ({}, [])
    assert found(client, "customer_id:42") == (made[942::-100], 1000)


def test_the_page_of_the_type_tells_of_its_indexes(
    database: Database, indexer: PayloadIndexer, client: testing.TestClient
) -> None:
    """One that cannot be made has failed, with what PostgreSQL said, and can be asked for again."""
    # No door lets this in; PostgreSQL has no text for it.
    insert(database, r'{"name": "a\u0000b"}')
    put(client, "/types/noop", indexed=["name"])
    work(indexer)
    (index,) = client.simulate_get("/types/noop").json["indexed"]
    assert (index["path"], index["state"]) == ("name", "failed")
    assert "Unicode" in index["error"]
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    put(client, "/types/noop", indexed=["name"])
    work(indexer)
    assert states(client) == {"name": "ready"}


@pytest.mark.parametrize(
    ("payload", "places"),
    [
        pytest.param(f"note:{LONG}a", [0], id="long"),
        pytest.param(f"note:{LONG}", [], id="beginning of a long one"),
        pytest.param("note:1", [3, 2], id="number and text"),
        pytest.param("note:null", [4], id="null"),
        pytest.param("address.country:DE", [5], id="path"),
        pytest.param("note:it's 100%", [6], id="quotes"),
    ],
)
def test_an_index_changes_no_answer(
    client: testing.TestClient, database: Database, indexer: PayloadIndexer, payload: str, places: list[int]
) -> None:
    """What is found with the index is what is found without it."""
    made = insert(
        database,
        f'{{"note": "{LONG}a"}}',
        f'{{"note": "{LONG}b"}}',
        '{"note": 1}',
        '{"note": "1"}',
        '{"note": null}',
        '{"address": {"country": "DE"}}',
        '{"note": "it\'s 100%"}',
    )
    insert(database, '{"note": 1}', job_type="other")
    before = found(client, payload)[0]
    put(client, "/types/noop", indexed=["note", "address.country"])
    work(indexer)
    assert found(client, payload)[0] == before == [made[place] for place in places]


def test_a_build_that_was_cut_off_is_begun_anew(
    client: testing.TestClient, database: Database, indexer: PayloadIndexer
) -> None:
    """What PostgreSQL left behind is no index; one that was made and not noted is kept."""
    insert(database, '{"customer_id": 1}')
    put(client, "/types/noop", indexed=["customer_id"])
    with database.autocommit() as connection:
        (index,) = payload_indexes.all_of(connection)
        connection.exec_driver_sql(f"CREATE INDEX {index.name} ON jobs (id)")
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %(name)s::regclass",
            {"name": index.name},
        )
    work(indexer)
    assert states(client) == {"customer_id": "ready"}
    assert found(client, "customer_id:1")[1] == 1
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE payload_indexes SET state = 'building'")
        before = oid_of(connection, index.name)
    work(indexer)
    with database.autocommit() as connection:
        assert oid_of(connection, index.name) == before
    assert states(client) == {"customer_id": "ready"}


def oid_of(connection: Any, name: str) -> int:
    """The number of an index: one that is made anew has another."""
    return int(connection.exec_driver_sql(f"SELECT '{name}'::regclass::oid").scalar_one())


def test_a_list_reads_what_it_finds(
    client: testing.TestClient, database: Database, indexer: PayloadIndexer
) -> None:
    """Of 20,000 jobs of the type the statement reads those with the value, along the index, either way."""
    insert(database, *(f'{{"customer_id": {number % 1000}}}' for number in range(20_000)))
    put(client, "/types/noop", indexed=["customer_id"])
    work(indexer)
    with database.transaction() as connection:
        bounded_reads.along_indexes(connection)
        terms = terms_of(connection, JobFilter(type="noop", payload="customer_id:42"))
        for order in (terms.newest_first, terms.oldest_first):
            sql = job_walks._STEP.format(  # noqa: SLF001  (the plan of this very statement)
                fits=" AND ".join(terms.conditions), source=terms.source, range=terms.range, order=order
            )
            read, _ = scans_along_indexes(connection, sql, terms.between(0, 2**62) | {"look": 500}, {"jobs"})
            assert read == 20


@pytest.mark.parametrize(
    "indexed",
    [
        pytest.param(["a b"], id="no path"),
        pytest.param(["a."], id="half a path"),
        pytest.param(["a'b"], id="quote"),
        pytest.param([f"p{number}" for number in range(6)], id="too many"),
        pytest.param("customer_id", id="no list"),
    ],
)
def test_a_wrong_path_is_refused(client: testing.TestClient, indexed: Any) -> None:
    """Nothing that cannot be searched for is indexed."""
    assert "indexed" in str(put(client, "/types/noop", 400, indexed=indexed)["fields"])
