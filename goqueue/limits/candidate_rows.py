"""Candidates: which ready jobs of a limited queue may be let in next, by rank or by turns of keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.fragments import (
    READY_JOBS,
    READY_OF_KEYS,
    READY_ORDER,
    READY_OUTSIDE,
    SUSPECT,
    ready_between,
)
from goqueue.db.statements import fetch_all
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.ready_rows import TRIED
from goqueue.engine.runnable_rows import ABLE, able_parameter, runnable_by
from goqueue.limits.rules import KEYLESS, Candidate

__all__ = ["Runnable", "by_rank", "heads", "ring", "suspects"]

#: What the workers of the queue can run, each once; None: all that there is.
Runnable = Sequence[KnownTypes] | None

_CANDIDATE = f"""id, fence, rank, type, coalesce(concurrency_key, ''), rate_cost, quarantined, suspicion = 2,
    {TRIED}, requires, slots, limit_cost"""

# Whose type no worker knows, whose payload none can read, or who requires what none has, is not let in: it
# would hold a slot. The CASE keeps the planner from guessing how many these are.
_RUNNABLE = f"""CASE
    WHEN %(types)s::text[] IS NULL THEN true
    WHEN unreadable_until > now() OR requires IS NOT NULL THEN {runnable_by("%(queue)s")}
    ELSE type = ANY (%(types)s::text[]) END"""

_BY_RANK = f"""
    WITH {ABLE}
    SELECT {_CANDIDATE} FROM {READY_JOBS}
    WHERE {ready_between("%(queue)s")} AND {READY_OUTSIDE} AND type <> ALL(%(except_types)s) AND {_RUNNABLE}
    ORDER BY {READY_ORDER} LIMIT %(count)s
"""
_KEYLESS = _BY_RANK.replace("WHERE (queue", "WHERE concurrency_key IS NULL AND (queue")

# The keys behind `after` that have a ready job, one descent of ready_jobs_key_idx each: a hundred thousand
# keys cost a round no more than a thousand do.
_RING = f"""
    WITH RECURSIVE ring (key, steps) AS (
        (SELECT open_key, 1 FROM ready_jobs
         WHERE queue_name = %(queue)s AND {READY_OF_KEYS} AND open_key > %(after)s
         ORDER BY queue_name, open_key LIMIT 1)
        UNION ALL
        SELECT next.key, ring.steps + 1 FROM ring CROSS JOIN LATERAL (
            SELECT open_key AS key FROM ready_jobs
            WHERE queue_name = %(queue)s AND {READY_OF_KEYS} AND open_key > ring.key
            ORDER BY queue_name, open_key LIMIT 1
        ) AS next
        WHERE ring.steps < %(count)s
    )
    SELECT key FROM ring
"""

_HEADS = f"""
    WITH {ABLE}
    SELECT head.* FROM json_to_recordset(%(wanted)s::json) AS wanted (place int, key text, count int)
    CROSS JOIN LATERAL (
        SELECT {_CANDIDATE} FROM {READY_JOBS}
        WHERE queue_name = %(queue)s AND {READY_OF_KEYS} AND open_key = wanted.key
          AND type <> ALL(%(except_types)s) AND {_RUNNABLE}
        ORDER BY queue_name, open_key, ready_rank, job_id LIMIT wanted.count
    ) AS head
    ORDER BY wanted.place, head.rank, head.id
"""

# In strict order only the oldest unfinished job of a key may start, if it may: one that runs, waits for its
# time, for its backoff or for others holds up those behind it.
_OLDEST = f"""
    WITH {ABLE}
    SELECT head.* FROM json_to_recordset(%(wanted)s::json) AS wanted (place int, key text, count int)
    CROSS JOIN LATERAL (
        SELECT {_CANDIDATE} FROM (
            SELECT * FROM jobs
            WHERE queue = %(queue)s AND unfinished_key = wanted.key
            ORDER BY queue, unfinished_key, id LIMIT 1
        ) AS oldest
        WHERE place = 'ready' AND {READY_OUTSIDE} AND type <> ALL(%(except_types)s) AND {_RUNNABLE}
    ) AS head
    ORDER BY wanted.place
