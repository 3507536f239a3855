"""Circuit breakers: what workers count for them, and how they move."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.errors import NoBreakerError
from goqueue.limits.breaker_rules import BreakerChange, Tally
from goqueue.limits.queue_setting_rows import type_limits_from_row
from goqueue.limits.settings import Breaker, BreakerState
from goqueue.limits.type_setting_rows import LimitedType, all_limited, take_back

__all__ = [
    "BreakerRow",
    "End",
    "count",
    "delete_outcomes",
    "guarded_types",
    "move",
    "moved_by_hand",
    "tallies",
]

_GUARDED = "SELECT name FROM types WHERE breaker IS NOT NULL"

# An attempt that started before the breaker's last change does not count: a long one that fails now would
# open a breaker that probes have just closed. Sorted: two batches that add to the same rows must not wait for
# each other in a circle.
_COUNT = """
    INSERT INTO type_outcomes (type, since, second, completed, failed)
    SELECT types.name, coalesce(types.breaker_changed_at, '-infinity'), date_trunc('second', now()),
           count(*) FILTER (WHERE NOT ended.failed), count(*) FILTER (WHERE ended.failed)
    FROM json_to_recordset(%(ends)s::json) AS ended (type text, started_at timestamptz, failed boolean)
    JOIN types ON types.name = ended.type AND types.breaker IS NOT NULL
    WHERE (ended.started_at < types.breaker_changed_at) IS NOT TRUE
    GROUP BY types.name, types.breaker_changed_at ORDER BY types.name
    ON CONFLICT (type, since, second) DO UPDATE
    SET completed = type_outcomes.completed + excluded.completed,
        failed = type_outcomes.failed + excluded.failed
    RETURNING type
"""

# While a breaker is closed its window counts; afterwards everything since its change.
_TALLIES = """
    SELECT name, concurrency, breaker, breaker_state, breaker_changed_at,
           coalesce(ended.completed, 0)::int, coalesce(ended.failed, 0)::int,
           coalesce(extract(epoch FROM now() - breaker_changed_at), 0)::float
    FROM types CROSS JOIN LATERAL (
        SELECT sum(completed) AS completed, sum(failed) AS failed FROM type_outcomes
        WHERE type = types.name AND since = coalesce(types.breaker_changed_at, '-infinity')
          AND (types.breaker_state <> 'closed'
               OR second > now() - make_interval(secs => (types.breaker ->> 'window_seconds')::float))
    ) AS ended
    WHERE breaker IS NOT NULL ORDER BY name
"""

_MOVE = """
    UPDATE types SET breaker_state = %(state)s, breaker_changed_at = now(), breaker_reason = %(reason)s
    WHERE name = %(name)s AND breaker IS NOT NULL AND breaker_state = %(from_state)s
      AND breaker_changed_at IS NOT DISTINCT FROM %(changed_at)s
    RETURNING name
"""

_MOVE_BY_HAND = """
    UPDATE types SET breaker_state = %(state)s, breaker_changed_at = now(), breaker_reason = %(reason)s
    WHERE name = %(name)s AND breaker IS NOT NULL
    RETURNING name
"""

# Counts of before the breaker's last change are of no use after a moment, and those of a closed one after its
# window; half-open, probes may take as long as they like.
_DELETE = """
    DELETE FROM type_outcomes WHERE ctid IN (
        SELECT type_outcomes.ctid FROM type_outcomes LEFT JOIN types ON types.name = type
        WHERE second < now() - interval '1 minute'
          AND CASE WHEN since <> coalesce(breaker_changed_at, '-infinity') OR breaker IS NULL THEN true
                   WHEN breaker_state <> 'closed' THEN false
                   ELSE second < now() - make_interval(secs => (breaker ->> 'window_seconds')::float) END
        LIMIT %(limit)s FOR UPDATE OF type_outcomes SKIP LOCKED)
    RETURNING type
"""


class End(NamedTuple):
    """The end of an attempt of a guarded type."""

    type: str
    started_at: datetime
    failed: bool


class BreakerRow(NamedTuple):
    """A breaker as it stands, and what was counted for it."""

    name: str
    breaker: Breaker
    state: BreakerState
    changed_at: datetime | None
    tally: Tally


def guarded_types(connection: Connection) -> frozenset[str]:
    """Read the types that have a breaker."""
    return frozenset(row[0] for row in fetch_all(connection, _GUARDED, {}))


@retry_on_conflict
def count(connection: Connection, ends: Sequence[End]) -> None:
    """Count ended attempts, those of other types and of before the breaker's last change not."""
    records = [end._asdict() for end in ends]
    fetch_all(connection, _COUNT, {"ends": orjson.dumps(records).decode()})


def tallies(connection: Connection) -> list[BreakerRow]:
    """Read every breaker, by the name of its type."""
    rows = [_breaker_row(*row) for row in fetch_all(connection, _TALLIES, {})]
    return [row for row in rows if row is not None]


def move(connection: Connection, row: BreakerRow, change: BreakerChange) -> bool:
    """Move a breaker from where it was seen; False: somebody else moved it. In a transaction.

    One that opens takes back what was let in and has not started.
    """
    parameters = {
        "name": row.name,
        "from_state": row.state.value,
        "changed_at": row.changed_at,
        "state": change.state.value,
        "reason": change.reason,
    }
    if fetch_one(connection, _MOVE, parameters) is None:
        return False
    if change.state is not BreakerState.CLOSED:
        take_back(connection, row.name)
    return True


def moved_by_hand(connection: Connection, name: str, change: BreakerChange) -> LimitedType:
    """Move a breaker wherever it stands. In a transaction.

    Raises:
        NoBreakerError: the type has none.
    """
    parameters = {"name": name, "state": change.state.value, "reason": change.reason}
    if fetch_one(connection, _MOVE_BY_HAND, parameters) is None:
        raise NoBreakerError(name)
    take_back(connection, name)
    return next(found for found in all_limited(connection) if found.name == name)


def delete_outcomes(connection: Connection, *, limit: int) -> int:
    """Forget counts that nothing is decided by any more; how many rows, at most `limit`."""
    return len(fetch_all(connection, _DELETE, {"limit": limit}))


def _breaker_row(
    name: str,
    concurrency: int | None,
    breaker: dict[str, float],
    state: str,
    changed_at: datetime | None,
    completed: int,
    failed: int,
    seconds: float,
) -> BreakerRow | None:
    """None: somebody wrote it by hand, and nobody can read it."""
    limits = type_limits_from_row((concurrency, breaker, state))
    if limits.breaker is None:
        return None
    return BreakerRow(name, limits.breaker, limits.state, changed_at, Tally(completed, failed, seconds))
