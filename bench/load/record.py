"""What PostgreSQL says: while the load runs, some figures for the live view; afterwards every single row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

# What ended up to two seconds ago does not change any more (a transaction that ends jobs is not that long),
# so each of these rows is counted once and not every time.
_ENDED = """
    SELECT count(*) FILTER (WHERE finished_at <= %(until)s), count(*) FILTER (WHERE finished_at > %(until)s),
           percentile_cont(ARRAY [0.5, 0.95, 0.99])
               WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at))
               FILTER (WHERE attempts = 1 AND finished_at > %(until)s)
    FROM jobs WHERE status IN ('completed', 'failed') AND finished_at > %(since)s
"""

_ROWS = """
    SELECT jobs.id, status, attempts, priority, extract(epoch FROM created_at)::float,
           extract(epoch FROM jobs.finished_at)::float, extract(epoch FROM attempt.first)::float,
           coalesce(attempt.recorded, 0)::int, coalesce(attempt.completed, 0)::int
    FROM jobs LEFT JOIN (
        SELECT job_id, min(started_at) AS first, count(*) AS recorded,
               count(*) FILTER (WHERE outcome = 'completed') AS completed
        FROM attempts GROUP BY job_id
    ) AS attempt ON attempt.job_id = jobs.id
"""


class Ended(NamedTuple):
    """How many jobs have ended so far, and how long the latest of them waited (p50, p95, p99; seconds)."""

    jobs: int
    waits: Sequence[float] | None


class JobRow(NamedTuple):
    """One job as it ended; times are seconds of PostgreSQL's clock.

    Attributes:
        first_started_at: when its first attempt began.
        recorded, completed: rows of attempts, and those that say that it was completed.
    """

    id: int
    status: str
    attempts: int
    priority: int
    created_at: float
    finished_at: float | None
    first_started_at: float | None
    recorded: int
    completed: int


class Record:
    """Questions to the database of the load."""

    def __init__(self, url: str) -> None:
        self._sql = psycopg.connect(url, autocommit=True)
        self._counted = 0
        self._since = self._moment("'-infinity'::timestamptz")

    def close(self) -> None:
        """Close the connection."""
        self._sql.close()

    def ended(self) -> Ended:
        """The figures of this moment."""
        until = self._moment("now() - interval '2 seconds'")
        row = self._sql.execute(_ENDED, {"since": self._since, "until": until}).fetchone()
        assert row is not None
        settled, latest, waits = row
        self._counted, self._since = self._counted + settled, until
        return Ended(self._counted + latest, waits)

    def rows(self) -> list[JobRow]:
        """Every job there is."""
        return [JobRow(*row) for row in self._sql.execute(_ROWS)]

    def _moment(self, expression: str) -> str:
        row = self._sql.execute(f"SELECT ({expression})::text").fetchone()
        assert row is not None
        return str(row[0])
