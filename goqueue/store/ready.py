"""The dispatcher's questions: which rows are due, and which ready rows come next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.rules.bounds import FIRST_MOMENT
from goqueue.store.queues import CLOSED, GOVERNED
from goqueue.store.rows import FIRST, fetch_all, fetch_one

#: So many rows become due in one statement.
DUE_LIMIT = 1000

#: So many newcomers of a queue are told at most.
NEWCOMERS_LIMIT = 1000

# The inner select walks jobs_waiting_idx in its order and stops at the first row whose time has not come, or
# at the limit. Behind a subselect the planner cannot see the time: seeing it, it expects next to no row to be
# due, reads all that are and sorts them: for a million that are due at midnight, a million for each batch.
# The comparison of rows keeps it from taking both bounds for a narrow range, which would come to the same.
# Looks begin at the first moment that is stored, and not before all of them: what lies beyond is set aside
# (`goqueue/store/set_aside.py`).
_MAKE_DUE = f"""
    WITH due AS MATERIALIZED (
        SELECT ctid AS place FROM jobs
        WHERE status = 'queued' AND rank IS NULL AND available_at <= (SELECT now())
          AND (available_at, id) > ((SELECT %(after)s::timestamptz), 0)
        ORDER BY available_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET rank = GREATEST({FIRST}, available_at - make_interval(secs => priority * %(head_start)s))
    WHERE ctid = ANY (ARRAY (SELECT place FROM due))
    RETURNING queue
"""

# What may run beside others, in a process that has no other suspect.
_BESIDE = "status = 'queued' AND rank IS NOT NULL AND quarantined AND suspicion < 2"

# One index descent a queue (jobs_ready_idx): the lateral keeps the planner from sorting a backlog, and the
# row comparison starts the scan behind what was read before.
_NEXT_READY = f"""
    SELECT wanted.queue, ready.id, ready.fence, ready.rank, ready.type
    FROM json_to_recordset(%(wanted)s::json) AS wanted (queue text, count int, rank timestamptz, id bigint)
    JOIN queues ON queues.name = wanted.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT id, fence, rank, type FROM jobs
        WHERE jobs.queue = wanted.queue AND status = 'queued' AND rank IS NOT NULL AND NOT quarantined
          AND (rank, id) > (wanted.rank, wanted.id)
        ORDER BY rank, id LIMIT wanted.count
    ) AS ready
    ORDER BY wanted.queue, ready.rank, ready.id
"""

# `status || ''` keeps the planner from jobs_ready_idx, which it would walk up to the mark: rows are asked for
# by their ids because that is a long way.
_NEWCOMERS = f"""
    SELECT mark.queue, ready.id, ready.fence, ready.rank, ready.type
    FROM json_to_recordset(%(marks)s::json) AS mark (queue text, rank timestamptz, id bigint, after bigint)
    JOIN queues ON queues.name = mark.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT id, fence, rank, type FROM jobs
        WHERE jobs.queue = mark.queue AND jobs.id > mark.after AND status || '' = 'queued' AND NOT quarantined
          AND (rank, id) <= (mark.rank, mark.id) AND rank >= {FIRST}
        ORDER BY rank, id LIMIT %(limit)s
    ) AS ready
    ORDER BY mark.queue, ready.rank, ready.id
