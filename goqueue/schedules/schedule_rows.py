"""Cron schedules: the rows of what they are, and which tick comes next."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import of_schedule
from goqueue.contents.payload_keys import is_encrypted
from goqueue.db.statements import Values, array, contents_of, fetch_all, fetch_one
from goqueue.errors import ScheduleNotFoundError, UndecryptableError
from goqueue.jobs import CollectRule, JobStatus, NewJob, UniqueMode, UniqueRule
from goqueue.schedules.rules import (
    BlackoutPolicy,
    CatchUp,
    Overlap,
    Schedule,
    ScheduleDefinition,
    Source,
    Tick,
)
from goqueue.schedules.settings import windows_of

__all__ = [
    "advance",
    "delete",
    "due",
    "get",
    "insert",
    "lock",
    "lock_due",
    "now",
    "page",
    "running_names",
    "set_paused",
    "update",
]

_COLUMNS = (
    "id, name, cron, timezone, queue, type, payload::text, priority, max_retries, job_settings, overlap, "
    "catch_up, catch_up_max, catch_up_window_seconds, jitter_seconds, blackouts, blackout_policy, source, "
    "paused_at, paused_by, pause_reason, next_at, due_at, created_at, updated_at"
)

# What a definition sets, in the order of `_values`.
_DEFINED = (
    "cron, timezone, queue, type, payload, priority, max_retries, job_settings, overlap, catch_up, "
    "catch_up_max, catch_up_window_seconds, jitter_seconds, blackouts, blackout_policy, source"
)
_DEFINED_VALUES = ", ".join(f"%({name})s" for name in _DEFINED.split(", "))

_INSERT = f"""
    INSERT INTO schedules (name, {_DEFINED}, next_at, due_at)
    VALUES (%(name)s, {_DEFINED_VALUES}, %(next_at)s, %(due_at)s)
    ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}
"""

# The caller has locked the row. A paused one has no next tick.
_UPDATE = f"""
    UPDATE schedules SET ({_DEFINED}) = ROW ({_DEFINED_VALUES}), updated_at = now(),
        next_at = CASE WHEN paused_at IS NULL THEN %(next_at)s::timestamptz END,
        due_at = CASE WHEN paused_at IS NULL THEN %(due_at)s::timestamptz END
    WHERE id = %(id)s RETURNING {_COLUMNS}
"""

# A paused one keeps the time of its pause.
_SET_PAUSED = f"""
    UPDATE schedules SET
        paused_at = CASE WHEN %(paused)s THEN coalesce(paused_at, now()) END,
        paused_by = CASE WHEN %(paused)s THEN coalesce(%(author)s, paused_by) END,
        pause_reason = CASE WHEN %(paused)s THEN coalesce(%(reason)s, pause_reason) END,
        next_at = %(next_at)s, due_at = %(due_at)s, updated_at = now()
    WHERE id = %(id)s RETURNING {_COLUMNS}
"""

_DUE = """
    SELECT id FROM schedules
    WHERE due_at IS NOT NULL AND due_at <= coalesce(%(now)s::timestamptz, now())
      AND id <> ALL(%(without)s::bigint[])
    ORDER BY due_at, id LIMIT %(limit)s
"""

# By code points, whatever the collation of the database.
_PAGE = f"""
    SELECT {_COLUMNS} FROM schedules
    WHERE name COLLATE "C" > %(after)s ORDER BY name COLLATE "C" LIMIT %(limit)s
"""

# Another scheduler that has the row decides the tick. One that had it has moved due_at, which is looked at
# again when the lock is taken.
_LOCK_DUE = f"""
    SELECT {_COLUMNS}, coalesce(%(now)s::timestamptz, now()) FROM schedules
    WHERE id = %(id)s AND due_at IS NOT NULL AND due_at <= coalesce(%(now)s::timestamptz, now())
    FOR UPDATE SKIP LOCKED
"""

_ADVANCE = """
    UPDATE schedules SET next_at = %(next_at)s, due_at = %(due_at)s WHERE id = %(id)s RETURNING id
"""

_DELETE = """
    WITH gone AS (DELETE FROM schedules WHERE name = %(name)s RETURNING id),
         ticks AS (DELETE FROM schedule_ticks USING gone WHERE schedule_id = gone.id)
    SELECT id FROM gone