"""

# Suspects start by ways of their own, but they need a slot as any other job; in strict order also their turn.
_SUSPECTS = f"""
    WITH {ABLE}
    SELECT {_CANDIDATE} FROM (
        SELECT *, row_number() OVER (PARTITION BY suspicion = 2 ORDER BY deaths, rank, id) AS turn FROM jobs
        WHERE queue = %(queue)s AND {SUSPECT} AND NOT admitted
          AND type <> ALL(%(except_types)s) AND {_RUNNABLE}
          AND coalesce(concurrency_key, '') <> ALL(%(except_keys)s)
          AND NOT (%(fifo)s AND concurrency_key IS NOT NULL AND EXISTS (
              SELECT FROM jobs AS older WHERE older.queue = %(queue)s
              AND older.unfinished_key = jobs.concurrency_key AND older.id < jobs.id))
    ) AS suspect
    WHERE turn <= %(count)s
    ORDER BY suspicion = 2, deaths, rank, id
"""


def by_rank(
    connection: Connection,
    queue: str,
    count: int,
    *,
    keyless: bool = False,
    except_types: Iterable[str] = (),
    runnable: Runnable = None,
) -> list[Candidate]:
    """Read the first `count` jobs that wait to be let in, by rank; of those without a key, if `keyless`."""
    parameters: dict[str, Any] = {"queue": queue, "count": count, "except_types": list(except_types)}
    parameters |= _known(queue, runnable)
    return _candidates(connection, _KEYLESS if keyless else _BY_RANK, parameters)


def ring(connection: Connection, queue: str, *, after: str, count: int) -> list[str]:
    """Read up to `count` keys with a ready job, in the order of the ring: behind `after`, then around."""
    parameters: dict[str, Any] = {"queue": queue, "after": after, "count": count}
    keys = [row[0] for row in fetch_all(connection, _RING, parameters)]
    if len(keys) < count and after != KEYLESS:
        parameters |= {"after": KEYLESS, "count": count - len(keys)}
        keys += [row[0] for row in fetch_all(connection, _RING, parameters) if row[0] <= after]
    return keys


def heads(
    connection: Connection,
    queue: str,
    counts: Mapping[str, int],
    *,
    fifo: bool,
    except_types: Iterable[str] = (),
    runnable: Runnable = None,
) -> dict[str, list[Candidate]]:
    """Read the first jobs of each key, by rank; in strict order its oldest unfinished, if it may start."""
    wanted = [
        {"place": place, "key": key, "count": count} for place, (key, count) in enumerate(counts.items())
    ]
    parameters = {
        "queue": queue,
        "wanted": orjson.dumps(wanted).decode(),
        "except_types": list(except_types),
        **_known(queue, runnable),
    }
    found: dict[str, list[Candidate]] = {}
    for candidate in _candidates(connection, _OLDEST if fifo else _HEADS, parameters):
        found.setdefault(candidate.key, []).append(candidate)
    return found


def suspects(
    connection: Connection,
    queue: str,
    count: int,
    *,
    fifo: bool,
    except_types: Iterable[str] = (),
    runnable: Runnable = None,
    except_keys: Iterable[str] = (),
) -> list[Candidate]:
    """Read the first `count` suspects that wait to run beside others, and those that wait to run alone."""
    parameters = {
        "queue": queue,
        "count": count,
        "fifo": fifo,
        "except_types": list(except_types),
        "except_keys": list(except_keys),
        **_known(queue, runnable),
    }
    return _candidates(connection, _SUSPECTS, parameters)


def _known(queue: str, runnable: Runnable) -> dict[str, Any]:
    types = None if runnable is None else sorted({name for known in runnable for name in known.types})
    return {"types": types, **able_parameter({queue: runnable or ()})}


def _candidates(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> list[Candidate]:
    return [Candidate(*row) for row in fetch_all(connection, sql, parameters)]
