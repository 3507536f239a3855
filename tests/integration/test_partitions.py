"""Jobs in partitions: switched on and off beside whoever works, made ahead, and dropped when they are old."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db import concurrent_indexes
from goqueue.db.database import Connection, Database
from goqueue.db.locked_rows import rows_of
from goqueue.engine.listing import listing_rows as listing
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.partitions import keep_rows as keeping
from goqueue.engine.partitions import switch_rows as switching
from goqueue.engine.partitions.keeper import PartitionKeeper
from goqueue.engine.partitions.layout_rows import is_partitioned
from goqueue.engine.partitions.switch import switch_on
from goqueue.engine.partitions.switch_off import switch_off
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.retry import retry
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError, PartitionsRefusedError
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.insight import statistic_rows as statistics
from goqueue.jobs import FINAL_STATUSES, JobStatus
from goqueue.migrations.upgrade import downgrade
from goqueue.ops.checks import problems_of
from goqueue.ops.partitions_command import written
from goqueue.scheduler.cleaner import Cleaner
from tests.support.counted import counted
from tests.support.database.plans import nodes
from tests.support.database.small_partitions import layout_of, put_into_partitions
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import LEASE_SECONDS, JobFactory, set_status
from tests.support.waiting import wait_until

NOTHING = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"

WEEK, QUARTER = 7 * 86_400.0, 90 * 86_400.0
AGES = dict.fromkeys(sorted(FINAL_STATUSES), WEEK) | {JobStatus.FAILED: QUARTER}


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Partitions are as small as they may be."""
    return {"partition_jobs": 1000}


@pytest.fixture
def parts(database: Database) -> Database:
    """The test's database, in partitions from the ids 1, 6, 11, 17 and 25 on."""
    put_into_partitions(database, (1, 6, 11, 17, 25))
    return database


@contextmanager
def transaction_of_another(database: Database) -> Iterator[Connection]:
    """A transaction that is committed by hand."""
    with database.connection() as other:
        other.execution_options(isolation_level="READ COMMITTED")
        yield other


@pytest.fixture
def keeper(settings: Settings, parts: Database) -> PartitionKeeper:
    """Whoever keeps the partitions of the test."""
    return PartitionKeeper(settings, parts, AGES)


