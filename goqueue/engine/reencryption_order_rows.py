"""Orders to encrypt with another key what is encrypted: rows that say how far each has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one
from goqueue.engine.reencryption_rows import ReencryptionStep

__all__ = ["Reencryption", "advance", "begin", "finish", "latest", "running", "stop"]

_COLUMNS = (
    "id, key_id, rate, state, after_id, done, undecryptable, reason, requested_by, created_at, updated_at, "
    "finished_at"
)

_STOP = (
    "UPDATE reencryptions SET state = 'stopped', finished_at = now() WHERE finished_at IS NULL RETURNING id"
)

_BEGIN = f"""
    INSERT INTO reencryptions (key_id, rate, requested_by) VALUES (%(key_id)s, %(rate)s, %(by)s)
    RETURNING {_COLUMNS}
"""

_LATEST = f"SELECT {_COLUMNS} FROM reencryptions ORDER BY id DESC LIMIT 1"
_RUNNING = f"SELECT {_COLUMNS} FROM reencryptions WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1"

_ADVANCE = """
    UPDATE reencryptions
    SET after_id = %(after_id)s, done = done + %(done)s, undecryptable = undecryptable + %(undecryptable)s,
        reason = %(reason)s, updated_at = now()
    WHERE id = %(id)s AND finished_at IS NULL RETURNING id
"""

_FINISH = """
    UPDATE reencryptions SET state = 'completed', finished_at = now(), updated_at = now(), reason = NULL
    WHERE id = %(id)s AND finished_at IS NULL RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Reencryption:
    """One row of `reencryptions`.

    Attributes:
        rate: jobs a second, at most; None: as fast as it goes.
        after_id: every encrypted job up to this one was looked at.
        done: jobs and schedules that were encrypted anew.
        undecryptable: those that could not be.
        reason: why it does not go on.
    """

    id: int
    key_id: str
    rate: float | None
    state: str
    after_id: int
    done: int
    undecryptable: int
    reason: str | None
    requested_by: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


def begin(connection: Connection, key_id: str, *, rate: float | None, by: str) -> Reencryption:
    """Order that everything be encrypted with a key, in a transaction; an order before it is stopped."""
    stop(connection)
    row = fetch_one(connection, _BEGIN, {"key_id": key_id, "rate": rate, "by": by})
    assert row is not None
    return Reencryption(*row)


def stop(connection: Connection) -> bool:
    """Stop the order that is under way; False: there is none."""
    return fetch_one(connection, _STOP, {}) is not None


def latest(connection: Connection) -> Reencryption | None:
    """Read the last order; None: there was none."""
    row = fetch_one(connection, _LATEST, {})
    return None if row is None else Reencryption(*row)


def running(connection: Connection) -> Reencryption | None:
    """Read the order that is under way; None: there is none."""
    row = fetch_one(connection, _RUNNING, {})
    return None if row is None else Reencryption(*row)


def advance(
    connection: Connection, order: Reencryption, step: ReencryptionStep, *, reason: str | None = None
) -> None:
    """Note how far an order has come, or why it does not go on."""
    parameters = {
        "id": order.id,
        "after_id": order.after_id if step.after_id is None else step.after_id,
        "done": step.done,
        "undecryptable": step.undecryptable,
        "reason": reason,
    }
    fetch_one(connection, _ADVANCE, parameters)


def finish(connection: Connection, order: Reencryption) -> None:
    """Note that an order is done."""
    fetch_one(connection, _FINISH, {"id": order.id})
