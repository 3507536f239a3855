"""Queues: which exist, and which are paused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import Values, fetch_all, fetch_one
from goqueue.errors import QueueNotFoundError
from goqueue.jobs import QUARANTINE_QUEUE

#: Nothing of such a queue starts: it is paused, until its end if it has one, or was told to slow down.
PAUSED = "(queues.paused_at IS NOT NULL AND (queues.paused_until > now()) IS NOT FALSE)"
CLOSED = f"({PAUSED} OR queues.throttled_until > now())"

#: Jobs of such a queue start only when the dispatcher has let them in (`jobs.admitted`).
#: So it is also while the queue ramps up, and where the namespace has a quota of jobs that run.
GOVERNED = "(queues.governed OR queues.namespace_governed OR queues.ramping_until > now())"


# A pause whose end has come is over everywhere at once, also while its columns still stand there.
_COLUMNS = f"""
    queues.name, CASE WHEN {PAUSED} THEN paused_at END, created_at, {CLOSED} IS TRUE,
    CASE WHEN {PAUSED} THEN paused_until END, CASE WHEN {PAUSED} THEN paused_by END,
    CASE WHEN {PAUSED} THEN pause_reason END,
    CASE WHEN throttled_until > now() THEN throttled_until END
"""

# The end is always that of the last pause: who pauses without one means for good. A ramp is known
# beforehand: it begins at the end of the pause, however late somebody notices that.
_PAUSE = f"""
    UPDATE queues
    SET paused_at = CASE WHEN {PAUSED} THEN paused_at ELSE now() END,
        paused_by = coalesce(%(author)s, CASE WHEN {PAUSED} THEN paused_by END),
        pause_reason = coalesce(%(reason)s, CASE WHEN {PAUSED} THEN pause_reason END),
        paused_until = ends.at,
        ramping_since = CASE WHEN ramp_seconds > 0
            THEN greatest(ends.at, throttled_until) ELSE ramping_since END,
        ramping_until = CASE WHEN ramp_seconds > 0
            THEN greatest(ends.at, throttled_until) + make_interval(secs => ramp_seconds)
            ELSE ramping_until END
    FROM (SELECT coalesce(%(until)s::timestamptz, now() + make_interval(secs => %(seconds)s)) AS at) AS ends
    WHERE name = %(name)s RETURNING {_COLUMNS}
"""

# Also a slow-down ends, whose ramp begins earlier then. Whoever asks for too much holds a queue up for a day.
_RESUME = f"""
    UPDATE queues
    SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL, throttled_until = NULL,
        ramping_since = coalesce(ramp.since, ramping_since),
        ramping_until = coalesce(ramp.since + ramp.length, ramping_until)
    FROM (
        SELECT name, CASE WHEN {CLOSED} AND length > interval '0' THEN now() END AS since, length
        FROM (SELECT *, CASE WHEN throttled_until > now() THEN ramping_until - ramping_since
                             ELSE make_interval(secs => ramp_seconds) END AS length
              FROM queues WHERE name = %(name)s FOR UPDATE) AS queues
    ) AS ramp
    WHERE queues.name = ramp.name RETURNING {_COLUMNS}
"""

# The row of a queue is locked by its admission for a moment: then the next round finds it.
_END_PAUSES = """
    WITH over AS (
        SELECT name, paused_at FROM queues WHERE paused_until <= now() ORDER BY name FOR UPDATE SKIP LOCKED
    )
    UPDATE queues SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL
    FROM over WHERE queues.name = over.name
    RETURNING queues.name, over.paused_at
"""

# Many jobs say so at once: those that say nothing new change nothing, so they do not wait for one another
# for longer than the first takes. A ramp that runs already, or is longer, stays.
_SLOW_DOWN = """
    UPDATE queues
    SET throttled_until = now() + make_interval(secs => %(seconds)s),
        ramping_since = now() + make_interval(secs => %(seconds)s),
        ramping_until = now() + make_interval(secs => %(seconds)s
            + CASE WHEN ramp_seconds > 0 THEN ramp_seconds ELSE %(ramp_seconds)s END)
    WHERE name = %(name)s AND (throttled_until >= now() + make_interval(secs => %(seconds)s)) IS NOT TRUE
    RETURNING throttled_until