def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with database.autocommit() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def grow_old(database: Database, seconds: float = WEEK + 60) -> None:
    """Let everything that has ended have ended so much earlier."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = finished_at - make_interval(secs => %(s)s), "
            "created_at = created_at - make_interval(secs => %(s)s)",
            {"s": seconds},
        )


def keep_until(keeper: PartitionKeeper, condition: Callable[[], bool]) -> None:
    """Run rounds until something is so: on a busy machine some of them do not get the tables."""

    def is_so() -> bool:
        keeper.run_once()
        return condition()

    wait_until(is_so, 30)


def suffixes(database: Database) -> list[str]:
    """The names of the partitions, in order."""
    return [one.suffix for one in layout_of(database).partitions]


class Creator:
    """Creates jobs in a thread of its own, until it is told to stop."""

    def __init__(self, actor: Any) -> None:
        self.created: list[int] = []
        self._actor = actor
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            number = len(self.created)
            self.created.append(goqueue.enqueue(self._actor, {"value": number}, tags=[f"of-{number % 3}"]))


def test_switching_on_beside_work_loses_nothing(settings: Settings) -> None:
    """While jobs are created, run and retry, they are put into partitions, and each runs as it should."""
    with process_of(settings.model_copy(update=QUICK)) as broker:

        @goqueue.actor(queue="parts", max_retries=1, jitter=False)
        def second_time(value: int) -> int:
            if goqueue.current_job().attempt == 1:
                raise ValueError(value)
            return value

        with Engine(broker) as engine:
            with Creator(second_time) as creator:
                engine.wait_for(goqueue.enqueue(second_time, {"value": 0}))
                new_from = switch_on(broker.database, settings)
                engine.wait_for(goqueue.enqueue(second_time, {"value": 0}))
            for job_id in creator.created:
                engine.wait_for(job_id)
                assert [row[1] for row in engine.attempts(job_id)] == ["failed", "completed"]
            assert min(creator.created) < new_from <= max(creator.created)
            assert engine.rows("SELECT count(DISTINCT tableoid) FROM attempts") == [(2,)]
            tagged = engine.rows("SELECT count(*) FROM job_tags")
    assert tagged == [(len(creator.created),)]


def test_everything_goes_on_in_partitions(settings: Settings) -> None:
    """Unique keys, dependants, edits, cancels, replays and searches span partitions."""
    database = Database(settings)
    put_into_partitions(database, (1, 2, 3, 4, 5, 6, 7))
    with process_of(settings.model_copy(update=QUICK)) as broker:

        @goqueue.actor(queue="parts", max_retries=0)
        def positive(value: int) -> int:
            if value < 0:
                raise ValueError(value)
            return value

        with Engine(broker) as engine:
            parent = goqueue.enqueue(positive, {"value": 1}, tags=["a"])
            engine.wait_for(goqueue.enqueue(positive, {"value": 2}, depends_on=[parent], tags=["a"]))
            failed = goqueue.enqueue(positive, {"value": -1}, tags=["a"])
            engine.wait_for(failed, JobStatus.FAILED)
            only = goqueue.Unique(key="one")
            waiting = goqueue.enqueue(positive, {"value": 4}, delay_seconds=3600, unique=only)
            assert goqueue.enqueue(positive, {"value": 5}, delay_seconds=3600, unique=only) == waiting
            goqueue.edit_job(waiting, payload={"value": 6})
            goqueue.retry_job(failed, payload={"value": 3})
            engine.wait_for(failed)
            assert goqueue.cancel_job(waiting).status is JobStatus.CANCELLED
            places = engine.rows("SELECT count(DISTINCT tableoid) FROM jobs")
    with database.autocommit() as connection:
        found = listing.search(connection, JobFilter(queue="parts", tag="a"), limit=2)
    database.close()
    assert places == [(4,)]
    assert [job.id for job in found.jobs] == [failed, failed - 1]


def test_a_claim_changes_no_row_of_another_partition(make_job: JobFactory, parts: Database) -> None:
    """Of rows at the same place in the tables of two partitions, the one that is meant is claimed."""
    jobs = [make_job() for _ in range(8)]
    places = rows(parts, "SELECT ctid::text, count(*) FROM jobs GROUP BY 1 HAVING count(*) > 1")
    assert places
    with parts.autocommit() as connection:
        claimed = claim(
            connection, [(jobs[0].id, 0)], worker_id=make_job.worker_id, lease_seconds=LEASE_SECONDS
        )
    assert [job.id for job in claimed] == [jobs[0].id]
    assert rows(parts, "SELECT id FROM jobs WHERE status = 'running'") == [(jobs[0].id,)]


def test_a_statement_reads_the_partitions_of_its_rows_alone(make_job: JobFactory, parts: Database) -> None:
    """What changes locked rows leaves out the other partitions when it runs."""
    job = make_job()
    statement = f"""
        WITH chosen AS MATERIALIZED (SELECT id FROM jobs WHERE id = {job.id} FOR UPDATE)
        UPDATE jobs SET updated_at = now() WHERE {rows_of("chosen")}"""
    plan = rows(parts, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")[0][0][0]["Plan"]
    scans = [node["Actual Loops"] for node in nodes(plan) if "Index Name" in node]
    assert len(scans) > len(layout_of(parts).partitions)
    # One scan that locks, and one that changes.
    assert sorted(scans, reverse=True)[:3] == [1, 1, 0]


def test_a_worker_of_an_older_release_is_refused(parts: Database) -> None:
    """A worker that changes rows by their places cannot register where there are partitions."""
    old = "INSERT INTO workers (hostname, pid, queues, threads) VALUES ('old', 1, '{a}', 1)"
    with (
        pytest.raises(DatabaseRefusedError, match="workers_locks_by_id_check"),
        parts.autocommit() as connection,
    ):
        connection.exec_driver_sql(old)


OBSTACLES = {
    "a worker of an older release": "INSERT INTO workers (hostname, pid, queues, threads) "
    "VALUES ('old', 1, '{a}', 1)",
    "a view": "CREATE VIEW mine AS SELECT id FROM jobs",
    "a foreign key": "CREATE TABLE mine (job_id bigint REFERENCES jobs (id))",
    "a publication": "CREATE PUBLICATION mine FOR TABLE jobs",
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_would_go_on_with_the_old_table_is_in_the_way(
    settings: Settings, database: Database, what: str
) -> None:
    """What follows a table by its number, or knows of no partitions, is named, and nothing is changed."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(OBSTACLES[what])
    with pytest.raises(PartitionsRefusedError, match=r"release|mine"):
        switch_on(database, settings)
    with database.autocommit() as connection:
        assert not is_partitioned(connection)
        assert not switching.has_bound(connection)


