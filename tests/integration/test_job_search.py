"""Jobs by tag, payload and error: exactly those, and never the whole table at once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import orjson
import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk import operations as bulk
from goqueue.bulk.actions import BulkAction
from goqueue.bulk.operation_rows import NewBulkOperation
from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing import preview_rows, range_rows
from goqueue.engine.listing import walk_rows as job_walks
from goqueue.engine.listing.filters import JobFilter, terms_of
from goqueue.engine.listing.job_search import PayloadMatch, parse_payload, parse_search, written
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import JobStatus
from tests.support.database.plans import nodes, scans_along_indexes
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

STATUSES = ["queued", "completed", "failed", "cancelled"]
JOBS = 600


class Row(dict[str, Any]):
    """A job as the test knows it."""

    def fits(self, wanted: JobFilter) -> bool:
        """What a filter means, said once more in Python."""
        same = all(getattr(wanted, name) in {None, self[name]} for name in ("queue", "type", "status"))
        tag = wanted.tag is None or wanted.tag in self["tags"]
        error = wanted.error is None or wanted.error.lower() in (self["error"] or "").lower()
        return same and tag and error and self._payload_fits(wanted.payload)

    def _payload_fits(self, said: str | None) -> bool:
        if said is None:
            return True
        path, text = parse_payload(said)
        if not path:
            return text in orjson.dumps(self["payload"]).decode()
        value: Any = self["payload"]
        for name in path:
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
        return text == (value if isinstance(value, str) else orjson.dumps(value).decode())


@pytest.fixture
def rows(database: Database) -> list[Row]:
    """Jobs of all kinds, the oldest first."""
    chance = random.Random(7)
    made = [
        Row(
            queue=chance.choice(["a", "b"]),
            type=chance.choice(["x", "y"]),
            status=chance.choice(STATUSES),
            tags=chance.sample(["red", "green", "blue"], chance.randint(0, 3)),
            error=chance.choice([None, "Timed OUT after 3 s", "no route"]),
            payload={
                "user_id": chance.randint(1, 5),
                "user": {"country": chance.choice(["DE", "FR", None, True])},
                "note": chance.choice(['it\'s 100% "fine"', "user_id:4", "ünïcode"]),
            },
        )
        for _ in range(JOBS)
    ]
    insert_rows(database, made)
    return made


def insert_rows(database: Database, made: list[Row]) -> None:
    """Insert jobs, and learn their ids."""
    with database.transaction() as connection:
        found = connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, error, tags, finished_at, rank) "
            "SELECT queue, type, status, payload, error, nullif(tags, '{}'), "
            "CASE WHEN status <> 'queued' THEN now() END, "
            # Of the queued ones some wait for their time.
            "CASE WHEN status = 'queued' AND error IS NULL THEN now() END "
            "FROM json_to_recordset(%(rows)s::json) AS row (queue text, type text, status text, "
            "payload json, error text, tags text[]) RETURNING id",
            {"rows": orjson.dumps([dict(row) for row in made]).decode()},
        ).scalars()
        for row, job_id in zip(made, found, strict=True):
            row["id"] = job_id
        connection.exec_driver_sql("INSERT INTO job_tags SELECT unnest(tags), id FROM jobs")


FILTERS = [
    JobFilter(tag="red"),
    JobFilter(tag="red", queue="a", status=JobStatus.FAILED),
    JobFilter(tag="none"),
    JobFilter(payload="user_id:4"),
    JobFilter(payload='"user_id:4"'),
    JobFilter(payload="user.country:DE", queue="b"),
    JobFilter(payload="user.country:null"),
    JobFilter(payload="user.country:true", status=JobStatus.QUEUED),
    JobFilter(payload="user.city:DE"),
    JobFilter(payload='note:it\'s 100% "fine"'),
    JobFilter(payload="ünï", type="x", tag="blue"),
    JobFilter(error="timed out"),
    JobFilter(error="%"),
    JobFilter(error="OUT after", payload="user_id:1", status=JobStatus.CANCELLED),
    JobFilter(type="y", status=JobStatus.COMPLETED),
]


@pytest.mark.parametrize("look", [1, 7, 100_000])
def test_a_search_finds_exactly_what_fits(
    database: Database, rows: list[Row], monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    """Whatever a look is bounded to, all pages together are what a look at every row finds, in its order."""
    monkeypatch.setattr(job_walks, "LOOK_MAX", 40 * look)
    monkeypatch.setattr(job_walks, "FIRST_STEP", look)
    for wanted, newest_first in itertools.product(FILTERS, [True, False]):
        expected = [row["id"] for row in rows if row.fits(wanted)]
        assert found(database, wanted, newest_first=newest_first) == expected[:: -1 if newest_first else 1]


def found(database: Database, wanted: JobFilter, *, newest_first: bool, limit: int = 10) -> list[int]:
    """The ids of all pages of a search."""
    ids: list[int] = []
    above, below = 0, 2**62
    with database.autocommit() as connection:
        while True:
            walk = job_walks.walk(
                connection, wanted, limit=limit, above=above, below=below, newest_first=newest_first
            )
            assert len(walk.ids) <= limit
            ids += walk.ids
            if walk.reached is None:
                return ids
            above, below = (above, walk.reached) if newest_first else (walk.reached, below)


def test_chunks_of_many_find_exactly_what_fits(
    database: Database, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a bulk operation does step by step is what fits, once each."""
    monkeypatch.setattr(job_walks, "LOOK_MAX", 50)
    for wanted in FILTERS:
        ids: list[int] = []
        after = 0
        with database.autocommit() as connection:
            up_to = job_lists.newest_id(connection)
            while after < up_to:
                chunk, after = job_lists.chunk(connection, wanted, after_id=after, up_to_id=up_to, limit=20)
                ids += chunk
        assert ids == [row["id"] for row in rows if row.fits(wanted)], wanted


