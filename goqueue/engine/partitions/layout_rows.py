"""The partitions that there are, as the catalogs of PostgreSQL and the sequence of ids tell them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db import concurrent_indexes
from goqueue.db.statements import fetch_all, fetch_one

__all__ = ["TABLES", "Layout", "Pace", "Partition", "is_partitioned", "last_id", "pace", "read"]

#: The tables with a row or more for each job, and the column by which they are partitioned.
TABLES = {"jobs": "id", "job_tags": "job_id", "attempts": "job_id", "attempt_logs": "job_id"}

# Ids come from one sequence, so ranges of ids are ranges of time, and no update moves a row to another one.
_READ = """
    SELECT substr(part.relname, length('jobs_') + 1),
           substring(bound FROM $$FROM \\('?(-?\\d+)$$)::bigint,
           substring(bound FROM $$TO \\('?(-?\\d+)$$)::bigint,
           greatest(part.reltuples, 0)::bigint,
           (SELECT sum(pg_total_relation_size(to_regclass(name || substr(part.relname, length('jobs') + 1))))
            FROM unnest(%(tables)s::text[]) AS name)::bigint
    FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
    CROSS JOIN LATERAL pg_get_expr(part.relpartbound, part.oid) AS bound
    WHERE inhparent = 'jobs'::regclass
    ORDER BY 2 NULLS FIRST
"""

# How fast ids are given: from a job some way back until now.
_PACE = """
    SELECT %(last_id)s - id, created_at, now() FROM jobs
    WHERE id >= %(from_id)s ORDER BY id LIMIT 1
"""

#: So many ids back the pace is taken.
PACE_OVER = 1_000_000


@dataclass(frozen=True, slots=True)
class Partition:
    """A range of ids, and the tables that have its rows.

    Attributes:
        suffix: of the names of its tables: those of `from_0` are jobs_from_0, attempts_from_0 and so on.
        lower: the first id; None: there is no lower bound.
        upper: behind the last id; None: there is no upper bound, so that no job can lack a partition.
        rows: of jobs, by the planner's statistics.
        bytes: of all its tables and their indexes.
    """

    suffix: str
    lower: int | None
    upper: int | None
    rows: int
    bytes: int

    @property
    def is_kept(self) -> bool:
        """Say whether it has what was kept of an older partition, or of several."""
        return self.suffix.startswith("kept_")

    @property
    def goes_whole(self) -> bool:
        """Say whether completed jobs go with the whole of it; otherwise the cleaner deletes them by rows."""
        return self.lower is not None and not self.is_kept


@dataclass(frozen=True, slots=True)
class Layout:
    """All partitions, by their ids, and the last id that was given."""

    partitions: tuple[Partition, ...]
    last_id: int

    @property
    def open(self) -> Partition:
        """Return the last partition, which takes whatever comes."""
        return self.partitions[-1]

    @property
    def ids_ahead(self) -> int:
        """Count the ids that are left until jobs come into the partition without an upper bound."""
        return max(0, (self.open.lower or 0) - 1 - self.last_id)

    @property
    def cleaned_below(self) -> int:
        """Return the id below which the cleaner deletes completed jobs by rows."""
        return min(one.lower or 0 for one in self.partitions if one.goes_whole)


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace at which ids are given: so many between two moments."""

    ids: int
    since: datetime
    now: datetime

    @property
    def per_second(self) -> float:
        """Return the ids that are given in a second."""
        return self.ids / max(1.0, (self.now - self.since).total_seconds())


def is_partitioned(connection: Connection) -> bool:
    """Say whether the jobs are in partitions."""
    return concurrent_indexes.is_partitioned(connection, "jobs")


def read(connection: Connection) -> Layout | None:
    """Read the partitions; None: there are none."""
    if not is_partitioned(connection):
        return None
    rows = fetch_all(connection, _READ, {"tables": list(TABLES)})
    return Layout(tuple(Partition(*row) for row in rows), last_id(connection))


def last_id(connection: Connection) -> int:
    """Read the last id that was given to a job; 0 before the first."""
    row = fetch_one(connection, "SELECT pg_get_serial_sequence('jobs', 'id')", {})
    assert row is not None
    row = fetch_one(connection, f"SELECT last_value - (NOT is_called)::int FROM {row[0]}", {})
    assert row is not None
    return int(row[0])


def pace(connection: Connection, newest: int) -> Pace | None:
    """Read how fast ids were given of late; None: there is no job to tell it by."""
    row = fetch_one(connection, _PACE, {"last_id": newest, "from_id": newest - PACE_OVER})
    return None if row is None else Pace(*row)