def test_tables_that_somebody_holds_are_waited_for(settings: Settings, database: Database) -> None:
    """While a transaction has written to the jobs, others work, and the switch is tried again."""
    with transaction_of_another(database) as other:
        other.exec_driver_sql("INSERT INTO jobs (queue, type, payload) VALUES ('a', 'noop', '{}')")
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                other.commit()

        switch_on(database, settings, wait=wait)
    assert len(waits) >= 2
    assert len(layout_of(database).partitions) == 3


def test_a_switch_that_is_given_up_leaves_nothing(settings: Settings, database: Database) -> None:
    """A switch that is interrupted takes its bound back: it would refuse jobs one day."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with database.transaction() as other:
        other.exec_driver_sql("LOCK TABLE attempts IN ACCESS SHARE MODE")
        with pytest.raises(KeyboardInterrupt):
            switch_on(database, settings, wait=interrupt)
    with database.autocommit() as connection:
        assert not switching.has_bound(connection)


def test_a_bound_that_was_left_over_is_taken_back(settings: Settings, database: Database) -> None:
    """The cleaner takes back the bound of a switch that was killed, and not that of one under way."""
    with database.transaction() as connection:
        switching.add_bound(connection, 1_000_000)
    cleaner = Cleaner(settings, database, lambda _seconds: None)
    with database.connection() as switcher:
        assert switching.hold_switch(switcher)
        cleaner.run_once()
        assert switching.has_bound(switcher)
        switching.release_switch(switcher)
    cleaner.run_once()
    with database.autocommit() as connection:
        assert not switching.has_bound(connection)


def test_indexes_triggers_settings_and_grants_go_along(settings: Settings, database: Database) -> None:
    """The partitioned tables have what the plain ones had, under its names, and so has each partition."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(NOTHING)
        connection.exec_driver_sql(
            "CREATE TRIGGER mine AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION nothing()"
        )
        connection.exec_driver_sql("GRANT SELECT ON jobs TO PUBLIC")
    indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'jobs'::regclass ORDER BY 1"
    before = rows(database, indexes)
    switch_on(database, settings)
    assert rows(database, indexes) == before
    for suffix in suffixes(database):
        numbers = rows(
            database,
            "SELECT count(*) FILTER (WHERE tgname = 'mine'), (SELECT count(*) FROM pg_index "
            f"WHERE indrelid = 'jobs_{suffix}'::regclass), (SELECT 'fillfactor=50' = ANY (reloptions) "
            f"FROM pg_class WHERE oid = 'jobs_{suffix}'::regclass) FROM pg_trigger "
            f"WHERE tgrelid = 'jobs_{suffix}'::regclass",
        )
        assert numbers == [(1, len(before), True)]
    grants = "SELECT array_to_string(relacl, ' ') LIKE '%%=r/%%' FROM pg_class WHERE oid = 'jobs'::regclass"
    assert rows(database, grants) == [(True,)]


