"""The dispatcher's questions: which rows are due, and which ready rows come next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db import retry_on_conflict
from goqueue.store.queues import CLOSED, GOVERNED
from goqueue.store.rows import fetch_all

# The inner select walks jobs_waiting_idx in its order and stops at the first row whose time has not come, or
# at the limit. Behind a subselect the planner cannot see the time: seeing it, it expects next to no row to be
# due, reads all that are and sorts them: for a million that are due at midnight, a million for each batch.
_MAKE_DUE = """
    WITH due AS MATERIALIZED (
        SELECT ctid AS place FROM jobs
        WHERE status = 'queued' AND rank IS NULL AND available_at <= (SELECT now())
        ORDER BY available_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET rank = available_at - make_interval(secs => priority * %(head_start)s)
    WHERE ctid = ANY (ARRAY (SELECT place FROM due))
    RETURNING queue
"""

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

_NEXT_QUARANTINED = f"""
    SELECT jobs.queue, jobs.id, jobs.fence, jobs.rank, jobs.type
    FROM jobs LEFT JOIN queues ON queues.name = jobs.queue
    WHERE status = 'queued' AND rank IS NOT NULL AND quarantined AND {CLOSED} IS NOT TRUE
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


@retry_on_conflict
def make_due(connection: Connection, *, head_start_seconds: float, limit: int = 1000) -> int:
    """Give rows whose time has come their place in the order; how many there were, at most `limit`."""
    return len(fetch_all(connection, _MAKE_DUE, {"head_start": head_start_seconds, "limit": limit}))


def next_ready(connection: Connection, wanted: Mapping[str, Wanted]) -> list[ReadyJob]:
    """The wanted ready rows of each queue that is not paused, by rank."""
    records = [
        {
            "queue": queue,
            "count": want.count,
            "rank": want.behind[0] if want.behind else "-infinity",
            "id": want.behind[1] if want.behind else 0,
        }
        for queue, want in wanted.items()
    ]
    return [
        ReadyJob(*row)
        for row in fetch_all(connection, _NEXT_READY, {"wanted": orjson.dumps(records).decode()})
    ]


def next_quarantined(connection: Connection, limit: int) -> list[ReadyJob]:
    """The first `limit` suspects that wait to run alone: the fewest deaths first, then by rank."""
    return [ReadyJob(*row) for row in fetch_all(connection, _NEXT_QUARANTINED, {"limit": limit})]
