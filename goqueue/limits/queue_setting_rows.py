"""The settings of queues and of their keys: how their jobs are let in.

Whoever changes a limit takes back, in the same transaction, what was let in by the old one and has not
started: the admission decides about it again. It locks the queue's row first, as the admission does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.queue_rows import CLOSED, GOVERNED, take_back
from goqueue.errors import QueueNotFoundError
from goqueue.limits.settings import (
    Breaker,
    BreakerState,
    KeyLimits,
    OnConflict,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
    TypeLimits,
)
from goqueue.observability.alert_rules import QueueObjective

__all__ = [
    "DEFAULTS",
    "LIMITS",
    "LimitedQueue",
    "delete_key",
    "key_limits",
    "limited",
    "limits_from_row",
    "limits_of",
    "objectives",
    "set_key",
    "set_limits",
    "type_limits_from_row",
]

#: The columns of QueueLimits, for `limits_from_row`.
LIMITS = (
    "concurrency, key_concurrency, on_conflict, fair, fifo, rate, key_rate, ramp_seconds, "
    "slo_wait_seconds, slo_objective"
)

_OBJECTIVES = """
    SELECT name, slo_wait_seconds, slo_objective FROM queues WHERE slo_wait_seconds IS NOT NULL ORDER BY name
"""

_LIMITS_OF = f"SELECT {LIMITS} FROM queues WHERE name = %(queue)s"

# A ramp that has not begun is at its start; `ramping_until` is not before `ramping_since`.
_GOVERNED = f"""
    SELECT name, CASE WHEN ramping_until > now() THEN greatest(0, extract(epoch FROM now() - ramping_since)
               / greatest(0.001, extract(epoch FROM ramping_until - ramping_since)))::float END, {LIMITS}
    FROM queues WHERE {GOVERNED} AND {CLOSED} IS NOT TRUE ORDER BY name
"""

_SET_LIMITS = """
    UPDATE queues
    SET concurrency = %(concurrency)s, key_concurrency = %(key_concurrency)s, on_conflict = %(on_conflict)s,
        fair = %(fair)s, fifo = %(fifo)s, rate = %(rate)s::json, key_rate = %(key_rate)s::json,
        ramp_seconds = %(ramp_seconds)s, slo_wait_seconds = %(slo_wait_seconds)s,
        slo_objective = %(slo_objective)s
    WHERE name = %(queue)s
    RETURNING name
"""

_KEYS = "SELECT key, weight, concurrency FROM queue_keys WHERE queue = %(queue)s ORDER BY key"

_SET_KEY = """
    INSERT INTO queue_keys (queue, key, weight, concurrency)
    VALUES (%(queue)s, %(key)s, %(weight)s, %(concurrency)s)
    ON CONFLICT (queue, key) DO UPDATE SET weight = excluded.weight, concurrency = excluded.concurrency
    RETURNING key
"""

_DELETE_KEY = "DELETE FROM queue_keys WHERE queue = %(queue)s AND key = %(key)s RETURNING key"


#: Those of a queue that nobody has configured.
DEFAULTS = QueueLimits()


class LimitedQueue(NamedTuple):
    """A queue whose jobs start only when they are let in, and that is not closed now.

    Attributes:
        ramp: how far it has come after a pause or a slow-down, 0 to 1; None: it does not ramp up.
    """

    name: str
    limits: QueueLimits
    ramp: float | None


def objectives(connection: Connection) -> list[QueueObjective]:
    """Read what queues promise of their waits, by name; those that promise nothing left out."""
    return [QueueObjective(*row) for row in fetch_all(connection, _OBJECTIVES, {})]


def limited(connection: Connection) -> list[LimitedQueue]:
    """Read every limited queue that is open, by name."""
    rows = fetch_all(connection, _GOVERNED, {})
    return [LimitedQueue(name, limits_from_row(tuple(limits)), ramp) for name, ramp, *limits in rows]


def limited_names(connection: Connection) -> list[str]:
    """Read the names of limited queues, whatever their limits say: that is for whoever admits their jobs."""
    sql = f"SELECT name FROM queues WHERE {GOVERNED} AND {CLOSED} IS NOT TRUE ORDER BY name"
    return [row[0] for row in fetch_all(connection, sql, {})]


def limits_of(connection: Connection, queue: str, *, lock: bool = False) -> QueueLimits:
    """Read the limits of a queue; `lock` keeps others from changing them until the transaction ends.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    row = fetch_one(connection, _LIMITS_OF + (" FOR UPDATE" if lock else ""), {"queue": queue})
    if row is None:
        raise QueueNotFoundError(queue)
    return limits_from_row(row)


def set_limits(connection: Connection, queue: str, limits: QueueLimits) -> int:
    """Set the limits of a queue; how many jobs that were let in were taken back. In a transaction.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    parameters = dataclasses.asdict(limits) | {
        "queue": queue,
        "on_conflict": limits.on_conflict.value,
        "rate": _rate_text(limits.rate),
        "key_rate": _rate_text(limits.key_rate),
    }
    if fetch_one(connection, _SET_LIMITS, parameters) is None:
        raise QueueNotFoundError(queue)
    return take_back(connection, queue)


def key_limits(connection: Connection, queue: str) -> dict[str, KeyLimits]:
    """Read the keys of a queue that have settings of their own, by key."""
    return {
        key: KeyLimits(weight, concurrency)
        for key, weight, concurrency in fetch_all(connection, _KEYS, {"queue": queue})
    }


def set_key(connection: Connection, queue: str, key: str, limits: KeyLimits) -> None:
    """Set what is special about a key. In a transaction in which the queue is locked (`limits_of`)."""
    fetch_one(connection, _SET_KEY, {"queue": queue, "key": key} | dataclasses.asdict(limits))
    take_back(connection, queue, key)


def delete_key(connection: Connection, queue: str, key: str) -> bool:
    """Make a key like every other; whether it was special. In a transaction, as `set_key`."""
    if fetch_one(connection, _DELETE_KEY, {"queue": queue, "key": key}) is None:
        return False
    take_back(connection, queue, key)
    return True


def limits_from_row(row: tuple[Any, ...]) -> QueueLimits:
    """Return the limits of a row, in the order of QueueLimits; the objective may be left out."""
    concurrency, key_concurrency, on_conflict, fair, fifo, rate, key_rate, ramp_seconds, *objective = row
    return QueueLimits(
        concurrency,
        key_concurrency,
        OnConflict(on_conflict),
        fair,
        fifo,
        _rate(rate),
        _rate(key_rate),
        ramp_seconds,
        *objective,
    )


def type_limits_from_row(row: tuple[Any, ...]) -> TypeLimits:
    """Return the limits of a row of concurrency, breaker, breaker_state."""
    concurrency, breaker, state = row
    try:
        return TypeLimits(concurrency, None if breaker is None else Breaker(**breaker), BreakerState(state))
    except TypeError:
        # A breaker that somebody wrote by hand. Of its type nothing starts: what may, nobody knows; every
        # other type goes on.
        return TypeLimits(0, None, BreakerState.OPEN)


def _rate(document: Mapping[str, Any] | None) -> RateLimit | None:
    if document is None:
        return None
    return RateLimit(document["limit"], document["period_seconds"], RateAlgorithm(document["algorithm"]))


def _rate_text(rate: RateLimit | None) -> str | None:
    return None if rate is None else orjson.dumps(dataclasses.asdict(rate)).decode()