"""

# One descent of jobs_suspects_idx for each queue that has a suspect, and so one where there is none.
_NEXT_SUSPECTS = f"""
    WITH RECURSIVE suspected (queue) AS (
        (SELECT queue FROM jobs WHERE {_BESIDE} ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT next.queue FROM suspected CROSS JOIN LATERAL (
            SELECT queue FROM jobs WHERE {_BESIDE} AND queue > suspected.queue ORDER BY queue LIMIT 1
        ) AS next
    )
    SELECT ready.* FROM suspected JOIN queues ON queues.name = suspected.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT jobs.queue, id, fence, rank, type FROM jobs
        WHERE {_BESIDE} AND jobs.queue = suspected.queue
          AND (admitted OR ({GOVERNED} IS NOT TRUE
                            AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
        ORDER BY rank, id LIMIT %(limit)s
    ) AS ready
    ORDER BY ready.queue, ready.rank, ready.id
"""

_NEXT_QUARANTINED = f"""
    SELECT jobs.queue, jobs.id, jobs.fence, jobs.rank, jobs.type
    FROM jobs LEFT JOIN queues ON queues.name = jobs.queue
    WHERE status = 'queued' AND rank IS NOT NULL AND quarantined AND suspicion = 2
      AND {CLOSED} IS NOT TRUE
      AND (admitted OR ({GOVERNED} IS NOT TRUE
                        AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
    ORDER BY deaths, rank, jobs.id LIMIT %(limit)s
"""


class ReadyJob(NamedTuple):
    """A row that may start now: what a push message is made of."""

    queue: str
    id: int
    fence: int
    rank: datetime
    type: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many rows are wanted of a queue, and behind which (rank, id); None is from the first on."""

    count: int
    behind: tuple[datetime, int] | None = None


@dataclass(frozen=True, slots=True)
class Below:
    """Ready rows at or before a (rank, id) whose ids are above `after_id`."""

    place: tuple[datetime, int]
    after_id: int


@retry_on_conflict
def make_due(
    connection: Connection,
    *,
    head_start_seconds: float,
    limit: int = DUE_LIMIT,
    after: datetime | None = None,
) -> int:
    """Give rows whose time has come, and that came after `after`, their place in the order.

    Returns how many there were, at most `limit`.
    """
    parameters = {"head_start": head_start_seconds, "limit": limit, "after": after or FIRST_MOMENT}
    return len(fetch_all(connection, _MAKE_DUE, parameters))


def next_ready(connection: Connection, wanted: Mapping[str, Wanted]) -> list[ReadyJob]:
    """The wanted ready rows of each queue that is not paused, by rank."""
    records = [
        {
            "queue": queue,
            "count": want.count,
            "rank": want.behind[0] if want.behind else FIRST_MOMENT,
            "id": want.behind[1] if want.behind else 0,
        }
        for queue, want in wanted.items()
    ]
    return [
        ReadyJob(*row)
        for row in fetch_all(connection, _NEXT_READY, {"wanted": orjson.dumps(records).decode()})
    ]


def newcomers(connection: Connection, marks: Mapping[str, Below]) -> list[ReadyJob]:
    """The new ready rows of each queue below its mark, by rank; at most `NEWCOMERS_LIMIT` of each."""
    records = [
        {"queue": queue, "rank": below.place[0], "id": below.place[1], "after": below.after_id}
        for queue, below in marks.items()
    ]
    parameters = {"marks": orjson.dumps(records).decode(), "limit": NEWCOMERS_LIMIT}
    return [ReadyJob(*row) for row in fetch_all(connection, _NEWCOMERS, parameters)]


def present(connection: Connection) -> tuple[datetime, int]:
    """PostgreSQL's time, and the highest id of all jobs (0 where there is none)."""
    row = fetch_one(connection, "SELECT now(), (SELECT coalesce(max(id), 0) FROM jobs)", {})
    assert row is not None
    return row[0], row[1]


def next_suspects(connection: Connection, limit: int) -> list[ReadyJob]:
    """The first `limit` suspects of each queue that may run beside others, by queue and rank."""
    return [ReadyJob(*row) for row in fetch_all(connection, _NEXT_SUSPECTS, {"limit": limit})]


def next_quarantined(connection: Connection, limit: int) -> list[ReadyJob]:
    """The first `limit` suspects that wait to run alone: the fewest deaths first, then by rank."""
    return [ReadyJob(*row) for row in fetch_all(connection, _NEXT_QUARANTINED, {"limit": limit})]