"""

# Few rows (jobs_admitted_idx): no more are let in than can start soon.
_TAKE_BACK = f"""
    WITH chosen AS (
        SELECT id FROM jobs
        WHERE admitted AND queue = %(queue)s AND (%(key)s::text IS NULL OR concurrency_key = %(key)s)
        ORDER BY id FOR UPDATE
    )
    UPDATE jobs SET admitted = false WHERE {rows_of("chosen")} AND jobs.admitted
    RETURNING jobs.id
"""


class Queue(NamedTuple):
    """One row of `queues`, by PostgreSQL's clock.

    Attributes:
        paused_at: since when it is paused; None: it is not, or not any more.
        is_closed: nothing of it starts now: it is paused, or was told to slow down.
        paused_until, paused_by, pause_reason: until when, by whom and why it is paused.
        throttled_until: it was told to slow down, and starts nothing before.
    """

    name: str
    paused_at: datetime | None
    created_at: datetime
    is_closed: bool = False
    paused_until: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    throttled_until: datetime | None = None


class EndedPause(NamedTuple):
    """A pause that has ended by itself."""

    queue: str
    paused_at: datetime


def expect_name(name: str) -> None:
    """Check that a queue of clients can have this name.

    Raises:
        QueueNotFoundError: it is reserved, or no text that PostgreSQL can hold.
        TypeError: it is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a queue: expected a text, got {type(name).__qualname__}")
    if "\0" in name or name == QUARANTINE_QUEUE or name.encode("utf-8", "ignore").decode() != name:
        raise QueueNotFoundError(name)


def ensure(connection: Connection, names: Iterable[str]) -> None:
    """Make sure that these queues exist. Safe from any number of processes at once."""
    # Sorted: two processes that insert the same new names must not wait for each other in a circle.
    connection.exec_driver_sql(
        "INSERT INTO queues (name) SELECT unnest(%(names)s::text[]) ON CONFLICT DO NOTHING",
        {"names": sorted(set(names))},
    )


def list_all(connection: Connection) -> list[Queue]:
    """Read every queue, by name."""
    rows = fetch_all(connection, f"SELECT {_COLUMNS} FROM queues ORDER BY name", {})
    return [Queue(*row) for row in rows]


def pause(
    connection: Connection,
    name: str,
    *,
    reason: str | None = None,
    author: str | None = None,
    until: datetime | None = None,
    seconds: float | None = None,
) -> Queue:
    """Pause a queue, for good or until a moment or for so many seconds.

    Pausing a paused one keeps the time it was paused at, and the reason and author where none is given; the
    end is the new one.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    parameters = {"name": name, "reason": reason, "author": author, "until": until, "seconds": seconds}
    queue = _found(name, fetch_one(connection, _PAUSE, parameters))
    take_back(connection, name)
    return queue


def resume(connection: Connection, name: str) -> Queue:
    """End a pause, and a slow-down; where there was one, and the queue has a ramp, it ramps up from now on.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    return _found(name, fetch_one(connection, _RESUME, {"name": name}))


def end_pauses(connection: Connection) -> list[EndedPause]:
    """Clear the pauses whose end has come; which."""
    return [EndedPause(*row) for row in fetch_all(connection, _END_PAUSES, {})]


def slow_down(connection: Connection, name: str, *, seconds: float, ramp_seconds: float) -> bool:
    """Start nothing of the queue for so long from now, then ramp up; False: it was told so already.

    The ramp takes `ramp_seconds` where the queue has no length of its own. In a transaction.
    """
    parameters = {"name": name, "seconds": seconds, "ramp_seconds": ramp_seconds}
    if fetch_one(connection, _SLOW_DOWN, parameters) is None:
        return False
    take_back(connection, name)
    return True


def take_back(connection: Connection, queue: str, key: str | None = None) -> int:
    """Let the admission decide again about the jobs that were let in and have not started; how many.

    Of all the queue, or of one key. In a transaction in which the queue is locked.
    """
    return len(fetch_all(connection, _TAKE_BACK, {"queue": queue, "key": key}))


def _found(name: str, row: Values | None) -> Queue:
    if row is None:
        raise QueueNotFoundError(name)
    return Queue(*row)
