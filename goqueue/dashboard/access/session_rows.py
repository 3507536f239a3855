"""Sessions of the dashboard that know a key, and the secrets that the service made for itself."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one

__all__ = ["SignedIn", "begin", "end", "end_by_id", "forget", "key_of", "list_all", "secret"]

# Whoever comes first makes it; whoever comes second waits for the first one's commit, and then reads it.
_MAKE = """
    INSERT INTO service_secrets (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING
    RETURNING value
"""
_READ = "SELECT value FROM service_secrets WHERE name = %(name)s"

_BEGIN = """
    INSERT INTO dashboard_sessions (name_hash, key_hash, key_id, address, user_agent, expires_at)
    VALUES (%(name_hash)s, %(key_hash)s, %(key_id)s, %(address)s, %(user_agent)s,
            now() + make_interval(secs => %(seconds)s))
    ON CONFLICT DO NOTHING RETURNING id
"""
_KEY_OF = """
    SELECT key_hash, key_id FROM dashboard_sessions WHERE name_hash = %(name_hash)s AND expires_at > now()
"""
_END = "DELETE FROM dashboard_sessions WHERE name_hash = %(name_hash)s RETURNING id"
_END_BY_ID = "DELETE FROM dashboard_sessions WHERE id = ANY (%(ids)s::bigint[]) RETURNING id"
_LIST = """
    SELECT id, name_hash, key_hash, key_id, address, user_agent, created_at, expires_at
    FROM dashboard_sessions WHERE expires_at > now() ORDER BY id DESC LIMIT %(limit)s
"""
_FORGET = """
    DELETE FROM dashboard_sessions WHERE id IN (
        SELECT id FROM dashboard_sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s)
    RETURNING id
"""


class SignedIn(NamedTuple):
    """A session whose browser showed a key.

    Attributes:
        name_hash: SHA-256 of the name in its cookie.
        key_hash: of the key that was shown, as the settings or its row have it.
        key_id: of its row; None: it is one of the settings.
        address, user_agent: of the browser, when it signed in.
    """

    id: int
    name_hash: str
    key_hash: str
    key_id: str | None
    address: str | None
    user_agent: str | None
    created_at: datetime
    expires_at: datetime


def secret(connection: Connection, name: str) -> str:
    """Return the secret of this name: 256 random bits in hexadecimal, made by whoever asks first."""
    found = fetch_one(connection, _READ, {"name": name})
    if found is None:
        made = {"name": name, "value": secrets.token_hex(32)}
        found = fetch_one(connection, _MAKE, made) or fetch_one(connection, _READ, made)
    assert found is not None, "nobody deletes secrets"
    return str(found[0])


def begin(
    connection: Connection,
    name_hash: str,
    key_hash: str,
    *,
    key_id: str | None,
    address: str | None,
    user_agent: str | None,
    seconds: float,
) -> None:
    """Remember that a browser showed a key, for so many seconds."""
    parameters = {
        "name_hash": name_hash,
        "key_hash": key_hash,
        "key_id": key_id,
        "address": address,
        "user_agent": user_agent,
        "seconds": seconds,
    }
    fetch_one(connection, _BEGIN, parameters)


def key_of(connection: Connection, name_hash: str) -> tuple[str, str | None] | None:
    """Return the hash of the key that a session showed, and its row's id; None where there is none."""
    row = fetch_one(connection, _KEY_OF, {"name_hash": name_hash})
    return None if row is None else (row[0], row[1])


def end(connection: Connection, name_hash: str) -> int | None:
    """End a session; its id, or None where there is none."""
    row = fetch_one(connection, _END, {"name_hash": name_hash})
    return None if row is None else int(row[0])


def end_by_id(connection: Connection, session_ids: Sequence[int]) -> list[int]:
    """End these sessions; the ids of those that there were."""
    return [row[0] for row in fetch_all(connection, _END_BY_ID, {"ids": array(session_ids)})]


def list_all(connection: Connection, *, limit: int) -> list[SignedIn]:
    """List the sessions that are signed in, the newest first."""
    return [SignedIn(*row) for row in fetch_all(connection, _LIST, {"limit": limit})]


def forget(connection: Connection, *, limit: int) -> int:
    """Delete sessions that are over; how many."""
    return len(fetch_all(connection, _FORGET, {"limit": limit}))
