"""The leadership of the schedulers: a lease of one row, by PostgreSQL's clock, and its holder's sessions."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one

__all__ = ["LeadershipLease", "end_sessions", "expect_holder", "is_led", "look", "renew", "resign", "take"]

#: How long the end of one session is waited for: it is rolling back.
SESSION_END_MILLISECONDS = 2000

_LOOK = """
    SELECT holder, term, renewals, expires_at <= now(), EXISTS (
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = holder)
    FROM leadership
"""

# Only of what was seen: a renewal, or somebody else who took it meanwhile, comes first.
_TAKE = """
    UPDATE leadership
    SET holder = %(name)s, term = term + 1, renewals = 0, renewed_at = now(),
        expires_at = now() + make_interval(secs => %(seconds)s)
    WHERE term = %(term)s AND renewals = %(renewals)s AND holder IS NOT DISTINCT FROM %(holder)s
    RETURNING term
"""

_RENEW = """
    UPDATE leadership
    SET renewals = renewals + 1, renewed_at = now(),
        expires_at = now() + make_interval(secs => %(seconds)s)
    WHERE holder = %(name)s AND term = %(term)s
    RETURNING term
"""

_RESIGN = """
    UPDATE leadership SET holder = NULL, expires_at = now() WHERE holder = %(name)s AND term = %(term)s
    RETURNING term
"""

# Only those of the same role: nobody may end another's.
_SESSIONS = """
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = %(name)s
      AND pid <> pg_backend_pid()
"""

_IS_HELD = "SELECT EXISTS (SELECT FROM leadership WHERE holder = %(name)s AND term = %(term)s)"


class LeadershipLease(NamedTuple):
    """The leadership as it is recorded.

    Attributes:
        holder: the name of the leader's sessions; None: nobody leads.
        term: raised whenever somebody takes the leadership.
        renewals: raised by each renewal of the term.
        has_expired: by PostgreSQL's clock.
        has_sessions: the holder is connected.
    """

    holder: str | None
    term: int
    renewals: int
    has_expired: bool
    has_sessions: bool


def look(connection: Connection) -> LeadershipLease:
    """Read the leadership now."""
    row = fetch_one(connection, _LOOK, {})
    if row is None:
        fetch_all(connection, "INSERT INTO leadership DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING id", {})
        row = fetch_one(connection, _LOOK, {})
    assert row is not None
    return LeadershipLease(*row)


def take(connection: Connection, seen: LeadershipLease, name: str, *, lease_seconds: float) -> int | None:
    """Become the leader after the lease that was seen; the new term, or None: it is another one by now."""
    parameters = {
        "name": name,
        "seconds": lease_seconds,
        "holder": seen.holder,
        "term": seen.term,
        "renewals": seen.renewals,
    }
    row = fetch_one(connection, _TAKE, parameters)
    return None if row is None else int(row[0])


def renew(connection: Connection, name: str, term: int, *, lease_seconds: float) -> bool:
    """Stay the leader; False: somebody else is."""
    parameters = {"name": name, "term": term, "seconds": lease_seconds}
    return fetch_one(connection, _RENEW, parameters) is not None


def resign(connection: Connection, name: str, term: int) -> None:
    """Lead no more, if this one still does: another may at once."""
    fetch_one(connection, _RESIGN, {"name": name, "term": term})


def end_sessions(connection: Connection, name: str) -> int:
    """End the sessions of a former leader, with whatever they were doing; how many have not ended yet."""
    # All are told before the end of any is waited for. As a condition it might be asked of other sessions.
    fetch_all(connection, f"SELECT pg_terminate_backend(pid) {_SESSIONS}", {"name": name})
    parameters = {"name": name, "milliseconds": SESSION_END_MILLISECONDS}
    ended = fetch_all(
        connection, f"SELECT pg_terminate_backend(pid, %(milliseconds)s) {_SESSIONS}", parameters
    )
    return sum(not row[0] for row in ended)


def expect_holder(connection: psycopg.Connection[Any], name: str, term: int) -> None:
    """See that a session that was just opened is one of the leader's.

    Raises:
        psycopg.OperationalError: somebody else leads by now.
    """
    row = connection.execute(_IS_HELD, {"name": name, "term": term}).fetchone()
    if row is None or not row[0]:
        raise psycopg.OperationalError("somebody else leads")


def is_led(connection: Connection) -> bool:
    """Say whether some scheduler leads now."""
    sql = "SELECT EXISTS (SELECT FROM leadership WHERE holder IS NOT NULL AND expires_at > now())"
    row = fetch_one(connection, sql, {})
    return bool(row and row[0])