def every_filter() -> list[JobFilter]:
    """Each combination of what an index knows."""
    values = [None, "a"], [None, "x"], [None, *map(JobStatus, STATUSES)], [None, "red", "none"]
    return [
        JobFilter(queue=queue, type=kind, status=status, tag=tag)
        for queue, kind, status, tag in itertools.product(*values)
    ]


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("names_queues", [False, True], ids=["tags of before", "tags with queues"])
def test_every_list_finds_exactly_what_fits(
    database: Database, rows: list[Row], monkeypatch: pytest.MonkeyPatch, few: int, *, names_queues: bool
) -> None:
    """Whichever index is the shortest, lists, chunks and counts agree with a look at every row."""
    monkeypatch.setattr(range_rows, "FEW", few)
    monkeypatch.setattr(job_walks, "LOOK_MAX", 30)
    monkeypatch.setattr(job_lists, "DENSE_LOOK_MAX", 30)
    with database.autocommit() as connection:
        if names_queues:
            connection.exec_driver_sql(
                "UPDATE job_tags SET queue = jobs.queue FROM jobs WHERE jobs.id = job_tags.job_id"
            )
        up_to = job_lists.newest_id(connection)
        for wanted in every_filter():
            expected = [row["id"] for row in rows if row.fits(wanted)]
            assert listed(connection, wanted) == expected[::-1], wanted
            chunk = job_lists.chunk(connection, wanted, after_id=0, up_to_id=up_to, limit=20)
            assert chunk.ids == expected[:20], wanted
            assert job_lists.count(connection, wanted, up_to_id=up_to) == len(expected), wanted
            sighted = preview_rows.look(connection, wanted, up_to_id=up_to, limit=20)
            assert (sighted.total, sighted.exact) == (len(expected), True), wanted
            assert set(sighted.ids) <= set(expected), wanted


def listed(connection: Connection, wanted: JobFilter, limit: int = 10) -> list[int]:
    """The ids of all pages of a list."""
    ids: list[int] = []
    before_id: int | None = None
    while True:
        found = job_lists.search(connection, wanted, limit=limit, before_id=before_id)
        assert len(found.jobs) <= limit
        ids += [job.id for job in found.jobs]
        before_id = found.next_before
        if before_id is None:
            return ids


