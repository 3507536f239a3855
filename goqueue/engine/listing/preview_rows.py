"""A look at the jobs of a filter before something is done to all of them: how many, and the first.

What it costs does not grow with their number: so many are counted, and beyond that there is an estimate.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import FINGERPRINT, fetch_all, fetch_one
from goqueue.engine.listing import walk_rows as job_walks
from goqueue.engine.listing.filters import JobFilter, Terms, terms_of
from goqueue.engine.listing.kept_count_rows import KIND_OF_FAILURE, total_of
from goqueue.jobs import JobStatus

__all__ = ["Sighted", "look"]

#: So many rows are counted where the index has all that is asked for, and where each is looked at.
INDEXED_MAX = 10_000
LOOKED_AT_MAX = 2_000

_COUNT = """
    SELECT count(*), count(*) FROM (SELECT FROM {ids_source} WHERE {range} LIMIT %(look)s) AS looked_at
"""

_COUNT_FITTING = """
    SELECT count(*), count(*) FILTER (WHERE {fits}) FROM (
        SELECT jobs.* FROM {source} WHERE {range} LIMIT %(look)s
    ) AS jobs
"""

# In the order of their index: the oldest first, or of queued jobs those whose turn comes next.
_FIRST = """
    SELECT id FROM (
        SELECT jobs.* FROM {source} WHERE {range} {order} LIMIT %(look)s
    ) AS jobs
    WHERE {fits} LIMIT %(limit)s
"""

_QUEUED = ["ready", "waiting", "quarantined"]

#: Filters of these alone have a kept count.
_COUNTED_BY = {"queue", "status", "fingerprint"}


class Sighted(NamedTuple):
    """The number of jobs that a look found, and the first of them.

    Attributes:
        total: how many jobs there are; where that is not `exact`, an estimate, or, of a filter that searches,
            how many were found at least.
        ids: the first of them, in their order.
    """

    total: int
    exact: bool
    ids: list[int]


def look(connection: Connection, wanted: JobFilter, *, up_to_id: int, limit: int) -> Sighted:
    """Look at the jobs of a filter up to an id: how many there are, and at most `limit` of the first."""
    if wanted.searches:
        walk = job_walks.walk(
            connection, wanted, limit=job_walks.LOOK_MAX, below=up_to_id + 1, newest_first=False
        )
        return Sighted(len(walk.ids), walk.reached is None, walk.ids[:limit])
    terms = terms_of(connection, wanted, ordered=False)
    parameters = terms.between(0, up_to_id + 1)
    most = LOOKED_AT_MAX if terms.conditions else INDEXED_MAX
    sql = terms.format(_COUNT_FITTING if terms.conditions else _COUNT)
    looked, fitting = fetch_all(connection, sql, parameters | {"look": most})[0]
    ids = _first(connection, wanted, terms, up_to_id, limit)
    if looked < most:
        return Sighted(fitting, exact=True, ids=ids)
    return Sighted(max(fitting, _estimate(connection, wanted, terms)), exact=False, ids=ids)


def _first(connection: Connection, wanted: JobFilter, counted: Terms, up_to_id: int, limit: int) -> list[int]:
    is_queued = wanted.status is JobStatus.QUEUED
    terms = counted if is_queued else terms_of(connection, wanted)
    order = "" if is_queued else f"ORDER BY {terms.oldest_first}"
    sql = terms.format(_FIRST.replace("{order}", order))
    parameters = terms.between(0, up_to_id + 1) | {"look": LOOKED_AT_MAX // 2, "limit": limit}
    return sorted(row[0] for row in fetch_all(connection, sql, parameters))


def _estimate(connection: Connection, wanted: JobFilter, terms: Terms) -> int:
    """About how many there are: as the scheduler counted them lately, or by the planner's statistics."""
    said = {name for name, value in wanted if value is not None}
    if said <= _COUNTED_BY and wanted.status is not JobStatus.COMPLETED:
        if wanted.fingerprint is not None:
            kept = None if wanted.queue else total_of(connection, [KIND_OF_FAILURE], wanted.fingerprint)
        elif wanted.status is not None:
            kinds = _QUEUED if wanted.status is JobStatus.QUEUED else [wanted.status.value]
            kept = total_of(connection, kinds, wanted.queue)
        else:
            kept = None
        if kept is not None:
            return int(kept)
    explained = fetch_one(
        connection, f"EXPLAIN (FORMAT JSON) SELECT FROM jobs WHERE {_plain(wanted)}", terms.between(0, 2**62)
    )
    assert explained is not None
    return int(explained[0][0]["Plan"]["Plan Rows"])


def _plain(wanted: JobFilter) -> str:
    """The filter as the planner's statistics know it, without the ranges of any index."""
    conditions = {
        "id > %(above)s AND id < %(below)s": wanted.created_after or wanted.created_before,
        "queue = %(queue)s": wanted.queue,
        "type = %(type)s": wanted.type,
        f"status = '{wanted.status and wanted.status.value}'": wanted.status,
        f"{FINGERPRINT} = %(fingerprint)s": wanted.fingerprint,
        "id = ANY(%(ids)s::bigint[])": wanted.ids,
        "%(tag)s = ANY (tags)": wanted.tag,
    }
    return " AND ".join(condition for condition, value in conditions.items() if value is not None) or "true"
