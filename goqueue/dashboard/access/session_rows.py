"""Sessions of the dashboard that know a key or a user."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.access.principal import Principal, User
from goqueue.db.statements import Values, array, fetch_all, fetch_one

__all__ = [
    "EndedSession",
    "Owner",
    "SignedIn",
    "begin",
    "end",
    "end_by_id",
    "forget",
    "list_all",
    "owner_of",
]


_OWNER = "key_hash, key_id, issuer, subject, user_name, claims"

_BEGIN = """
    INSERT INTO dashboard_sessions (name_hash, key_hash, key_id, address, user_agent, issuer, subject,
                                    user_name, claims, id_token, expires_at)
    VALUES (%(name_hash)s, %(key_hash)s, %(key_id)s, %(address)s, %(user_agent)s, %(issuer)s, %(subject)s,
            %(user_name)s, %(claims)s::json, %(id_token)s, now() + make_interval(secs => %(seconds)s))
    ON CONFLICT DO NOTHING RETURNING id
"""
_OWNER_OF = f"""
    SELECT {_OWNER} FROM dashboard_sessions WHERE name_hash = %(name_hash)s AND expires_at > now()
"""
_END = "DELETE FROM dashboard_sessions WHERE name_hash = %(name_hash)s RETURNING id, issuer, id_token"
_END_BY_ID = "DELETE FROM dashboard_sessions WHERE id = ANY (%(ids)s::bigint[]) RETURNING id"
_LIST = f"""
    SELECT id, name_hash, address, user_agent, created_at, expires_at, {_OWNER}
    FROM dashboard_sessions WHERE expires_at > now() ORDER BY id DESC LIMIT %(limit)s
"""
_FORGET = """
    DELETE FROM dashboard_sessions WHERE id IN (
        SELECT id FROM dashboard_sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s)
    RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whoever a session is of: the key that its browser showed, or the user who signed in.

    Attributes:
        key_hash: of the key that was shown, as the settings or its row have it; None: it is a user's.
        key_id: of its row; None: it is one of the settings.
        user: who signed in; None: a key was shown.
        claims: what the provider said of the user, as far as rules look at it.
    """

    key_hash: str | None
    key_id: str | None
    user: User | None
    claims: Mapping[str, Any]


class SignedIn(NamedTuple):
    """A session whose browser showed a key, or whose user signed in.

    Attributes:
        name_hash: SHA-256 of the name in its cookie.
        address, user_agent: of the browser, when it signed in.
    """

    id: int
    name_hash: str
    address: str | None
    user_agent: str | None
    created_at: datetime
    expires_at: datetime
    owner: Owner


class EndedSession(NamedTuple):
    """A session that was ended.

    Attributes:
        issuer: of its user; None: it was a key's.
        id_token: what the provider said when its user signed in.
    """

    id: int
    issuer: str | None
    id_token: str | None


def begin(
    connection: Connection,
    name_hash: str,
    principal: Principal,
    *,
    claims: Mapping[str, Any],
    id_token: str | None,
    address: str | None,
    user_agent: str | None,
    seconds: float,
) -> None:
    """Remember that a browser showed a key, or that its user signed in, for so many seconds.

    Args:
        connection: of the transaction.
        name_hash: of the session.
        principal: whoever signs in.
        claims: of a user: what the rules look at.
        id_token: of a user: what the provider is shown when the user signs out there.
        address: where the browser is.
        user_agent: what it calls itself.
        seconds: how long the session is good.
    """
    user = principal.user
    parameters = {
        "name_hash": name_hash,
        "key_hash": principal.key_hash if user is None else None,
        "key_id": principal.key_id,
        "address": address,
        "user_agent": user_agent,
        "issuer": None if user is None else user.issuer,
        "subject": None if user is None else user.subject,
        "user_name": None if user is None else user.name,
        "claims": None if user is None else json.dumps(claims),
        "id_token": None if user is None else id_token,
        "seconds": seconds,
    }
    fetch_one(connection, _BEGIN, parameters)


def owner_of(connection: Connection, name_hash: str) -> Owner | None:
    """Return whoever a session is of; None where there is no such session."""
    row = fetch_one(connection, _OWNER_OF, {"name_hash": name_hash})
    return None if row is None else _owner(row)


def end(connection: Connection, name_hash: str) -> EndedSession | None:
    """End a session, and return it; None where there is none."""
    row = fetch_one(connection, _END, {"name_hash": name_hash})
    return None if row is None else EndedSession(*row)


def end_by_id(connection: Connection, session_ids: Sequence[int]) -> list[int]:
    """End these sessions; the ids of those that there were."""
    return [row[0] for row in fetch_all(connection, _END_BY_ID, {"ids": array(session_ids)})]


def list_all(connection: Connection, *, limit: int) -> list[SignedIn]:
    """List the sessions that are signed in, the newest first."""
    rows = fetch_all(connection, _LIST, {"limit": limit})
    return [SignedIn._make((*row[:-6], _owner(row[-6:]))) for row in rows]


def forget(connection: Connection, *, limit: int) -> int:
    """Delete sessions that are over; how many."""
    return len(fetch_all(connection, _FORGET, {"limit": limit}))


def _owner(row: Values) -> Owner:
    key_hash, key_id, issuer, subject, user_name, claims = row
    user = None if subject is None else User(issuer, subject, user_name)
    return Owner(key_hash, key_id, user, claims or {})
