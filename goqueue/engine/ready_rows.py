"""The dispatcher's questions: which rows are due, and which ready rows come next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.config.bounds import FIRST_MOMENT
from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import (
    LATER,
    READY_JOBS,
    READY_ORDER,
    SUSPECT_ALONE,
    SUSPECT_BESIDE,
    fits,
    rank_of,
    ready_between,
)
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import FIRST, fetch_all, fetch_one
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.queue_rows import CLOSED, GOVERNED
from goqueue.engine.runnable_rows import ABLE, able_parameter, runnable_by
from goqueue.jobs import QUARANTINE_QUEUE

#: So many rows become due in one statement.
DUE_LIMIT = 1000

#: So many newcomers of a queue are told at most.
NEWCOMERS_LIMIT = 1000

# The inner select walks jobs_later_idx in its order and stops at the first row whose time has not come, or
# at the limit. Behind a subselect the planner cannot see the time: seeing it, it expects next to no row to be
# due, reads all that are and sorts them: for a million that are due at midnight, a million for each batch.
# The comparison of rows keeps it from taking both bounds for a narrow range, which would come to the same.
# Looks begin at the first moment that is stored, and not before all of them: what lies beyond is set aside
# (`goqueue/engine/transitions/set_aside.py`).
_MAKE_DUE = f"""
    WITH due AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE {LATER} AND available_at <= (SELECT now())
          AND (available_at, id) > ((SELECT %(after)s::timestamptz), 0)
        ORDER BY available_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET rank = GREATEST({FIRST}, {rank_of("available_at")})
    WHERE {rows_of("due")}
    RETURNING queue
"""

#: The schemas that could not read the payload of a job, as long as it waits for another one.
TRIED = "CASE WHEN unreadable_until > now() THEN unreadable_by END"

#: What the dispatcher reads of a row that may start.
_READY_COLUMNS = f"id, fence, rank, type, {TRIED} AS tried, requires, slots"
_READ = "ready.id, ready.fence, ready.rank::text, ready.type, ready.tried, ready.requires, ready.slots"

# Where not every worker of a queue can run everything, jobs that some cannot are left out (`sorted`): they
# may be many, and stand in front. The CASE keeps the planner from guessing how many these are.
_FOR_ALL = f"""CASE WHEN {{0}}.sorted
                   THEN ({{0}}.types IS NULL OR type = ANY ({{0}}.types))
                        AND (unreadable_until > now()) IS NOT TRUE
                        AND (requires IS NULL
                             OR ({fits("requires", "{0}.labels")} AND jobs.slots <= {{0}}.slots))
                   ELSE true END"""

#
# One index descent a queue (the primary key of `ready_jobs`): the lateral keeps the planner from sorting a
# backlog, and the row comparison starts the scan behind what was read before.
_NEXT_READY = f"""
    SELECT wanted.queue, {_READ}
    FROM json_to_recordset(%(wanted)s::json) AS wanted
        (queue text, count int, rank timestamptz, id bigint, sorted boolean, types text[], labels text[],
         slots int)
    JOIN queues ON queues.name = wanted.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT {_READY_COLUMNS} FROM {READY_JOBS}
        WHERE {ready_between("wanted.queue", "wanted.rank, wanted.id")}
          AND {_FOR_ALL.format("wanted")}
        ORDER BY {READY_ORDER} LIMIT wanted.count
    ) AS ready
    ORDER BY wanted.queue, ready.rank, ready.id
"""

# Along the newest jobs of the queue, and not along `ready_jobs` up to the mark: that is a long way.
_NEWCOMERS = f"""
    SELECT mark.queue, {_READ}
    FROM json_to_recordset(%(marks)s::json) AS mark
        (queue text, rank timestamptz, id bigint, after bigint, sorted boolean, types text[], labels text[],
         slots int)
    JOIN queues ON queues.name = mark.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT {_READY_COLUMNS} FROM jobs
        WHERE jobs.queue = mark.queue AND jobs.id > mark.after AND status = 'queued' AND NOT quarantined
          AND (rank, id) <= (mark.rank, mark.id) AND rank >= {FIRST}
          AND {_FOR_ALL.format("mark")}
        ORDER BY rank, id LIMIT %(limit)s
    ) AS ready
    ORDER BY mark.queue, ready.rank, ready.id
