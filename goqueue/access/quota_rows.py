"""The bucket of creates of a namespace, as a row of its schema that all processes share."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.statements import fetch_one

__all__ = ["burst_of", "take", "tokens"]

# The bucket holds what may be created in a second, at least one job, and is full where nothing was created
# yet. What is over that is taken as well, and owed: a batch of any size passes when the bucket is full, and
# those that follow wait for it.
_NOW = """
    least(%(burst)s, create_tokens.tokens
          + %(rate)s * greatest(0, extract(epoch FROM clock_timestamp() - create_tokens.filled_at)))
"""
_TAKE = f"""
    INSERT INTO create_tokens (tokens, filled_at) VALUES (%(burst)s::float - %(count)s, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET tokens = {_NOW} - %(count)s, filled_at = clock_timestamp()
    WHERE {_NOW} >= least(%(count)s, %(burst)s)
    RETURNING tokens
"""
_READ = f"SELECT ({_NOW})::float FROM create_tokens"


def take(connection: Connection, rate: float, count: int) -> float | None:
    """Take so many creates, and return what is left, below 0 what is owed; None: there are too few."""
    row = fetch_one(connection, _TAKE, {"rate": rate, "burst": burst_of(rate), "count": count})
    return None if row is None else float(row[0])


def tokens(connection: Connection, rate: float) -> float:
    """Return how many creates may be taken now, below 0 how many are owed."""
    burst = burst_of(rate)
    row = fetch_one(connection, _READ, {"rate": rate, "burst": burst})
    return burst if row is None else float(row[0])


def burst_of(rate: float) -> float:
    """Return how many creates a full bucket has."""
    return max(1.0, rate)
