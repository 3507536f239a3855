"""What the last ANALYZE saw of ready and running jobs is gone: no walk along them may be planned by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from goqueue.db.database import Database
from goqueue.engine.range_rows import next_ranges
from goqueue.engine.ready_rows import Wanted, next_ready
from goqueue.limits import candidate_rows
from tests.support.database.plans import rows_read, run_script
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

BACKLOG = 4_000
WANTED = 20

_FILL = """
    INSERT INTO jobs (queue, type, payload, rank, concurrency_key)
    SELECT 'default', 'noop', '{}', now() + make_interval(secs => n), %s FROM generate_series(1, %s) AS n
"""
OF_NO_KEY = _FILL % ("NULL", BACKLOG)
OF_ONE_KEY = _FILL % ("'key'", BACKLOG)
OF_MANY_KEYS = _FILL % ("'key-' || mod(n, 1000)", BACKLOG)
OF_ANOTHER_QUEUE = OF_MANY_KEYS.replace("'default'", "'other'")
NOTHING = "SELECT 1"

#: A trigger empties the tables of ready and running jobs with it.
EMPTY = "TRUNCATE jobs CASCADE"

#: What an ANALYZE saw, and then is gone; and what came instead.
SEEN = {
    "nothing": NOTHING,
    "no key": OF_NO_KEY,
    "one key": OF_ONE_KEY,
    "many keys": OF_MANY_KEYS,
    "another queue": OF_ANOTHER_QUEUE,
}
COME = {"no key": OF_NO_KEY, "one key": OF_ONE_KEY, "many keys": OF_MANY_KEYS}

Walk = Callable[[Connection], object]

#: Each reads no more than it wants, or so many rows for each that it wants.
WALKS: dict[str, Walk] = {
    "keys": lambda connection: candidate_rows.ring(connection, "default", after="", count=WANTED),
    "heads of keys": lambda connection: candidate_rows.heads(
        connection, "default", {"key": WANTED, "key-1": 1, "key-2": 1}, fifo=False
    ),
    "by rank": lambda connection: candidate_rows.by_rank(connection, "default", WANTED),
    "next ready": lambda connection: next_ready(connection, {"default": Wanted(WANTED)}),
    "ranges": lambda connection: next_ranges(
        connection, "default", ("-infinity", 0), count=WANTED, size=5, known=None, limited=()
    ),
}
ROWS_PER_WANTED = 4


@pytest.mark.parametrize("come", COME)
@pytest.mark.parametrize("seen", SEEN)
def test_a_walk_reads_no_more_than_it_wants(database: Database, seen: str, come: str) -> None:
    """Whatever stood there at the last ANALYZE."""
    run_script(database, f"INSERT INTO queues (name) VALUES ('default'), ('other'); {SEEN[seen]}")
    run_script(database, f"ANALYZE; {EMPTY}; {COME[come]}")
    too_far: dict[str, int] = {}
    with database.autocommit() as connection:
        for name, walk in WALKS.items():
            connection.exec_driver_sql("BEGIN")
            before = rows_read(connection, "ready_jobs")
            walk(connection)
            read = rows_read(connection, "ready_jobs") - before
            connection.exec_driver_sql("ROLLBACK")
            if read > ROWS_PER_WANTED * WANTED:
                too_far[name] = read
    assert too_far == {}


def test_statistics_of_before_are_forgotten(database: Database) -> None:
    """A database that was analyzed under the release before has none of them after the migration."""
    run_script(database, f"INSERT INTO queues (name) VALUES ('default'); {OF_MANY_KEYS}; ANALYZE")
    with database.autocommit() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stats WHERE tablename IN ('ready_jobs', 'running_jobs')"
        ).scalar_one()
    assert found == 0