"""

# What is left out above, for those who can run it: jobs of types that not every worker of the queue knows,
# jobs whose payload some schema could not read, but not theirs, and jobs that require what not every worker
# has.
_NEXT_OF_LANES = f"""
    SELECT lane.number, lane.queue, {_READ}
    FROM json_to_recordset(%(lanes)s::json) AS lane
        (number int, queue text, count int, types text[], schemas text[], others text[], labels text[],
         slots int, labels_of_all text[], slots_of_all int, async_types text[], async_slots int)
    JOIN queues ON queues.name = lane.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT {_READY_COLUMNS} FROM {READY_JOBS}
        WHERE {ready_between("lane.queue")}
          AND CASE WHEN unreadable_until > now()
                   THEN type = ANY (lane.types) AND NOT unreadable_by && lane.schemas
                   WHEN requires IS NULL
                        OR ({fits("requires", "lane.labels_of_all")} AND jobs.slots <= lane.slots_of_all)
                   THEN type = ANY (lane.others)
                   ELSE type = ANY (lane.types) END
          AND (requires IS NULL
               OR ({fits("requires", "lane.labels")} AND jobs.slots <= CASE
                   WHEN type = ANY (lane.async_types) THEN lane.async_slots ELSE lane.slots END))
        ORDER BY {READY_ORDER} LIMIT lane.count
    ) AS ready
    ORDER BY lane.number, ready.rank, ready.id
