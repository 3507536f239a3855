"""Secrets that the service made for itself: random, and the same for all of its processes."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one

__all__ = ["secret"]

# Whoever comes first makes it; whoever comes second waits for the first one's commit, and then reads it.
_MAKE = """
    INSERT INTO service_secrets (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING
    RETURNING value
"""
_READ = "SELECT value FROM service_secrets WHERE name = %(name)s"


def secret(connection: Connection, name: str) -> str:
    """Return the secret of this name: 256 random bits in hexadecimal, made by whoever asks first."""
    found = fetch_one(connection, _READ, {"name": name})
    if found is None:
        made = {"name": name, "value": secrets.token_hex(32)}
        found = fetch_one(connection, _MAKE, made) or fetch_one(connection, _READ, made)
    assert found is not None, "nobody deletes secrets"
    return str(found[0])
