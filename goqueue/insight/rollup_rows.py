"""Counts of what ended when, made beforehand (`rollups`), for pages to read."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.statements import Values, fetch_all, fetch_one

__all__ = ["NAMES_MAX", "RollupScope", "Step", "counted_up_to", "names", "series", "series_of_each"]

#: So many queues or types are read at once, those in which most ended.
NAMES_MAX = 500


class RollupScope(enum.StrEnum):
    """The scope of what a row counts: everything (its name is ''), a queue, or a type."""

    SERVICE = "service"
    QUEUE = "queue"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of time, with what ended in it.

    Attributes:
        completed, failed, cancelled, expired: jobs that came to this end.
        retried: attempts that failed, and whose jobs went on.
        waits, runs: of the last attempts of these jobs, in the buckets of `insight/histograms.py`.
        wait_seconds, run_seconds: of all of them together.
    """

    starts_at: datetime
    completed: int
    failed: int
    cancelled: int
    expired: int
    retried: int
    waits: tuple[int, ...]
    runs: tuple[int, ...]
    wait_seconds: float
    run_seconds: float


_ENDS = "starts_at, completed, failed, cancelled, expired, retried"
_COLUMNS = f"{_ENDS}, waits, runs, wait_seconds, run_seconds"

# Reading the histograms takes longer than everything else.
_WITHOUT_DURATIONS = f"{_ENDS}, '{{}}'::int[] AS waits, '{{}}'::int[] AS runs, 0::float, 0::float"

_SERIES = f"""
    SELECT {_COLUMNS} FROM rollups
    WHERE scope = %(scope)s AND name = %(name)s AND step_seconds = %(step_seconds)s AND starts_at >= %(since)s
    ORDER BY starts_at
"""

# Along rollups_age_idx: what is read is what was counted since, whatever else is kept.
_OF_EACH = f"""
    WITH recent AS MATERIALIZED (
        SELECT scope, name, {_COLUMNS} FROM rollups
        WHERE step_seconds = %(step_seconds)s AND starts_at >= %(since)s AND scope = %(scope)s
    ), named AS (
        SELECT name FROM recent GROUP BY name
        ORDER BY sum(completed + failed + cancelled + expired) DESC, name LIMIT {NAMES_MAX}
    )
    SELECT name, {{columns}} FROM recent JOIN named USING (name) ORDER BY name, starts_at
"""

# One descent of the primary key for each name, whatever was counted of it.
_NAMES = f"""
    WITH RECURSIVE known AS (
        (SELECT name, 1 AS number FROM rollups WHERE scope = %(scope)s ORDER BY name LIMIT 1)
        UNION ALL
        SELECT next.name, known.number + 1 FROM known CROSS JOIN LATERAL (
            SELECT name FROM rollups WHERE scope = %(scope)s AND name > known.name ORDER BY name LIMIT 1
        ) AS next
        WHERE known.number < {NAMES_MAX}
    )
    SELECT name FROM known
"""


def series(
    connection: Connection, scope: RollupScope, name: str, *, step_seconds: int, since: datetime
) -> list[Step]:
    """Read the steps of a queue, a type or the service in which something ended, in the order of time.

    Steps are 10, 60 or 3,600 seconds long (`rollup_steps.py`). Those that began before `since` are left out.
    """
    parameters = {"scope": scope.value, "name": name, "step_seconds": step_seconds, "since": since}
    return [_step(row) for row in fetch_all(connection, _SERIES, parameters)]


def series_of_each(
    connection: Connection, scope: RollupScope, *, step_seconds: int, since: datetime, durations: bool = True
) -> dict[str, list[Step]]:
    """Read the same of all queues or types in which something ended, by name; of very many, the busiest.

    Without `durations` only what ended is read, which is much faster: `waits` and `runs` are empty.
    """
    parameters = {"scope": scope.value, "step_seconds": step_seconds, "since": since}
    sql = _OF_EACH.format(columns=_COLUMNS if durations else _WITHOUT_DURATIONS)
    found: dict[str, list[Step]] = {}
    for row in fetch_all(connection, sql, parameters):
        found.setdefault(row[0], []).append(_step(row[1:]))
    return found


def names(connection: Connection, scope: RollupScope) -> list[str]:
    """Read the queues or types of which anything is counted, by name; at most `NAMES_MAX`."""
    return [row[0] for row in fetch_all(connection, _NAMES, {"scope": scope.value})]


def counted_up_to(connection: Connection, *, step_seconds: int) -> datetime | None:
    """Read until when steps of this length are counted; None: no roller has ever run."""
    sql = "SELECT up_to FROM rollup_progress WHERE step_seconds = %(step_seconds)s"
    row = fetch_one(connection, sql, {"step_seconds": step_seconds})
    return row[0] if row else None


def _step(row: Values) -> Step:
    starts_at, completed, failed, cancelled, expired, retried, waits, runs, wait_seconds, run_seconds = row
    return Step(
        starts_at=starts_at,
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        expired=expired,
        retried=retried,
        waits=tuple(waits),
        runs=tuple(runs),
        wait_seconds=wait_seconds,
        run_seconds=run_seconds,
    )