def test_one_partition_is_always_ahead(settings: Settings, database: Database, make_job: JobFactory) -> None:
    """Before jobs come near the partition without an end, it gets one, and the next is made behind it."""
    put_into_partitions(database, (1, 1001))
    keeper = PartitionKeeper(settings, database, AGES)
    keeper.run_once()
    assert suffixes(database) == ["from_0", "from_1", "from_1001"]
    with database.autocommit() as connection:
        connection.exec_driver_sql("SELECT setval('jobs_id_seq', 600)")
    keep_until(keeper, lambda: suffixes(database)[1:] == ["from_1", "from_1001", "from_2001"])
    assert layout_of(database).ids_ahead == 1400
    assert make_job().id == 601


def test_jobs_that_come_too_early_for_their_partition_are_taken(
    settings: Settings, database: Database, make_job: JobFactory
) -> None:
    """Where nobody made a partition in time the last one takes what comes, and gets its end later."""
    put_into_partitions(database, (1, 6))
    keeper = PartitionKeeper(settings, database, AGES)
    jobs = [make_job().id for _ in range(20)]
    keep_until(keeper, lambda: suffixes(database)[1:] == ["from_1", "from_6", "from_1020"])
    assert rows(database, "SELECT id FROM jobs ORDER BY id") == [(job_id,) for job_id in jobs]


def test_old_partitions_are_dropped_whole(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory
) -> None:
    """A partition goes once all of its jobs have ended long enough ago, with their attempts and tags."""
    jobs = [make_job("completed", tags=["a"]) for _ in range(12)]
    for job in jobs:
        make_job.attempt(job, "completed")
    with parts.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO job_tags (tag, job_id) SELECT 'a', id FROM jobs")
    keeper.run_once()
    assert len(rows(parts, "SELECT FROM jobs")) == 12
    grow_old(parts)
    # Of those that are used up: 12 is in the third.
    keep_until(keeper, lambda: suffixes(parts)[0] == "kept_0_11")
    assert rows(parts, "SELECT id FROM jobs") == [(11,), (12,)]
    assert rows(parts, "SELECT DISTINCT job_id FROM attempts ORDER BY 1") == [(11,), (12,)]
    assert rows(parts, "SELECT DISTINCT job_id FROM job_tags ORDER BY 1") == [(11,), (12,)]
    left = "SELECT relname FROM pg_class WHERE relname ~ '^jobs_' AND relkind = 'r' AND NOT relispartition"
    assert rows(parts, left) == []


def test_jobs_that_have_to_stay_are_kept(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory
) -> None:
    """What has not ended, failed of late, or is waited for, outlives its partition with what is theirs."""
    stays = {
        "queued": make_job(),
        "running": make_job("running"),
        "failed": make_job("failed"),
        "blocked": make_job("blocked"),
    }
    awaited = make_job("completed", has_dependants=True)
    gone = [make_job("completed") for _ in range(6)]
    for job in [*stays.values(), awaited, gone[0]]:
        make_job.attempt(job)
    with parts.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO dependencies (job_id, parent_id) VALUES (%(child)s, %(parent)s)",
            {"child": stays["blocked"].id, "parent": awaited.id},
        )
    grow_old(parts)
    keep_until(keeper, lambda: suffixes(parts)[0] == "kept_0_11")
    kept = [*(job.id for job in stays.values()), awaited.id, 11]
    assert rows(parts, "SELECT id FROM jobs ORDER BY id") == [(job_id,) for job_id in kept]
    assert len(rows(parts, "SELECT FROM attempts")) == 5
    with parts.autocommit() as connection:
        claimed = claim(
            connection, [(stays["queued"].id, 0)], worker_id=make_job.worker_id, lease_seconds=LEASE_SECONDS
        )
        assert [job.id for job in claimed] == [stays["queued"].id]
        assert retry(connection, [stays["failed"].id])


