"""Dead letters in groups, and operations over many jobs."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from goqueue.db.tables.base import Timestamp, count, identity, metadata, now

# What a fingerprint stands for: a kind of failure.
failure_kinds = Table(
    "failure_kinds",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("exception", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("frame", Text),
    now("first_seen_at"),
)

bulk_operations = Table(
    "bulk_operations",
    metadata,
    identity(),
    Column("action", Text, nullable=False),
    # {"priority": …} of set_priority.
    Column("arguments", JSON),
    Column("filter", JSON, nullable=False),
    Column("state", Text, nullable=False, server_default="running"),
    Column("reason", Text),
    # Jobs a second; NULL: as fast as it goes.
    Column("rate", Float),
    # So many first, and the others only when these succeeded.
    Column("canary", Integer),
    Column("total", Integer, nullable=False),
    count("done"),
    count("changed"),
    # Every job up to this id was done, of those up to the newest that there was at the start.
    count("after_id", BigInteger),
    Column("up_to_id", BigInteger, nullable=False),
    Column("requested_by", Text),
    # When the rate lets the next job be changed: it has paid for those before.
    now("next_at"),
    now("created_at"),
    now("updated_at"),
    Column("finished_at", Timestamp),
    CheckConstraint("action IN ('retry','cancel','delete','set_priority')", name="action"),
    CheckConstraint("state IN ('running','canary','completed','aborted','stopped')", name="state"),
    CheckConstraint(
        "(finished_at IS NOT NULL) = (state IN ('completed','aborted','stopped'))", name="finished_at"
    ),
    Index("bulk_operations_unfinished_idx", "id", postgresql_where=text("finished_at IS NULL")),
)

# The jobs that a canary retried: whether the others follow depends on them.
bulk_canaries = Table(
    "bulk_canaries",
    metadata,
    Column("operation_id", BigInteger, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("operation_id", "job_id"),
)
