"""Unique keys: who has them. One row a key, and its primary key is what makes two holders impossible.

A create takes its key with INSERT … ON CONFLICT DO NOTHING. Whoever comes second waits there until the first
one's transaction ends; after its commit there is a conflict. Then the key's row is locked, and only the next
statement asks what its holder is: its snapshot is younger than the lock, so it sees what whoever had the lock
before has committed. Asking in the same statement (a subquery of ON CONFLICT DO UPDATE, or a join of the
locking SELECT) would look with a snapshot from before the wait, find the new holder's row missing or the old
holder finished, and let a duplicate in.

A failed or cancelled holder that is run again takes its key by the same steps, so the two cannot pass each
other. In a REPEATABLE READ transaction of a caller PostgreSQL refuses what it could not see (a
serialization failure), which is why taking a key always writes its row.

Locks are taken in this order: keys by their text, then jobs by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.errors import UniqueKeyHeldError
from goqueue.jobs import JobStatus, UniqueRule

__all__ = [
    "Forgotten",
    "KeyHolder",
    "bind",
    "forget",
    "holder_of",
    "holders_of",
    "keyed",
    "lock",
    "refuse",
    "take_again",
]

_KEYS = "SELECT key FROM json_array_elements_text(%(keys)s::json) AS key"

# Job 0 is nobody, until `bind` in the same transaction; no one else sees it.
_RESERVE = f"""
    INSERT INTO unique_keys (key, job_id, states) SELECT key, 0, '{{}}' FROM ({_KEYS}) AS k ORDER BY key
    ON CONFLICT DO NOTHING RETURNING key
"""

# One index descent a key, whatever the planner believes of the table: as `key = ANY (…)` it read the whole
# table and compared every row with ten thousand keys.
_LOCK = f"""
    SELECT held.key FROM (SELECT key FROM ({_KEYS}) AS k ORDER BY key) AS wanted
    CROSS JOIN LATERAL (
        SELECT key FROM unique_keys WHERE unique_keys.key = wanted.key LIMIT 1 FOR UPDATE
    ) AS held
"""

_HOLDERS = f"""
    SELECT wanted.key, job.id, job.type, job.status FROM ({_KEYS}) AS wanted
    CROSS JOIN LATERAL (
        SELECT job_id, states, until FROM unique_keys WHERE unique_keys.key = wanted.key LIMIT 1
    ) AS held
    CROSS JOIN LATERAL (SELECT id, type, status FROM jobs WHERE jobs.id = held.job_id LIMIT 1) AS job
    WHERE job.status = ANY (held.states) AND (held.until > now()) IS NOT FALSE
"""

_BIND = """
    WITH bound AS MATERIALIZED (
        SELECT taker.*, held.place
        FROM json_to_recordset(%(bound)s::json) AS taker (
            key text, job_id bigint, states text[], seconds float, most int, most_bytes int)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM unique_keys WHERE unique_keys.key = taker.key LIMIT 1
        ) AS held
    )
    UPDATE unique_keys SET job_id = bound.job_id, states = bound.states, created_at = now(),
                           until = now() + make_interval(secs => bound.seconds),
                           collect_max = bound.most, collect_max_bytes = bound.most_bytes
    FROM bound
    WHERE unique_keys.ctid = bound.place AND unique_keys.ctid = ANY (ARRAY (SELECT place FROM bound))
    RETURNING unique_keys.key
"""

# What has collected needs its key no more: it is that of the job that collects now.
_KEYED = """
    SELECT id, unique_key FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND unique_key IS NOT NULL
      AND NOT EXISTS (SELECT FROM unique_keys WHERE key = unique_key AND collect_max IS NOT NULL)
"""

_REPLAYABLE = """
    SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('failed','cancelled') ORDER BY id
"""

# A row keeps its last holder's states and window; one that had to be made anew gets the usual states.
_BIND_AGAIN = """
    UPDATE unique_keys SET job_id = jobs.id, created_at = jobs.created_at,
        states = CASE WHEN states = '{}' THEN '{queued,blocked,running}'::text[] ELSE states END,
        until = jobs.created_at + (until - unique_keys.created_at)
    FROM jobs WHERE unique_keys.key = %(key)s AND jobs.id = %(id)s
    RETURNING key