def test_what_is_kept_is_put_together(keeper: PartitionKeeper, parts: Database, make_job: JobFactory) -> None:
    """Partitions with a few jobs that stay become one, and the rows of jobs that went are forgotten."""
    for number in range(26):
        make_job("failed" if number % 5 == 0 else "completed")
    with parts.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO attempt_progress (job_id, fence, progress) SELECT id, 1, 0.5 FROM jobs"
        )
    grow_old(parts)
    keep_until(keeper, lambda: suffixes(parts)[:2] == ["kept_0_25", "from_25"])
    stayed = [(1,), (6,), (11,), (16,), (21,), (25,), (26,)]
    assert rows(parts, "SELECT id FROM jobs ORDER BY id") == stayed
    assert rows(parts, "SELECT job_id FROM attempt_progress ORDER BY 1") == stayed


def test_a_replay_under_way_is_not_lost(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory
) -> None:
    """A job that somebody is about to replay keeps its partition until that is decided, and then itself."""
    failed = make_job("failed")
    for _ in range(6):
        make_job("completed")
    grow_old(parts, QUARTER + 60)
    with transaction_of_another(parts) as other:
        other.exec_driver_sql("SELECT")
        retry(other, [failed.id])
        for _ in range(3):
            keeper.run_once()
        assert "from_1" in suffixes(parts)
        other.commit()
    keep_until(keeper, lambda: "from_1" not in suffixes(parts))
    assert (failed.id,) in rows(parts, "SELECT id FROM jobs WHERE status = 'queued'")


def test_a_job_that_is_not_committed_yet_is_not_lost(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory
) -> None:
    """A job that a transaction has inserted and not committed keeps its partition from being dropped."""
    with transaction_of_another(parts) as other:
        other.exec_driver_sql("INSERT INTO jobs (queue, type, payload) VALUES ('a', 'noop', '{}')")
        for _ in range(6):
            make_job("completed")
        grow_old(parts)
        for _ in range(3):
            keeper.run_once()
        assert "from_1" in suffixes(parts)
        other.commit()
    grow_old(parts)
    keep_until(keeper, lambda: "from_1" not in suffixes(parts))
    assert rows(parts, "SELECT id FROM jobs WHERE status = 'queued'") == [(1,)]


