"""What ties jobs together: dependencies, and keys that only one of them may have."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from goqueue.db.tables.base import Timestamp, metadata, now

# One row an edge: `job_id` waits for `parent_id`. No foreign keys, as for attempts.
dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("parent_id", BigInteger, nullable=False),
    Column("on_parent_failure", Text, nullable=False, server_default="fail"),
    # What the parent came to; NULL while the child still waits for it.
    Column("parent_status", Text),
    PrimaryKeyConstraint("job_id", "parent_id"),
    CheckConstraint("job_id <> parent_id", name="itself"),
    CheckConstraint("on_parent_failure IN ('fail','cancel','run')", name="on_parent_failure"),
    CheckConstraint("parent_status IN ('completed','failed','cancelled','expired')", name="parent_status"),
    # A parent has ended: its children, in the order in which they are locked. Whose row must be kept.
    Index("dependencies_parent_idx", "parent_id", "job_id"),
)

# Who has a unique key. A row whose job has left `states`, or is older than the window, is free to be taken.
unique_keys = Table(
    "unique_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    Column("states", ARRAY(Text), nullable=False),
    # Until when the key is kept; NULL: as long as its job is in one of the states.
    Column("until", Timestamp),
    now("created_at"),
    Index("unique_keys_job_idx", "job_id"),
)
