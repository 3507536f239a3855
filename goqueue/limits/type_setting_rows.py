"""The settings of job types: their concurrency limit, and their circuit breaker with where it stands."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import Values, fetch_all, fetch_one
from goqueue.limits.queue_setting_rows import type_limits_from_row
from goqueue.limits.settings import TypeLimits

__all__ = ["LimitedType", "all_limited", "locked", "set_limits", "take_back", "type_limits"]

_COLUMNS = "name, concurrency, breaker, breaker_state, breaker_changed_at, breaker_reason"

_TYPES = f"SELECT {_COLUMNS} FROM types ORDER BY name"

_ENSURE = "INSERT INTO types (name) VALUES (%(name)s) ON CONFLICT DO NOTHING RETURNING name"

_LOCKED = f"SELECT {_COLUMNS} FROM types WHERE name = %(name)s FOR UPDATE"

# A breaker that is taken away lets everything in, and so does a new one until it has seen failures.
_SET_LIMITS = """
    UPDATE types
    SET concurrency = %(concurrency)s, breaker = %(breaker)s::json,
        breaker_state = CASE WHEN %(breaker)s::text IS NULL THEN 'closed' ELSE breaker_state END,
        breaker_changed_at = CASE WHEN %(breaker)s::text IS NOT NULL THEN breaker_changed_at END,
        breaker_reason = CASE WHEN %(breaker)s::text IS NOT NULL THEN breaker_reason END
    WHERE name = %(name)s
    RETURNING name
"""

# All of jobs_admitted_idx, which holds no more jobs than can start soon.
_TAKE_BACK = f"""
    WITH chosen AS (
        SELECT id FROM jobs WHERE admitted AND type = %(type)s ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET admitted = false WHERE {rows_of("chosen")} AND jobs.admitted
    RETURNING jobs.id
"""


class LimitedType(NamedTuple):
    """A row of `types`.

    Attributes:
        changed_at, reason: since when and why its breaker stands where it does.
    """

    name: str
    limits: TypeLimits
    changed_at: datetime | None
    reason: str | None


def all_limited(connection: Connection) -> list[LimitedType]:
    """Read every type that has a row, by name."""
    return [_limited(row) for row in fetch_all(connection, _TYPES, {})]


def type_limits(connection: Connection) -> dict[str, TypeLimits]:
    """Read the limits of the types that have some, by name."""
    return {found.name: found.limits for found in all_limited(connection)}


def locked(connection: Connection, name: str) -> LimitedType:
    """Read the settings of a type, its row made where it has none, and locked until the transaction ends."""
    fetch_all(connection, _ENSURE, {"name": name})
    row = fetch_one(connection, _LOCKED, {"name": name})
    assert row is not None, "rows of types are never deleted"
    return _limited(row)


def set_limits(connection: Connection, name: str, limits: TypeLimits) -> None:
    """Set concurrency and breaker, not where it stands; take back what was let in. After `locked`."""
    breaker = None if limits.breaker is None else orjson.dumps(dataclasses.asdict(limits.breaker)).decode()
    parameters = {"name": name, "concurrency": limits.concurrency, "breaker": breaker}
    fetch_all(connection, _SET_LIMITS, parameters)
    take_back(connection, name)


def take_back(connection: Connection, name: str) -> int:
    """Let the admission decide again about the type's jobs that were let in and have not started."""
    return len(fetch_all(connection, _TAKE_BACK, {"type": name}))


def _limited(row: Values) -> LimitedType:
    return LimitedType(row[0], type_limits_from_row(row[1:4]), row[4], row[5])