def test_a_list_of_the_api_goes_on_where_it_stopped(
    settings: Settings,
    database: Database,
    runway: Runway,
    rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty page may have a next one; the header says how many rows were looked at."""
    monkeypatch.setattr(job_walks, "LOOK_MAX", 30)
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    query: str | None = "payload=user.country:FR&limit=5&queue=a"
    ids: list[int] = []
    while query:
        result = client.simulate_get("/jobs", query_string=query)
        assert result.status_code == 200, result.text
        assert 0 < int(result.headers["Jobs-Searched"]) <= 30
        ids += [job["id"] for job in result.json]
        link = result.headers.get("Link", "")
        query = link.partition("?")[2].partition(">")[0] or None
    wanted = JobFilter(queue="a", payload="user.country:FR")
    assert ids == [row["id"] for row in rows if row.fits(wanted)][::-1]


@pytest.mark.parametrize(
    ("wanted", "tables"),
    [
        pytest.param(JobFilter(tag="rare"), {"job_tags", "jobs"}, id="rare tag"),
        pytest.param(JobFilter(tag="common"), {"job_tags", "jobs"}, id="common tag"),
        pytest.param(JobFilter(payload="user_id:77"), {"jobs"}, id="payload"),
        pytest.param(JobFilter(error="nothing"), {"jobs"}, id="error"),
        pytest.param(JobFilter(queue="noop", payload="nothing"), {"jobs"}, id="payload in a queue"),
        pytest.param(JobFilter(status=JobStatus.FAILED, error="nothing"), {"jobs"}, id="error in a status"),
        pytest.param(JobFilter(type="absent"), {"jobs"}, id="absent type"),
        pytest.param(
            JobFilter(status=JobStatus.QUEUED, tag="common"), {"job_tags", "jobs"}, id="tag in a status"
        ),
    ],
)
def test_a_look_reads_no_more_than_it_says(database: Database, wanted: JobFilter, tables: set[str]) -> None:
    """With 20,000 jobs a step of 500 reads 500 rows of each table, along indexes, in either direction."""
    with database.autocommit() as connection:
        fill(connection)
        terms = terms_of(connection, wanted)
        for order in (terms.newest_first, terms.oldest_first):
            sql = job_walks._STEP.format(  # noqa: SLF001  (the plan of this very statement)
                fits=" AND ".join(terms.conditions) or "true",
                source=terms.source,
                range=terms.range,
                order=order,
            )
            read, _ = scans_along_indexes(connection, sql, terms.between(0, 2**62) | {"look": 500}, tables)
            assert read <= 500 * len(tables)


def test_running_jobs_are_found_by_their_own_index(database: Database) -> None:
    """Also by a plan that is kept for any two ids: the ids of all jobs are not read for the few that run."""
    with database.autocommit() as connection:
        fill(connection)
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'running' WHERE id %% 1000 = 1 AND status = 'queued'"
        )
        connection.exec_driver_sql("ANALYZE jobs")
        terms = terms_of(connection, JobFilter(status=JobStatus.RUNNING))
        sql = job_walks._STEP.format(  # noqa: SLF001  (the plan of this very statement)
            fits="true", source=terms.source, range=terms.range, order=terms.newest_first
        )
        for name in ("above", "below", "look"):
            sql = sql.replace(f"%({name})s", {"above": "$1", "below": "$2", "look": "$3"}[name])
        connection.exec_driver_sql(f"PREPARE walk (bigint, bigint, bigint) AS {sql}")
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        explained = connection.exec_driver_sql(
            "EXPLAIN (FORMAT JSON) EXECUTE walk (0, 9223372036854775807, 51)"
        ).scalar_one()
        connection.exec_driver_sql("RESET plan_cache_mode")
        connection.exec_driver_sql("DEALLOCATE walk")
    indexes = {node["Index Name"] for node in nodes(explained[0]["Plan"]) if "Index Name" in node}
    assert indexes == {"jobs_pkey", "running_jobs_pkey"}
    with database.autocommit() as connection:
        assert len(job_walks.walk(connection, JobFilter(status=JobStatus.RUNNING), limit=50).ids) == 20


def fill(connection: Connection) -> None:
    """Insert many jobs, a tenth of them failed, with a common and a rare tag."""
    connection.exec_driver_sql(
        "INSERT INTO jobs (queue, type, status, payload, rank, finished_at, tags) "
        "SELECT 'noop', 'noop', CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'queued' END, "
        "'{\"user_id\": 5}', now(), CASE WHEN n %% 10 = 0 THEN now() END, "
        "CASE WHEN n %% 5000 = 0 THEN ARRAY['common', 'rare'] ELSE ARRAY['common'] END "
        "FROM generate_series(1, 20000) AS n"
    )
    connection.exec_driver_sql("INSERT INTO job_tags SELECT unnest(tags), id FROM jobs")
    connection.exec_driver_sql("ANALYZE jobs")
    connection.exec_driver_sql("ANALYZE job_tags")


def test_an_operation_over_a_search_finds_all_of_it(
    settings: Settings, database: Database, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run counts what a bounded look finds; the operation goes on to the end."""
    monkeypatch.setattr(job_walks, "LOOK_MAX", 25)
    wanted = JobFilter(payload="user_id:4", status=JobStatus.FAILED)
    new = NewBulkOperation(BulkAction.RETRY, wanted)
    preview = bulk.preview(database, new)
    fitting = [row for row in rows if row.fits(wanted)]
    assert not preview.exact
    assert 0 < preview.total < len(fitting)
    operation_id = bulk.start(database, new).id
    operator = BulkOperator(settings, database, lambda _seconds: None)
    while operator.run_once()["operations"]:
        pass
    with database.autocommit() as connection:
        operation = bulk_store.get(connection, operation_id)
        assert not job_lists.page(connection, wanted, limit=1)[0]
    assert (operation.filter, operation.changed) == (wanted, len(fitting))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue:email type:send_email", {"queue": "email", "type": "send_email"}),
        ("payload.user_id:42", {"payload": "user_id:42"}),
        ('payload.user.name:"Ann B"', {"payload": "user.name:Ann B"}),
        ('error:"timed out" tag:billing', {"error": "timed out", "tag": "billing"}),
        ("status:failed some words", {"status": "failed", "payload": '"some words"'}),
        ('"http://x"', {"payload": '"http://x"'}),
        ("http://x", {"payload": '"http://x"'}),
        ("", {}),
    ],
)
def test_a_search_text_is_read(text: str, expected: dict[str, str]) -> None:
    """Names before a colon are filters, everything else is looked for in the payload's text."""
    assert parse_search(text).fields == expected


def test_a_number_alone_is_a_job() -> None:
    """In quotes it is a text."""
    assert parse_search(" 42 ").job_id == 42
    assert parse_search('"42"') == (None, {"payload": '"42"'}, None)


@pytest.mark.parametrize("text", ["payload.a:1 payload.b:2", "payload.a:1 word", "status:lost"])
def test_what_cannot_be_searched_is_said(text: str) -> None:
    """Two payloads at once, or a status that there is not."""
    assert parse_search(text).problem is not None


@pytest.mark.parametrize(
    "payload",
    ["user.country:DE", 'n:it\'s "5" \\ 6', '"a "b"', '"user:4"', "a b", "x:1 2", '"4"', "word", "a:4"],
)
def test_a_search_is_written_as_it_is_read(payload: str) -> None:
    """What the search field shows finds the same again."""
    read = parse_search(written(payload=payload, error="e f")).fields
    assert parse_payload(read["payload"]) == parse_payload(payload)
    assert read["error"] == "e f"


def test_what_is_in_quotes_is_text() -> None:
    """A colon in it is no path."""
    assert parse_payload('"a:b"') == PayloadMatch((), "a:b")
    assert parse_payload("a:b") == PayloadMatch(("a",), "b")
