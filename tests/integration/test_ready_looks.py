"""Looks at ready and due rows while a transaction that stays open holds back vacuum."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch import ready_looks
from goqueue.dispatch.ready_looks import DueLooks, LookTurns, ReadyLooks
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.ready_rows import Wanted
from goqueue.jobs import NewJob
from tests.support.factories import set_status
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

HEAD_START = 60.0
DEAD = 20_000


@pytest.fixture(autouse=True)
def every_look_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look sets marks, and after the first of a queue none is a full one until the turn is ended."""
    monkeypatch.setattr(ready_looks, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(ready_looks, "FULL_LOOK_SHARE", 1e-9)


@pytest.fixture
def held_horizon(settings: Settings) -> Iterator[None]:
    """A transaction that looked before anything happened, and stays open."""
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM jobs LIMIT 1")
        yield
        connection.rollback()


def create(database: Database, queue: str = "a", **values: Any) -> int:
    """A new job, as the API makes it."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, [queue])
        job = NewJob(queue, "t", "{}", **values)
        return new_job_store.insert(connection, job).id


def execute(database: Database, statement: str, *parameters: Any) -> None:
    """Run a statement."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(statement, parameters)


def look(looks: ReadyLooks, database: Database, count: int = 100, queue: str = "a") -> list[int]:
    """The ids that a look from the first row on finds."""
    with database.autocommit() as connection:
        return [row.id for row in looks.read(connection, {queue: Wanted(count)}).get(queue, [])]


def end_turn(looks: ReadyLooks) -> None:
    """Make the next look a full one."""
    looks._turns._ends_at = 0.0  # noqa: SLF001  (a clock that went on)


@pytest.mark.usefixtures("held_horizon")
def test_a_mark_keeps_looks_from_walking_what_is_done(database: Database) -> None:
    """Under a held horizon a full look walks the dead entries, and one from a mark touches a few pages."""
    execute(database, "INSERT INTO queues (name) VALUES ('a') ON CONFLICT DO NOTHING")
    execute(
        database,
        "INSERT INTO jobs (queue, type, payload, rank) "
        "SELECT 'a', 't', '{}', now() - interval '1 minute' FROM generate_series(1, %s)",
        DEAD,
    )
    execute(database, "UPDATE jobs SET status = 'completed', finished_at = now()")
    job = create(database)
    looks = ReadyLooks()
    assert look(looks, database) == [job]
    mark = looks._marks["a"]  # noqa: SLF001  (how far a look goes is told nowhere)
    assert pages(database, ready_store._NEXT_READY, wanted=[wanted_record("-infinity", 0)]) > DEAD / 100  # noqa: SLF001  (the plan of this very statement)
    assert pages(database, ready_store._NEXT_READY, wanted=[wanted_record(*mark.place)]) < 20  # noqa: SLF001  (the plan of this very statement)
    below = {"queue": "a", "rank": mark.place[0], "id": mark.place[1], "after": mark.below.after_id}
    assert pages(database, ready_store._NEWCOMERS, marks=[below], limit=1000) < 20  # noqa: SLF001  (the plan of this very statement)


@pytest.mark.usefixtures("held_horizon")
def test_a_mark_keeps_make_due_from_walking_what_was_due(database: Database) -> None:
    """The index of waiting rows is entered at the mark as well."""
    execute(
        database,
        "INSERT INTO jobs (queue, type, payload, available_at) "
        "SELECT 'a', 't', '{}', now() - interval '1 minute' FROM generate_series(1, %s)",
        DEAD,
    )
    execute(database, "UPDATE jobs SET rank = available_at")
    looks = DueLooks()
    assert make_due(looks, database) == 0
    parameters = {"head_start": HEAD_START, "limit": 1000}
    assert pages(database, ready_store._MAKE_DUE, **parameters, after="-infinity") > DEAD / 100  # noqa: SLF001  (the plan of this very statement)
    assert pages(database, ready_store._MAKE_DUE, **parameters, after=looks._mark) < 20  # noqa: SLF001  (the plan of this very statement)


def test_an_urgent_newcomer_is_found_at_once(database: Database) -> None:
    """A job whose rank is far below the mark stands first in the next look, until it has started."""
    looks = ReadyLooks()
    first = create(database)
    assert look(looks, database) == [first]
    urgent = create(database, priority=10)
    assert look(looks, database) == [urgent, first]
    assert look(looks, database, count=1) == [urgent]
    set_status(database, urgent, "completed")
    assert look(looks, database) == [first]


def test_a_newcomer_of_low_priority_moves_no_mark_beyond_the_present(database: Database) -> None:
    """A rank in the future is not what later jobs are looked for behind."""
    looks = ReadyLooks()
    low = create(database, priority=-10)
    assert look(looks, database) == [low]
    plain = create(database)
    assert look(looks, database) == [plain, low]


def test_a_late_commit_is_found(database: Database) -> None:
    """A job of a transaction that commits a while after its `now()` is behind the mark."""
    looks = ReadyLooks()
    ready = create(database)
    with database.transaction() as connection:
        late = new_job_store.insert(connection, NewJob("a", "t", "{}")).id
        newer = create(database)
        assert look(looks, database) == [ready, newer]
        assert look(looks, database) == [ready, newer]
    assert sorted(look(looks, database)) == sorted([ready, late, newer])


def test_what_is_put_below_the_mark_is_found_by_the_next_full_look(database: Database) -> None:
    """An edit that gives an old row an earlier place is seen when the turn has ended."""
    looks = ReadyLooks()
    moved = create(database, priority=-50)
    first = create(database)
    assert look(looks, database) == [first, moved]
    # Its id is no newcomer's either.
    looks._marks["a"].seen[0] = (-math.inf, first)  # noqa: SLF001  (how far a look goes is told nowhere)
    execute(database, "UPDATE jobs SET rank = now() - interval '1 hour' WHERE id = %s", moved)
    assert look(looks, database) == [first]
    end_turn(looks)
    assert look(looks, database) == [moved, first]


def test_queues_have_marks_of_their_own(database: Database) -> None:
    """A queue that is looked at for the first time, or again, is looked at in full, whatever others do."""
    looks = ReadyLooks()
    a, b = create(database, "a"), create(database, "b", priority=5)
    assert look(looks, database, queue="a") == [a]
    assert look(looks, database, queue="b") == [b]
    with database.autocommit() as connection:
        found = looks.read(connection, {"a": Wanted(9), "b": Wanted(9)})
    assert {queue: [row.id for row in rows] for queue, rows in found.items()} == {"a": [a], "b": [b]}


def test_a_paused_queue_has_no_newcomers(database: Database) -> None:
    """Nothing of a paused queue is found, by whatever way."""
    looks = ReadyLooks()
    create(database)
    look(looks, database)
    create(database, priority=5)
    with database.autocommit() as connection:
        queue_store.pause(connection, "a")
    assert look(looks, database) == []


def test_a_queue_that_was_paused_is_looked_at_in_full(database: Database) -> None:
    """A look at a paused queue found nothing, whatever there is; its mark is not kept."""
    looks = ReadyLooks()
    jobs = [create(database) for _ in range(3)]
    execute(database, "UPDATE jobs SET rank = rank - interval '1 minute'")
    with database.autocommit() as connection:
        queue_store.pause(connection, "a")
    assert look(looks, database) == []
    looks.keep([])
    with database.autocommit() as connection:
        queue_store.resume(connection, "a")
    assert look(looks, database) == jobs


@pytest.mark.parametrize("seed", range(3))
def test_looks_with_marks_find_what_full_looks_find(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """In any history of jobs that come with any priority and are done in any order, no look overlooks one."""
    monkeypatch.setattr(ready_looks, "LATE_SECONDS", 0.0)
    chosen = random.Random(seed)
    looks = ReadyLooks()
    for _ in range(120):
        if chosen.random() < 0.6:
            create(database, priority=chosen.choice((-3, 0, 0, 0, 1, 50)))
        with database.autocommit() as connection:
            expected = ready_store.next_ready(connection, {"a": Wanted(5)})
        if chosen.random() < 0.6:
            assert look(looks, database, count=5) == [row.id for row in expected]
        if expected and chosen.random() < 0.5:
            set_status(database, chosen.choice(expected[:2]).id, "completed")


def test_due_rows_are_found_behind_the_mark(database: Database) -> None:
    """What becomes due after a look is made due by the next; what was put before the mark, by a full one."""
    looks = DueLooks()
    assert make_due(looks, database) == 0
    job = create(database, delay_seconds=3600)
    execute(database, "UPDATE jobs SET available_at = now() WHERE id = %s", job)
    assert make_due(looks, database) == 1
    execute(
        database, "UPDATE jobs SET available_at = now() - interval '1 hour', rank = NULL WHERE id = %s", job
    )
    assert make_due(looks, database) == 0
    looks._turns._ends_at = 0.0  # noqa: SLF001  (a clock that went on)
    assert make_due(looks, database) == 1


def test_a_turn_is_twenty_times_as_long_as_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name has one full look a turn, and the next turn begins when the share is kept."""
    monkeypatch.setattr(ready_looks, "FULL_LOOK_SHARE", 0.05)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    turns = LookTurns()
    assert turns.due({"a", "b"}) == {"a", "b"}
    turns.had({"a"}, 1.0)
    now[0] += 1
    assert turns.due({"a", "b"}) == {"b"}
    turns.had({"b"}, 1.0)
    now[0] += 38
    assert turns.due({"a", "b"}) == set()
    now[0] += 1.1
    assert turns.due({"a", "b"}) == {"a", "b"}


def make_due(looks: DueLooks, database: Database) -> int:
    """How many rows a look makes due."""
    with database.autocommit() as connection:
        return looks.make_due(connection)


def wanted_record(rank: Any, job_id: int) -> dict[str, Any]:
    """What is wanted of queue a, behind a place."""
    return {"queue": "a", "count": 100, "rank": rank, "id": job_id}


def pages(database: Database, sql: str, **parameters: Any) -> int:
    """How many pages a statement touches."""
    given = {
        name: orjson.dumps(value).decode() if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    with database.autocommit() as connection:
        (plans,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", given).one()
    return int(plans[0]["Plan"]["Shared Hit Blocks"]) + int(plans[0]["Plan"]["Shared Read Blocks"])
