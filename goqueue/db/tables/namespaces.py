"""Namespaces inside of the database, and the tokens that a namespace creates jobs for."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, Integer, SmallInteger, Table, Text, text

from goqueue.db.tables.base import Timestamp, identity, metadata, now

# One row a namespace inside of the database. Every schema has the table; that of the installation itself is
# the one that is read.
namespaces = Table(
    "namespaces",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    now("created_at"),
    Column("created_by", Text, nullable=False),
    # When its schema was ready. NULL: whoever made it has not come so far, and nobody serves it.
    Column("made_at", Timestamp),
    # Quotas; NULL: none.
    Column("max_waiting_jobs", BigInteger),
    Column("creates_per_second", Float),
    Column("max_payload_bytes", Integer),
    Column("max_running_jobs", Integer),
    # Of the worker processes that are for all namespaces, so many shares are for this one.
    Column("share", Integer, nullable=False, server_default=text("1")),
    CheckConstraint(
        "max_waiting_jobs >= 0 AND creates_per_second > 0 AND max_payload_bytes >= 2 "
        "AND max_running_jobs >= 1 AND share BETWEEN 1 AND 100",
        name="quotas",
    ),
)

# One row at most: how many jobs the namespace of this schema may still create at once, by its quota.
create_tokens = Table(
    "create_tokens",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default="1"),
    Column("tokens", Float, nullable=False),
    now("filled_at"),
    CheckConstraint("id = 1", name="one_row"),
)

# One row at most, where the namespace of this schema has a quota of jobs that run: its rounds of admission
# lock it, so that those of two queues do not spend the same slot.
running_quota = Table(
    "running_quota",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default="1"),
    Column("namespace", Text, nullable=False),
    Column("max_running_jobs", Integer, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
