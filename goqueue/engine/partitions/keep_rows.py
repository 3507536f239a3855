"""SQL of the keeper of partitions: one is added ahead, old ones are replaced by what has to stay of them.

Everything here is part of a transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.engine.cleaning_rows import AWAITED
from goqueue.engine.partitions.layout_rows import TABLES, Partition
from goqueue.engine.partitions.table_rows import HELD_UP_MILLISECONDS, attach, detach, lock_tables, make
from goqueue.jobs import FINAL_STATUSES, JobStatus

__all__ = [
    "Ages",
    "add_ahead",
    "forget_orphans",
    "is_young",
    "lock_rows_to_keep",
    "replace",
    "rows_to_keep",
    "wait_for_writers",
]

#: How long the final jobs of each status are kept, in seconds.
Ages = Mapping[JobStatus, float]

#: The rows that one statement forgets.
_BATCH = 1000

_AGE = "make_interval(secs => CASE status {} END)".format(
    " ".join(f"WHEN '{status}' THEN %({status})s" for status in sorted(FINAL_STATUSES))
)

#: As the cleaner has it for single rows.
_MAY_GO = f"(finished_at IS NOT NULL AND finished_at < now() - {_AGE} AND NOT {AWAITED})"

# No index knows when a job completed. The newest of a partition are, all in all, those that ended last.
_IS_YOUNG = """
    SELECT EXISTS (
        SELECT FROM (SELECT created_at, finished_at FROM jobs_{suffix} ORDER BY id DESC LIMIT 1000) AS newest
        WHERE GREATEST(created_at, finished_at) >= now() - make_interval(secs => %(age)s))
"""

_COUNT = f"SELECT count(*) FROM jobs_{{suffix}} AS jobs WHERE NOT {_MAY_GO}"

# What may not go; and what may, but could still be changed: a replay of it must not be lost. A locked row is
# about to be changed: another time.
_LOCK = f"""
    SELECT id, NOT {_MAY_GO} FROM jobs_{{suffix}} AS jobs
    WHERE status IN ('failed', 'cancelled') OR NOT {_MAY_GO}
    ORDER BY id FOR UPDATE NOWAIT
"""

# A new job may wait for one that had ended long ago.
_AWAITED_NOW = """
    SELECT EXISTS (
        SELECT FROM dependencies JOIN jobs AS child ON child.id = dependencies.job_id
        WHERE parent_id >= %(lower)s AND parent_id < %(upper)s AND child.finished_at IS NULL
          AND NOT parent_id = ANY (%(ids)s::bigint[]))
"""

# Rows of tables that are not partitioned, and whose job went with its partition.
_ORPHANS = """
    DELETE FROM {table} WHERE ctid = ANY (ARRAY (
        SELECT {table}.ctid FROM {table}
        WHERE job_id < %(below)s AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = {table}.job_id)
        LIMIT {limit} FOR UPDATE SKIP LOCKED))
    RETURNING job_id
"""
_OTHER_TABLES = ("dependencies", "attempt_progress", "job_versions", "job_output")


def add_ahead(connection: Connection, last: Partition, upper: int, *, stored_like: str) -> None:
    """Give the partition without an upper bound one, while it is empty, and make the next one behind it."""
    suffix = f"from_{upper}"
    make(connection, suffix, stored_like=stored_like)
    lock_tables(connection)
    detach(connection, last.suffix)
    attach(connection, last.suffix, last.lower, upper)
    attach(connection, suffix, upper, None)


def is_young(connection: Connection, partition: Partition, age_seconds: float) -> bool:
    """Say whether one of the newest jobs of a partition was created, or has ended, of late."""
    row = fetch_one(connection, _IS_YOUNG.format(suffix=partition.suffix), {"age": age_seconds})
    return bool(row and row[0])


def rows_to_keep(connection: Connection, partition: Partition, ages: Ages) -> int:
    """Count the jobs of a partition that may not go."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    row = fetch_one(connection, _COUNT.format(suffix=partition.suffix), _seconds(ages))
    assert row is not None
    return int(row[0])


def wait_for_writers(connection: Connection) -> bool:
    """Wait until every transaction has ended that has inserted a job and is not seen yet; always true."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {HELD_UP_MILLISECONDS}")
    connection.exec_driver_sql("LOCK TABLE jobs IN SHARE MODE")
    return True


def lock_rows_to_keep(connection: Connection, partition: Partition, ages: Ages) -> list[int]:
    """Lock the jobs of a partition that may not go or may still change; the ids of those that may not go."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    rows = fetch_all(connection, _LOCK.format(suffix=partition.suffix), _seconds(ages))
    return [row[0] for row in rows if row[1]]


def replace(connection: Connection, old: Sequence[Partition], kept: Sequence[int], suffix: str) -> bool:
    """Put the rows of some jobs in place of the neighbouring partitions that they are in.

    Returns:
        False: a job that waits for one of the others has come meanwhile; the transaction has to be undone.
    """
    lower, upper = old[0].lower, old[-1].upper
    assert upper is not None
    make(connection, suffix, stored_like=old[0].suffix)
    for table, key in TABLES.items():
        bounds = f"{key} < {upper}" + (f" AND {key} >= {lower}" if lower is not None else "")
        connection.exec_driver_sql(
            f"ALTER TABLE {table}_{suffix} ADD CONSTRAINT {table}_{suffix}_bounds CHECK ({bounds})"
        )
        for one in old:
            connection.exec_driver_sql(
                f"INSERT INTO {table}_{suffix} SELECT part.* FROM {table}_{one.suffix} AS part "
                f"WHERE part.{key} IN (SELECT unnest(%(ids)s::bigint[]))",
                {"ids": array(kept)},
            )
    lock_tables(connection)
    asked = {"lower": lower or 0, "upper": upper, "ids": array(kept)}
    row = fetch_one(connection, _AWAITED_NOW, asked)
    if row and row[0]:
        return False
    for one in old:
        detach(connection, one.suffix, for_good=True)
    attach(connection, suffix, lower, upper)
    for table in TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table}_{suffix} DROP CONSTRAINT {table}_{suffix}_bounds")
    return True


def forget_orphans(connection: Connection, below: int) -> int:
    """Forget edges, progress and versions of jobs below an id that are gone; how many, at most a batch."""
    for table in _OTHER_TABLES:
        statement = _ORPHANS.format(table=table, limit=_BATCH)
        if rows := fetch_all(connection, statement, {"below": below}):
            return len(rows)
    return 0


def _seconds(ages: Ages) -> dict[str, float]:
    return {status.value: seconds for status, seconds in ages.items()}