"""


def now(connection: Connection) -> datetime:
    """Read the time by PostgreSQL's clock."""
    row = fetch_one(connection, "SELECT now()", {})
    assert row is not None
    found: datetime = row[0]
    return found


def insert(connection: Connection, definition: ScheduleDefinition, first: Tick | None) -> Schedule | None:
    """Insert a schedule whose first tick is this one; None: its name is taken."""
    row = fetch_one(
        connection, _INSERT, {"name": definition.name} | _values(connection, definition) | _next(first)
    )
    return None if row is None else _schedule(connection, row)


def update(
    connection: Connection, schedule_id: int, definition: ScheduleDefinition, first: Tick | None
) -> Schedule:
    """Define a locked schedule anew; it goes on with this tick, unless it is paused."""
    parameters = {"id": schedule_id} | _values(connection, definition) | _next(first)
    row = fetch_one(connection, _UPDATE, parameters)
    assert row is not None
    return _schedule(connection, row)


def get(connection: Connection, name: str) -> Schedule:
    """Read the schedule with a name.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    return _get(connection, name, "")


def lock(connection: Connection, name: str) -> Schedule:
    """Read the schedule, locked until the end of the transaction: no scheduler decides its ticks meanwhile.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    return _get(connection, name, "FOR UPDATE")


def _get(connection: Connection, name: str, locking: str) -> Schedule:
    sql = f"SELECT {_COLUMNS} FROM schedules WHERE name = %(name)s {locking}"
    row = fetch_one(connection, sql, {"name": name}) if "\0" not in name else None
    if row is None:
        raise ScheduleNotFoundError(name)
    return _schedule(connection, row)


def page(connection: Connection, *, after_name: str, limit: int) -> list[Schedule]:
    """Read schedules by name, from behind a name on."""
    return [
        _schedule(connection, row)
        for row in fetch_all(connection, _PAGE, {"after": after_name, "limit": limit})
    ]


def running_names(connection: Connection, source: Source) -> list[str]:
    """Read the names of the schedules that are defined there and not paused."""
    sql = "SELECT name FROM schedules WHERE source = %(source)s AND paused_at IS NULL ORDER BY name"
    return [row[0] for row in fetch_all(connection, sql, {"source": source.value})]


def set_paused(
    connection: Connection,
    schedule_id: int,
    *,
    paused: bool,
    author: str | None = None,
    reason: str | None = None,
    first: Tick | None = None,
) -> Schedule:
    """Pause a locked schedule, or let it go on with this tick."""
    parameters = {"id": schedule_id, "paused": paused, "author": author, "reason": reason} | _next(first)
    row = fetch_one(connection, _SET_PAUSED, parameters)
    assert row is not None
    return _schedule(connection, row)


def due(connection: Connection, at: datetime | None, *, without: Iterable[int], limit: int) -> list[int]:
    """Read the ids of schedules with a tick to decide, the longest due first; `at` is now if it is None."""
    return [
        row[0] for row in fetch_all(connection, _DUE, {"now": at, "without": array(without), "limit": limit})
    ]


def lock_due(
    connection: Connection, schedule_id: int, at: datetime | None
) -> tuple[Schedule, datetime] | None:
    """Lock a schedule that is due, in a transaction; it and the time. None: somebody else has or had it."""
    row = fetch_one(connection, _LOCK_DUE, {"id": schedule_id, "now": at})
    return None if row is None else (_schedule(connection, row[:-1]), row[-1])


def advance(connection: Connection, schedule_id: int, following: Tick | None) -> None:
    """Note that every tick before this one is decided."""
    fetch_one(connection, _ADVANCE, {"id": schedule_id} | _next(following))