"""

# One descent of jobs_suspect_queue_idx for each queue that has a suspect, and so one where there is none.
_NEXT_SUSPECTS = f"""
    WITH RECURSIVE {ABLE}, suspected (queue) AS (
        (SELECT queue FROM jobs WHERE {SUSPECT_BESIDE} ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT next.queue FROM suspected CROSS JOIN LATERAL (
            SELECT queue FROM jobs WHERE {SUSPECT_BESIDE} AND queue > suspected.queue ORDER BY queue LIMIT 1
        ) AS next
    )
    SELECT ready.queue, {_READ}
    FROM suspected JOIN queues ON queues.name = suspected.queue AND {CLOSED} IS NOT TRUE
    CROSS JOIN LATERAL (
        SELECT jobs.queue, {_READY_COLUMNS} FROM jobs
        WHERE {SUSPECT_BESIDE} AND jobs.queue = suspected.queue
          AND CASE WHEN suspected.queue = ANY (%(sorted)s::text[]) THEN {runnable_by("suspected.queue")}
                   ELSE true END
          AND (admitted OR ({GOVERNED} IS NOT TRUE
                            AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
        ORDER BY rank, id LIMIT %(limit)s
    ) AS ready
    ORDER BY ready.queue, ready.rank, ready.id
"""

_NEXT_QUARANTINED = f"""
    WITH {ABLE}
    SELECT jobs.queue, jobs.id, jobs.fence, jobs.rank::text, jobs.type, {TRIED}, requires, slots
    FROM jobs LEFT JOIN queues ON queues.name = jobs.queue
    WHERE {SUSPECT_ALONE}
      AND {CLOSED} IS NOT TRUE
      AND CASE WHEN %(is_known)s THEN {runnable_by(f"'{QUARANTINE_QUEUE}'")} ELSE true END
      AND (admitted OR ({GOVERNED} IS NOT TRUE
                        AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
    ORDER BY deaths, rank, jobs.id LIMIT %(limit)s
"""


class ReadyJob(NamedTuple):
    """A row that may start now: what a push message is made of.

    Attributes:
        rank: its place in the order as PostgreSQL writes it; thousands of times would be read in vain.
        tried: schemas that could not read its payload, while it waits for another one.
        requires: the labels that its worker has to have; None: it runs anywhere, and takes one slot.
        slots: how many threads of its worker it takes.
    """

    queue: str
    id: int
    fence: int
    rank: str
    type: str
    tried: list[str] | None = None
    requires: list[str] | None = None
    slots: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """The number of rows that are wanted of a queue, and behind which (rank, id); None: from the first on.

    Attributes:
        sorted: only rows that every worker of the queue can run: of these `types` (None: of any), that
            require none but these `labels` and take at most so many `slots`, and none that waits for a worker
            with another schema.
    """

    count: int
    behind: tuple[datetime | str, int] | None = None
    sorted: bool = False
    types: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()
    slots: int = 1


@dataclass(frozen=True, slots=True)
class LaneWanted:
    """The number of rows that are wanted of a queue, of what workers of one signature can run, and not all.

    Attributes:
        types, schemas: which these workers know.
        others: of the types, those that not every worker of the queue knows.
        labels, slots: what these workers have, and what every worker of the queue has, whatever the type.
        async_types, async_slots: types that take slots of the event loop, and how many of these there are.
    """

    queue: str
    count: int
    types: tuple[str, ...]
    schemas: tuple[str, ...]
    others: tuple[str, ...]
    labels: tuple[str, ...] = ()
    slots: int = 1
    labels_of_all: tuple[str, ...] = ()
    slots_of_all: int = 1
    async_types: tuple[str, ...] = ()
    async_slots: int = 0


@dataclass(frozen=True, slots=True)
class Below:
    """The ready rows up to a (rank, id), with ids above `after_id`; the rest as in Wanted."""

    place: tuple[datetime, int]
    after_id: int
    sorted: bool = False
    types: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()
    slots: int = 1


@retry_on_conflict
def make_due(
    connection: Connection,
    *,
    limit: int = DUE_LIMIT,
    after: datetime | None = None,
) -> int:
    """Give rows whose time has come, and that came after `after`, their place in the order.

    Returns how many there were, at most `limit`.
    """
    parameters = {"limit": limit, "after": after or FIRST_MOMENT}
    return len(fetch_all(connection, _MAKE_DUE, parameters))


def next_ready(connection: Connection, wanted: Mapping[str, Wanted]) -> list[ReadyJob]:
    """Read the wanted ready rows of each queue that is not paused, by rank."""
    records = [
        {
            "queue": queue,
            "count": want.count,
            "rank": want.behind[0] if want.behind else FIRST_MOMENT,
            "id": want.behind[1] if want.behind else 0,
        }
        | _sorting(want)
        for queue, want in wanted.items()
    ]
    return [
        ReadyJob(*row)
        for row in fetch_all(connection, _NEXT_READY, {"wanted": orjson.dumps(records).decode()})
    ]


def newcomers(connection: Connection, marks: Mapping[str, Below]) -> list[ReadyJob]:
    """Read the new ready rows of each queue below its mark, by rank; at most `NEWCOMERS_LIMIT` of each."""
    records = [
        {"queue": queue, "rank": below.place[0], "id": below.place[1], "after": below.after_id}
        | _sorting(below)
        for queue, below in marks.items()
    ]
    parameters = {"marks": orjson.dumps(records).decode(), "limit": NEWCOMERS_LIMIT}
    return [ReadyJob(*row) for row in fetch_all(connection, _NEWCOMERS, parameters)]


def next_of_lanes(connection: Connection, lanes: Sequence[LaneWanted]) -> list[list[ReadyJob]]:
    """Read the wanted ready rows of each lane, by rank."""
    records = [{"number": number, **asdict(lane)} for number, lane in enumerate(lanes)]
    found: list[list[ReadyJob]] = [[] for _ in lanes]
    for row in fetch_all(connection, _NEXT_OF_LANES, {"lanes": orjson.dumps(records).decode()}):
        found[row[0]].append(ReadyJob(*row[1:]))
    return found


def _sorting(look: Wanted | Below) -> dict[str, Any]:
    if not look.sorted:
        return {}
    return {"sorted": True, "types": look.types, "labels": look.labels, "slots": look.slots}


def present(connection: Connection) -> tuple[datetime, int]:
    """Read PostgreSQL's time, and the highest id of all jobs (0 where there is none)."""
    row = fetch_one(connection, "SELECT now(), (SELECT coalesce(max(id), 0) FROM jobs)", {})
    assert row is not None
    return row[0], row[1]


def next_suspects(
    connection: Connection, limit: int, *, able: Mapping[str, Iterable[KnownTypes]] | None = None
) -> list[ReadyJob]:
    """Read the first `limit` suspects of each queue that may run beside others, by queue and rank.

    `able`: of these queues only those that workers who can run so much can run.
    """
    able = able or {}
    parameters = {"limit": limit, "sorted": list(able), **able_parameter(able)}
    return [ReadyJob(*row) for row in fetch_all(connection, _NEXT_SUSPECTS, parameters)]


def next_quarantined(
    connection: Connection, limit: int, *, able: Iterable[KnownTypes] | None = None
) -> list[ReadyJob]:
    """Read the first `limit` suspects that wait to run alone: the fewest deaths first, then by rank.

    `able`: only those that workers who can run so much can run.
    """
    parameters = {
        "limit": limit,
        "is_known": able is not None,
        **able_parameter({QUARANTINE_QUEUE: able or ()}),
    }
    return [ReadyJob(*row) for row in fetch_all(connection, _NEXT_QUARANTINED, parameters)]