"""

# Only keys that nobody will take again: a completed or expired job stays so. What was read is compared again
# in the DELETE, which sees what others committed meanwhile: a key that a new job has taken names another job.
_FORGET = """
    WITH page AS MATERIALIZED (
        SELECT key, job_id, states, until FROM unique_keys
        WHERE key > %(after)s ORDER BY key LIMIT %(limit)s
    ), free AS MATERIALIZED (
        SELECT page.key, page.job_id FROM page
        LEFT JOIN LATERAL (SELECT status FROM jobs WHERE jobs.id = page.job_id LIMIT 1) AS job ON true
        WHERE job.status IS NULL
           OR (job.status IN ('completed','expired')
               AND (job.status <> ALL (page.states) OR page.until <= now()))
    ), gone AS (
        DELETE FROM unique_keys USING free
        WHERE unique_keys.key = free.key AND unique_keys.job_id = free.job_id
        RETURNING unique_keys.key
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM page), (SELECT max(key) FROM page)
"""

#: The cleaner may delete a key between the two statements; then it is free.
_TRIES = 10


class KeyHolder(NamedTuple):
    """The job that has a key, as it was when it was read."""

    id: int
    type: str
    status: JobStatus


class Forgotten(NamedTuple):
    """The number of keys of a page that were deleted, and behind which to go on; None at the end."""

    keys: int
    after_key: str | None


def lock(connection: Connection, keys: Iterable[str]) -> None:
    """Lock the rows of these keys until the end of the transaction, making those that there are not."""
    missing = set(keys)
    for _ in range(_TRIES):
        for statement in (_RESERVE, _LOCK):
            if not missing:
                return
            parameters = {"keys": orjson.dumps(sorted(missing)).decode()}
            missing -= {row[0] for row in fetch_all(connection, statement, parameters)}
    if not missing:
        return
    raise AssertionError("unique keys came and went between two statements, again and again")


def holder_of(connection: Connection, key: str) -> KeyHolder | None:
    """Read the job that has the key now: it is in one of the key's states, and inside its window."""
    return holders_of(connection, [key]).get(key)


def holders_of(connection: Connection, keys: Iterable[str]) -> dict[str, KeyHolder]:
    """Read the jobs that have these keys now, as far as anybody has."""
    rows = fetch_all(connection, _HOLDERS, {"keys": orjson.dumps(list(keys)).decode()})
    return {row[0]: KeyHolder(row[1], row[2], JobStatus(row[3])) for row in rows}


def bind(connection: Connection, takers: Mapping[int, UniqueRule]) -> None:
    """Give locked keys to new jobs of this transaction: id → rule; of two with one key, to the later."""
    records = {rule.key: _record_of(job_id, rule) for job_id, rule in takers.items()}
    if records:
        fetch_all(connection, _BIND, {"bound": orjson.dumps(list(records.values())).decode()})


def _record_of(job_id: int, rule: UniqueRule) -> dict[str, Any]:
    record = {"key": rule.key, "job_id": job_id, "states": rule.states, "seconds": rule.window_seconds}
    if rule.collect is not None:
        record |= {"most": rule.collect.max_payloads, "most_bytes": rule.collect.max_bytes}
    return record


def keyed(connection: Connection, job_ids: Iterable[int]) -> dict[int, str]:
    """Read the keys that these jobs need to run again, whatever their state: id → key."""
    return dict(fetch_all(connection, _KEYED, {"ids": array(job_ids)}))


@retry_on_conflict
def forget(connection: Connection, *, after_key: str, limit: int) -> Forgotten:
    """Look at up to `limit` keys behind one, the empty one first, and delete those that are of no use."""
    row = fetch_one(connection, _FORGET, {"after": after_key, "limit": limit})
    assert row is not None
    return Forgotten(row[0], row[2] if row[1] == limit else None)


def refuse(connection: Connection, job_id: int, key: str) -> None:
    """Say which other job has the key of a job, if one has.

    Raises:
        UniqueKeyHeldError: one has.
    """
    holder = holder_of(connection, key)
    if holder is not None and holder.id != job_id:
        raise UniqueKeyHeldError(holder.id)


def take_again(connection: Connection, wanted: Mapping[int, str]) -> set[int]:
    """Take the keys of jobs that shall run again, in the transaction that queues them; who got theirs.

    Only those may be queued again. The others' keys are held, by a job that is in one of the key's states or
    by one of these with a lower id; or they have not failed: whether a job has is asked when its key is
    locked, because one that fails a moment later may lose its key in the same moment.
    """
    lock(connection, wanted.values())
    takers: dict[str, int] = {}
    for (job_id,) in fetch_all(connection, _REPLAYABLE, {"ids": array(wanted)}):
        key = wanted[job_id]
        if key in takers:
            continue
        holder = holder_of(connection, key)
        if holder is None or holder.id == job_id:
            takers[key] = job_id
            fetch_one(connection, _BIND_AGAIN, {"key": key, "id": job_id})
    return set(takers.values())