def delete(connection: Connection, name: str) -> None:
    """Delete a schedule and its history; its jobs stay.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    if "\0" in name or fetch_one(connection, _DELETE, {"name": name}) is None:
        raise ScheduleNotFoundError(name)


def _next(tick: Tick | None) -> dict[str, datetime | None]:
    if tick is None:
        return {"next_at": None, "due_at": None}
    return {"next_at": tick.fire.at, "due_at": tick.due_at}


def _values(connection: Connection, definition: ScheduleDefinition) -> dict[str, Any]:
    job = definition.job
    return {
        "cron": definition.cron,
        "timezone": definition.timezone,
        "queue": job.queue,
        "type": job.type,
        "payload": _closed(connection, definition.name, job),
        "priority": job.priority,
        "max_retries": job.max_retries,
        "job_settings": orjson.dumps(_settings_of(job)).decode(),
        "overlap": definition.overlap.value,
        "catch_up": definition.catch_up.value,
        "catch_up_max": definition.catch_up_max,
        "catch_up_window_seconds": definition.catch_up_window_seconds,
        "jitter_seconds": definition.jitter_seconds,
        "blackouts": orjson.dumps(definition.blackouts).decode(),
        "blackout_policy": definition.blackout_policy.value,
        "source": definition.source.value,
    }


def _closed(connection: Connection, name: str, job: NewJob) -> str:
    if not job.encrypted:
        return job.payload
    return contents_of(connection).closed(job.payload, of_schedule(name))


def _opened(connection: Connection, name: str, payload: str) -> tuple[str, bool]:
    """The payload of the jobs of a schedule, and whether it is encrypted in their rows as well.

    One that cannot be decrypted stays as it is: its jobs fail, and say why.
    """
    if not is_encrypted(payload):
        return payload, False
    with suppress(UndecryptableError):
        return contents_of(connection).opened(payload, of_schedule(name)), True
    return payload, False


def _settings_of(job: NewJob) -> dict[str, Any]:
    """What the job says beyond its columns; times are relative, for a job that is created again and again."""
    said = {
        "time_limit_seconds": job.time_limit_seconds,
        "options": job.options,
        "concurrency_key": job.concurrency_key,
        "rate_cost": None if job.rate_cost == 1 else job.rate_cost,
        "limit_cost": None if job.limit_cost == 1 else job.limit_cost,
        "ttl_seconds": job.ttl_seconds,
        "deadline_seconds": job.deadline_seconds,
        "unique": None if job.unique is None else _rule_as_kept(job.unique),
        "tags": job.tags or None,
        "requires": job.requires or None,
        "slots": None if job.slots == 1 else job.slots,
    }
    return {name: value for name, value in said.items() if value is not None}


def _rule_as_kept(rule: UniqueRule) -> dict[str, Any]:
    """The rule as JSON; the release before reads those that collect nothing."""
    kept = asdict(rule)
    if rule.collect is None:
        del kept["collect"]
    return kept


def _schedule(connection: Connection, row: Values) -> Schedule:
    identity, name, cron, timezone, queue, kind, payload, priority, max_retries, settings = row[:10]
    payload, encrypted = _opened(connection, name, payload)
    overlap, catch_up, most, window, jitter, blackouts, blackout_policy, source = row[10:18]
    definition = ScheduleDefinition(
        name=name,
        cron=cron,
        job=_job(queue, kind, payload, priority, max_retries, settings | {"encrypted": encrypted}),
        timezone=timezone,
        overlap=Overlap(overlap),
        catch_up=CatchUp(catch_up),
        catch_up_max=most,
        catch_up_window_seconds=window,
        jitter_seconds=jitter,
        blackouts=tuple(blackouts),
        windows=windows_of(blackouts),
        blackout_policy=BlackoutPolicy(blackout_policy),
        source=Source(source),
    )
    return Schedule(identity, definition, *row[18:])


def _job(
    queue: str, kind: str, payload: str, priority: int, max_retries: int, settings: dict[str, Any]
) -> NewJob:
    said = dict(settings)
    for name in said.keys() & {"tags", "requires"}:
        said[name] = tuple(said[name])
    if "unique" in said:
        unique = said["unique"]
        read: dict[str, Any] = {
            "states": tuple(map(JobStatus, unique["states"])),
            "mode": UniqueMode(unique["mode"]),
        }
        if "collect" in unique:
            read["collect"] = CollectRule(**unique["collect"])
        said["unique"] = UniqueRule(**unique | read)
    return NewJob(queue, kind, payload, priority, max_retries, **said)
