"""Looking for jobs by what no index has, a bounded number of rows at a time.

A walk follows the index of the filter's range and has each row looked at. It stops when it has found enough,
or has looked at enough, and says how far it came: the next one goes on there. So no request reads the whole
table, however rare a job is that it looks for.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one
from goqueue.engine.listing.filters import JobFilter, Terms, terms_of
from goqueue.jobs import MAX_JOB_ID

__all__ = ["LOOK_MAX", "Walk", "walk"]

#: Rows that one walk looks at.
LOOK_MAX = 10_000

#: Jobs that were created in a transaction that stayed open for longer may be missed at the end of a span of
#: time. It is less than work on many jobs allows for: where many jobs are created, a walk would look at
#: nothing but those of the time after the span.
LONGEST_TRANSACTION = "interval '15 seconds'"

#: A walk over large payloads ends sooner.
LOOK_SECONDS = 1.0

#: Rows of its first step; each further one is four times as large. Where most rows fit, one step is enough.
FIRST_STEP = 250

# The conditions stand above the LIMIT: what is bounded is what is looked at, not what is found.
_STEP = """
    SELECT count(*), min(id), max(id), array_agg(id) FILTER (WHERE {fits})
    FROM (SELECT jobs.* FROM {source} WHERE {range} ORDER BY {order} LIMIT %(look)s) AS jobs
"""


class Walk(NamedTuple):
    """The result of a walk over rows.

    Attributes:
        ids: in the order of the walk.
        looked: how many rows were looked at.
        reached: the last id that was looked at; None: it came to the end of the range.
    """

    ids: list[int]
    looked: int
    reached: int | None


def walk(
    connection: Connection,
    wanted: JobFilter,
    *,
    limit: int,
    above: int = 0,
    below: int = MAX_JOB_ID,
    newest_first: bool = True,
) -> Walk:
    """Read the first jobs of a filter, at most `limit`, between two ids (neither of them included)."""
    terms = terms_of(connection, wanted, longest=LONGEST_TRANSACTION)
    sql = _step_of(terms, newest_first=newest_first)
    until = time.monotonic() + LOOK_SECONDS
    ids: list[int] = []
    looked, step = 0, limit + 1 if not terms.conditions else max(limit + 1, FIRST_STEP)
    while True:
        look = min(step, LOOK_MAX - looked)
        row = fetch_one(connection, sql, terms.between(above, below) | {"look": look})
        assert row is not None
        count, lowest, highest, fitting = row
        ids += sorted(fitting or (), reverse=newest_first)
        looked += count
        if len(ids) > limit:
            return Walk(ids[:limit], looked, ids[limit - 1])
        if count < look:
            return Walk(ids, looked, None)
        if looked >= LOOK_MAX or time.monotonic() > until:
            return Walk(ids, looked, lowest if newest_first else highest)
        above, below = (above, lowest) if newest_first else (highest, below)
        step *= 4


def _step_of(terms: Terms, *, newest_first: bool) -> str:
    return _STEP.format(
        fits=" AND ".join(terms.conditions) or "true",
        source=terms.source,
        range=terms.range,
        order=terms.newest_first if newest_first else terms.oldest_first,
    )
