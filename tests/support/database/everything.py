"""All that the servers keep, as text: every row of every table, and every key of Redis."""

from __future__ import annotations

from typing import Any

import redis

from goqueue.config.settings import Settings
from goqueue.db.database import Database

__all__ = ["all_keys", "all_rows"]

_TABLES = """
    SELECT relname::text FROM pg_class
    WHERE relkind IN ('r', 'm')
      AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobs'::regclass)
    ORDER BY relname
"""


def all_rows(database: Database) -> dict[str, str]:
    """Every row of each table as text, as a dump of the database or its replica has it."""
    with database.autocommit() as connection:
        names = connection.exec_driver_sql(_TABLES).scalars().all()
        return {
            name: "\n".join(connection.exec_driver_sql(f'SELECT t::text FROM "{name}" AS t').scalars())
            for name in names
        }


def all_keys(settings: Settings) -> str:
    """Every key of Redis with its value."""
    client: Any = redis.Redis.from_url(settings.redis_url.get_secret_value())
    try:
        return "\n".join(f"{key!r} {_value_of(client, key)!r}" for key in client.scan_iter())
    finally:
        client.close()


def _value_of(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"list":
            return client.lrange(key, 0, -1)
        case b"hash":
            return client.hgetall(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"string":
            return client.get(key)
    return client.dump(key)
