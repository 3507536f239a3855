"""Queues: which exist, and which are paused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.errors import QueueNotFoundError
from goqueue.store.rows import fetch_all, fetch_one

#: Nothing of such a queue starts: it is paused, until its end if it has one, or was told to slow down.
CLOSED = (
    "((queues.paused_at IS NOT NULL AND (queues.paused_until > now()) IS NOT FALSE) "
    "OR queues.throttled_until > now())"
)

#: Jobs of such a queue start only when the dispatcher has let them in (`jobs.admitted`).
GOVERNED = "(queues.governed OR queues.ramping_since > now() - make_interval(secs => queues.ramp_seconds))"


class Queue(NamedTuple):
    """One row of `queues`."""

    name: str
    paused_at: datetime | None
    created_at: datetime


def ensure(connection: Connection, names: Iterable[str]) -> None:
    """Make sure that these queues exist. Safe from any number of processes at once."""
    # Sorted: two processes that insert the same new names must not wait for each other in a circle.
    connection.exec_driver_sql(
        "INSERT INTO queues (name) SELECT unnest(%(names)s::text[]) ON CONFLICT DO NOTHING",
        {"names": sorted(set(names))},
    )


def list_all(connection: Connection) -> list[Queue]:
    """Every queue, by name."""
    rows = fetch_all(connection, "SELECT name, paused_at, created_at FROM queues ORDER BY name", {})
    return [Queue(*row) for row in rows]


def set_paused(connection: Connection, name: str, *, paused: bool) -> Queue:
    """Pause or resume a queue; pausing a paused one keeps the time it was paused at.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    row = fetch_one(
        connection,
        "UPDATE queues SET paused_at = CASE WHEN %(paused)s THEN coalesce(paused_at, now()) END "
        "WHERE name = %(name)s RETURNING name, paused_at, created_at",
        {"name": name, "paused": paused},
    )
    if row is None:
        raise QueueNotFoundError(name)
    return Queue(*row)