def test_a_job_that_is_committed_in_the_last_moment_is_kept(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was inserted before a partition was looked through, and committed after that, is not dropped."""
    with transaction_of_another(parts) as other:
        other.exec_driver_sql("INSERT INTO jobs (queue, type, payload) VALUES ('a', 'noop', '{}')")
        for _ in range(6):
            make_job("completed")
        grow_old(parts)

        def look_through(*arguments: Any) -> list[int]:
            found = keeping.lock_rows_to_keep(*arguments)
            other.commit()
            return found

        monkeypatch.setattr("goqueue.engine.partitions.keeper.keeping.lock_rows_to_keep", look_through)
        for _ in range(3):
            keeper.run_once()
        other.commit()
    assert (1,) in rows(parts, "SELECT id FROM jobs WHERE status = 'queued'")


def test_a_replay_in_the_last_moment_has_to_wait(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that goes with its partition cannot be replayed, once the partition was looked through."""
    failed = make_job("failed")
    for _ in range(6):
        make_job("completed")
    grow_old(parts, QUARTER + 60)
    replayed: list[Any] = []

    def replace(*arguments: Any) -> bool:
        if "from_1" in {one.suffix for one in arguments[1]}:
            with suppress(DatabaseUnavailableError), parts.transaction() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = 100")
                replayed.extend(retry(other, [failed.id]))
        return put_in_place(*arguments)

    put_in_place = keeping.replace
    monkeypatch.setattr("goqueue.engine.partitions.keeper.keeping.replace", replace)
    keep_until(keeper, lambda: "from_1" not in suffixes(parts))
    assert replayed == []


def test_too_many_jobs_to_keep_are_left_to_the_cleaner(
    keeper: PartitionKeeper, parts: Database, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more stays than anybody copies, the jobs of a partition are deleted by rows."""
    monkeypatch.setattr("goqueue.engine.partitions.keeper.KEPT_MAX", 1)
    for status in ("failed", "failed", "completed", "completed", "completed", "completed"):
        make_job(status)
    grow_old(parts)
    keep_until(keeper, lambda: keeper.run_once() == 6)
    assert keeper.run_once() == 6
    assert "from_1" in suffixes(parts)


def test_the_cleaner_leaves_to_partitions_what_goes_with_them(
    settings: Settings, parts: Database, make_job: JobFactory
) -> None:
    """Completed jobs go with their partition; those with an age of their own go at that age, one by one."""
    for status in ("completed", "failed"):
        make_job(status)
    grow_old(parts, QUARTER + 60)
    counts = Cleaner(settings, parts, lambda _seconds: None).run_once()
    assert (counts["completed"], counts["failed"]) == (0, 1)


def test_plain_tables_come_back(settings: Settings, database: Database, make_job: JobFactory) -> None:
    """Switching off leaves the tables, indexes, settings and jobs as if there had been no partitions."""
    indexes = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN "
        "('jobs', 'attempts', 'job_tags', 'attempt_logs') ORDER BY 1"
    )
    storage = "SELECT reloptions FROM pg_class WHERE oid = 'jobs'::regclass"
    before, stored = rows(database, indexes), rows(database, storage)
    jobs = [make_job()]
    make_job.attempt(jobs[0])
    switch_on(database, settings)
    jobs.append(make_job())
    switch_off(database)
    jobs.append(make_job())
    assert [job.id for job in jobs] == [1, jobs[1].id, jobs[1].id + 1]
    assert rows(database, "SELECT id FROM jobs ORDER BY id") == [(job.id,) for job in jobs]
    assert rows(database, "SELECT count(*) FROM attempts") == [(1,)]
    assert (rows(database, indexes), rows(database, storage)) == (before, stored)
    old = "INSERT INTO workers (hostname, pid, queues, threads) VALUES ('old', 1, '{a}', 1)"
    with database.autocommit() as connection:
        connection.exec_driver_sql(old)
    with pytest.raises(PartitionsRefusedError):
        switch_off(database)


def test_the_metric_knows_that_there_are_none_any_more(parts: Database, keeper: PartitionKeeper) -> None:
    """An alert about partitions must not go on when they were switched off."""
    keeper.run_once()
    assert counted("partitions") > 0
    switch_off(parts)
    keeper.run_once()
    assert counted("partitions") == 0


def test_the_schema_goes_down_only_without_partitions(settings: Settings, database: Database) -> None:
    """A release before this one must not find partitions: its workers would change wrong rows."""
    switch_on(database, settings)
    with pytest.raises(DatabaseRefusedError, match="partitions off"):
        downgrade(database, "0016")


def test_the_command_shows_what_there_is(parts: Database) -> None:
    """The partitions, and how far the last one is, are printed."""
    text = written(layout_of(parts))
    assert "…_from_25" in text
    assert "the last job is 0; 24 more come before the last partition" in text
    assert written(None) == "the jobs are in no partitions"


def test_an_index_is_made_partition_by_partition(parts: Database, make_job: JobFactory) -> None:
    """An index is made beside writers, serves all partitions and later ones, and is dropped."""
    for _ in range(8):
        make_job()
    with parts.connection() as connection:
        concurrent_indexes.create(connection, "mine_idx", "jobs", "(priority, id) WHERE type LIKE 'n%'")
        concurrent_indexes.create(connection, "mine_idx", "jobs", "(priority, id) WHERE type LIKE 'n%'")
        assert concurrent_indexes.is_valid(connection, "mine_idx")
        connection.invalidate()
    of_partitions = (
        "SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indexrelid "
        "WHERE inhparent = 'mine_idx'::regclass AND indisvalid"
    )
    assert rows(parts, of_partitions) == [(len(layout_of(parts).partitions),)]
    with parts.transaction() as connection:
        keeping.add_ahead(connection, layout_of(parts).open, 50, stored_like="from_0")
    assert rows(parts, of_partitions) == [(len(layout_of(parts).partitions),)]
    with parts.connection() as connection:
        concurrent_indexes.drop(connection, "mine_idx")
        connection.invalidate()
    assert rows(parts, "SELECT FROM pg_class WHERE relname LIKE 'mine%%'") == []


def test_a_build_of_an_index_that_was_cut_off_goes_on(parts: Database, make_job: JobFactory) -> None:
    """What a build has left on some partitions is made anew, or attached."""
    make_job()
    with parts.connection() as connection:
        connection.exec_driver_sql("CREATE INDEX mine_idx ON ONLY jobs (priority)")
        connection.exec_driver_sql("CREATE INDEX mine_idx_jobs_from_1 ON jobs_from_1 (priority)")
        concurrent_indexes.create(connection, "mine_idx", "jobs", "(priority)")
        assert concurrent_indexes.is_valid(connection, "mine_idx")
        connection.invalidate()


def test_vacuum_is_not_waited_for(keeper: PartitionKeeper, parts: Database, make_job: JobFactory) -> None:
    """While a partition is vacuumed nobody is held up behind who wants it; it is replaced afterwards."""
    for _ in range(7):
        make_job("completed")
    grow_old(parts)
    with parts.transaction() as vacuum:
        vacuum.exec_driver_sql("LOCK TABLE attempts_from_1 IN SHARE UPDATE EXCLUSIVE MODE")
        for _ in range(3):
            keeper.run_once()
        assert "from_1" in suffixes(parts)
    keep_until(keeper, lambda: "from_1" not in suffixes(parts))


def test_a_missing_partition_is_a_problem(settings: Settings, parts: Database, make_job: JobFactory) -> None:
    """`goqueue check` says when jobs came into the last partition."""
    assert not [line for line in problems_of(settings) if "partition" in line]
    with parts.autocommit() as connection:
        connection.exec_driver_sql("SELECT setval('jobs_id_seq', 30)")
    make_job()
    assert [line for line in problems_of(settings) if "without an upper bound" in line]


def test_completed_jobs_of_all_partitions_are_estimated(parts: Database, make_job: JobFactory) -> None:
    """The estimate of completed jobs is the sum of the partitions."""
    for _ in range(8):
        make_job("completed")
    with parts.autocommit() as connection:
        connection.exec_driver_sql("ANALYZE jobs")
        assert statistics.of_service(connection, lease_seconds=15).completed_estimate == 8


def test_events_are_written_on_over_the_switch(database: Database, make_job: JobFactory) -> None:
    """Whoever listens hears of jobs in plain tables, in partitions, and in plain ones again."""
    Subscriptions(database).keep("test", 60)
    feed = EventFeed(database)
    start = feed.now()
    jobs = [make_job().id]
    put_into_partitions(database, (5, 10))
    jobs += [make_job().id for _ in range(8)]
    set_status(database, jobs[0], JobStatus.COMPLETED)
    set_status(database, jobs[-1], JobStatus.FAILED)
    switch_off(database)
    jobs.append(make_job().id)
    told = [(event.job_id, event.kind) for event in feed.read(start).events if event.job_id]
    ended = [(jobs[0], "job.completed"), (jobs[-2], "job.failed")]
    created = [(job_id, "job.created") for job_id in jobs]
    assert told == [*created[:-1], *ended, created[-1]]
