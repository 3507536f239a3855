"""Idempotency keys: one row a key, in the transaction that creates its jobs."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import fetch_one
from goqueue.errors import IdempotencyConflictError

# Whoever comes second waits here until the first one's transaction ends. After its commit there is a
# conflict, and the next statement of READ COMMITTED sees its row; after its rollback the key is free.
_RESERVE = """
    INSERT INTO idempotency_keys (key, request_hash) VALUES (%(key)s, %(hash)s)
    ON CONFLICT DO NOTHING RETURNING key
"""

# Locked: an answer that named a job which is deleted now may be made anew, by one of those who ask.
_FIND = "SELECT request_hash, response FROM idempotency_keys WHERE key = %(key)s FOR UPDATE"

_KEEP = "UPDATE idempotency_keys SET response = %(response)s::json WHERE key = %(key)s RETURNING key"

#: The cleaner may delete a key between the two statements; then it is free.
_TRIES = 3


def reserve(connection: Connection, key: str, request_hash: str, *formerly: str) -> Any:
    """Take a key in this transaction; None. Or, where it was used before, what was answered then.

    Args:
        connection: in a transaction.
        key: what the client calls the request.
        request_hash: what tells it from others.
        *formerly: what would have told it under other keys that hashes are made with.

    Raises:
        IdempotencyConflictError: the key was used with another request.
    """
    for _ in range(_TRIES):
        if fetch_one(connection, _RESERVE, {"key": key, "hash": request_hash}) is not None:
            return None
        row = fetch_one(connection, _FIND, {"key": key})
        if row is not None:
            if row[0] not in {request_hash, *formerly}:
                raise IdempotencyConflictError
            return row[1]
    raise IdempotencyConflictError("the idempotency key is being forgotten at this moment")


def keep(connection: Connection, key: str, response: Any) -> None:
    """Remember what is answered, for the next request with this key."""
    text = orjson.dumps(response, option=orjson.OPT_UTC_Z).decode()
    fetch_one(connection, _KEEP, {"key": key, "response": text})
