"""The dispatcher's questions: the order among ready rows, and what answering costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine

from goqueue.config.settings import Settings
from goqueue.contents.contents import JobContents
from goqueue.db.callers_transaction import joined
from goqueue.db.database import Database
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.ready_rows import Wanted
from goqueue.engine.runnable_rows import able_parameter
from goqueue.jobs import QUARANTINE_QUEUE, NewJob
from tests.support.database.plans import nodes
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

ROWS = 100_000


def ready(database: Database, **counts: int) -> list[tuple[str, int]]:
    """The (queue, id) of the next ready rows."""
    with database.autocommit() as connection:
        rows = ready_store.next_ready(connection, {name: Wanted(count) for name, count in counts.items()})
    return [(row.queue, row.id) for row in rows]


def create(database: Database, queue: str = "a", **values: Any) -> int:
    """A new job, as the API makes it."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, [queue])
        job = NewJob(queue, "t", "{}", **values)
        return new_job_store.insert(connection, job).id


def shift(database: Database, job_id: int, seconds: float) -> None:
    """Make a ready job older."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET rank = rank - make_interval(secs => %(s)s) WHERE id = %(id)s",
            {"s": seconds, "id": job_id},
        )


def test_equal_jobs_are_first_come_first_served(database: Database) -> None:
    """Jobs of one priority start in the order of their creation."""
    ids = [create(database) for _ in range(5)]
    assert ready(database, a=9) == [("a", job_id) for job_id in ids]


def test_priority_is_a_head_start_and_nothing_starves(database: Database) -> None:
    """One step of priority is worth a minute of waiting: it overtakes younger jobs, not older ones."""
    plain, low, high, top = (create(database, priority=step) for step in (0, -1, 1, 100))
    assert ready(database, a=9) == [("a", top), ("a", high), ("a", plain), ("a", low)]
    shift(database, low, 180)
    assert ready(database, a=9) == [("a", top), ("a", low), ("a", high), ("a", plain)]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("is_joined", [False, True], ids=["of the pool", "of an application"])
def test_each_connection_has_the_head_start_of_its_settings(settings: Settings, is_joined: bool) -> None:
    """Two databases in one process, with other head starts, do not learn of each other."""
    url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    job = NewJob("a", "t", "{}", priority=2)
    for seconds in (7.0, 11.0):
        own = settings.model_copy(update={"priority_head_start_seconds": seconds})
        engine = create_engine(url) if is_joined else Database(own).engine
        with engine.connect() as connection:
            used = joined(connection, own, JobContents()) if is_joined else connection
            job_id = new_job_store.insert(used, job).id
            asked = "SELECT extract(epoch FROM created_at - rank)::float FROM jobs WHERE id = %(id)s"
            assert connection.exec_driver_sql(asked, {"id": job_id}).scalar() == 2 * seconds
        engine.dispose()


def test_a_run_at_is_not_in_the_order_before_its_time(database: Database) -> None:
    """A job for later waits outside the order, whatever its priority; when due, it ranks by its own time."""
    later = create(database, available_at=datetime(2999, 1, 1, tzinfo=UTC), priority=100)
    now = create(database)
    with database.autocommit() as connection:
        assert ready_store.make_due(connection) == 0
        assert ready(database, a=9) == [("a", now)]
        connection.exec_driver_sql(
            "UPDATE jobs SET available_at = now() - interval '1 second', priority = 2 WHERE id = %(id)s",
            {"id": later},
        )
        assert ready_store.make_due(connection) == 1
        assert ready_store.make_due(connection) == 0
        rank = "SELECT rank = available_at - interval '2 minutes' FROM jobs WHERE id = %(id)s"
        assert connection.exec_driver_sql(rank, {"id": later}).scalar()
    assert ready(database, a=9) == [("a", later), ("a", now)]


def test_a_past_run_at_is_ready_at_once(database: Database) -> None:
    """A job whose time is past when it is created ranks by that time."""
    now = create(database)
    past = create(database, available_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert ready(database, a=9) == [("a", past), ("a", now)]


def test_make_due_is_bounded_and_takes_the_oldest(make_job: JobFactory, database: Database) -> None:
    """One statement makes at most its limit due, the longest waiting first."""
    times = [datetime(2020, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
    jobs = [make_job(queue="a", available_at=time) for time in times]
    with database.autocommit() as connection:
        assert ready_store.make_due(connection, limit=2) == 2
    assert ready(database, a=9) == [("a", jobs[1].id), ("a", jobs[2].id)]


def test_each_queue_has_its_own_limit(database: Database) -> None:
    """At most the wanted number comes back for a queue; a queue that is not asked for stays out."""
    a = [create(database, "a") for _ in range(3)]
    b = [create(database, "b") for _ in range(3)]
    create(database, "c")
    assert ready(database, a=2, b=9) == [("a", i) for i in a[:2]] + [("b", i) for i in b]
    assert ready(database, a=0, missing=5) == []
    assert ready(database) == []


def test_the_next_rows_are_behind_the_last(database: Database) -> None:
    """Reading goes on behind a (rank, id), without repeats and without gaps, equal ranks included."""
    ids = [create(database) for _ in range(7)]
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET rank = '2020-01-01'")
        seen: list[int] = []
        behind = None
        while rows := ready_store.next_ready(connection, {"a": Wanted(3, behind)}):
            seen += [row.id for row in rows]
            behind = (rows[-1].rank, rows[-1].id)
    assert seen == ids


@pytest.mark.parametrize(
    ("status", "columns"),
    [
        pytest.param("running", {}, id="running"),
        pytest.param("completed", {}, id="completed"),
        pytest.param("blocked", {}, id="blocked"),
        pytest.param("queued", {"rank": None}, id="waiting"),
        pytest.param("queued", {"quarantined": True}, id="suspect"),
        pytest.param("queued", {"queue": "paused"}, id="paused"),
    ],
)
def test_what_is_not_ready_is_absent(
    make_job: JobFactory, database: Database, status: str, columns: dict[str, Any]
) -> None:
    """Only queued, due, unsuspected rows of queues that are not paused are ready."""
    job = make_job(status, **{"queue": "a", **columns})
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["paused"])
        queue_store.pause(connection, "paused")
    assert ready(database, **{job.queue: 9}) == []


def test_suspects_come_apart_by_rank(make_job: JobFactory, database: Database) -> None:
    """Suspects of all queues that are not paused wait in one order of their own."""
    first = make_job(queue="a", quarantined=True, suspicion=2)
    second = make_job(queue="b", quarantined=True, suspicion=2)
    make_job(queue="paused", quarantined=True, suspicion=2)
    make_job(queue="a")
    make_job(queue="a", quarantined=True, suspicion=1)
    with database.autocommit() as connection:
        queue_store.pause(connection, "paused")
        rows = ready_store.next_quarantined(connection, 9)
        assert [(row.queue, row.id) for row in rows] == [("a", first.id), ("b", second.id)]
        assert len(ready_store.next_quarantined(connection, 1)) == 1


def test_suspects_beside_others_come_by_their_queues(make_job: JobFactory, database: Database) -> None:
    """Each queue that is not paused has its own, by rank: those of one hide none of another."""
    first, second = (make_job(queue="a", quarantined=True, suspicion=1) for _ in range(2))
    other = make_job(queue="b", quarantined=True, suspicion=1)
    make_job(queue="paused", quarantined=True, suspicion=1)
    make_job(queue="b", quarantined=True, suspicion=2)
    with database.autocommit() as connection:
        queue_store.pause(connection, "paused")
        rows = ready_store.next_suspects(connection, 9)
        assert [(row.queue, row.id) for row in rows] == [("a", first.id), ("a", second.id), ("b", other.id)]
        assert [row.id for row in ready_store.next_suspects(connection, 1)] == [first.id, other.id]


@pytest.fixture
def backlog(database: Database) -> Database:
    """A hundred thousand rows: most ready in one queue, some waiting, some suspects, many finished."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["a", "b"])
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, available_at, rank, quarantined, finished_at) "
            "SELECT CASE WHEN mod(n, 100) = 0 THEN 'b' ELSE 'a' END, 't', '{}', "
            "CASE WHEN mod(n, 3) = 0 THEN 'completed' ELSE 'queued' END, "
            "now() - make_interval(secs => mod(n, 1000)) "
            "+ CASE WHEN mod(n, 7) = 0 THEN interval '1 day' ELSE '0' END, "
            "CASE WHEN mod(n, 7) > 0 THEN now() - make_interval(secs => mod(n, 1000)) END, mod(n, 5000) = 1, "
            "CASE WHEN mod(n, 3) = 0 THEN now() END FROM generate_series(1, %(rows)s) AS n",
            {"rows": ROWS},
        )
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
    return database


QUERIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "next ready": (
        ready_store._NEXT_READY,  # noqa: SLF001  (the plan of this very statement)
        {
            "wanted": '[{"queue":"a","count":100,"rank":"-infinity","id":0},'
            '{"queue":"b","count":100,"rank":"-infinity","id":0}]'
        },
        "ready_jobs_pkey",
    ),
    "suspects that run alone": (
        ready_store._NEXT_QUARANTINED,  # noqa: SLF001  (the plan of this very statement)
        {"limit": 10, "is_known": True, **able_parameter({QUARANTINE_QUEUE: [KnownTypes({"noop": "1"})]})},
        "jobs_suspect_idx",
    ),
    "suspects beside others": (
        ready_store._NEXT_SUSPECTS,  # noqa: SLF001  (the plan of this very statement)
        {"limit": 10, "sorted": ["a"], **able_parameter({"a": [KnownTypes({"noop": "1"})]})},
        "jobs_suspect_queue_idx",
    ),
    "make due": (
        ready_store._MAKE_DUE,  # noqa: SLF001  (the plan of this very statement)
        {"limit": 100, "head_start": 60.0, "after": "-infinity"},
        "jobs_later_idx",
    ),
}


def test_questions_are_answered_from_their_indexes(backlog: Database) -> None:
    """With 100,000 rows each question descends its partial index, and touches few pages."""
    for name, (sql, parameters, index) in QUERIES.items():
        with backlog.autocommit() as connection:
            (plans,) = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", parameters
            ).one()
        found = nodes(plans[0]["Plan"])
        scans = {node["Index Name"] for node in found if "Index Name" in node}
        assert index in scans, name
        assert not [n for n in found if n["Node Type"] == "Seq Scan" and n["Relation Name"] == "jobs"], name
        root = plans[0]["Plan"]
        assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 1000, name


def test_a_deep_frontier_costs_no_more_than_the_first_row(backlog: Database) -> None:
    """Reading on from the middle of the backlog starts there, instead of walking over what was read."""
    with backlog.autocommit() as connection:
        rank, job_id = connection.exec_driver_sql(
            "SELECT rank, id FROM jobs WHERE queue = 'a' AND status = 'queued' AND rank IS NOT NULL "
            "AND NOT quarantined ORDER BY rank, id OFFSET 40000 LIMIT 1"
        ).one()
        wanted = f'[{{"queue":"a","count":100,"rank":"{rank.isoformat()}","id":{job_id}}}]'
        sql = ready_store._NEXT_READY  # noqa: SLF001  (the plan of this very statement)
        (plans,) = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", {"wanted": wanted}
        ).one()
    root = plans[0]["Plan"]
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 700
