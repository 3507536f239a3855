"""Job types that are declared over REST, for workers that are no Python processes."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Float, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from goqueue.db.tables.base import Timestamp, metadata, now

# One row a type that somebody declared. What is NULL is the service's default.
declared_types = Table(
    "declared_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    # JSON Schema, draft 2020-12, within the bounds of `goqueue/remote/declared_schema.py`.
    Column("schema", JSON, nullable=False),
    Column("max_retries", SmallInteger),
    Column("min_backoff_seconds", Float),
    Column("max_backoff_seconds", Float),
    Column("jitter", Boolean),
    Column("time_limit_seconds", Float),
    # What its jobs require of their worker that do not say, as `jobs.requires` has it.
    Column("requires", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # Where its jobs are sent, and what the calls are signed with. NULL: workers lease them.
    Column("url", Text),
    Column("secret", Text),
    # The secret before the last rotation, and until when calls are signed with it as well.
    Column("previous_secret", Text),
    Column("previous_until", Timestamp),
    Column("declared_by", Text, nullable=False),
    now("created_at"),
    # Processes that keep a copy see by it that the row was changed.
    now("updated_at"),
    CheckConstraint("(url IS NULL) = (secret IS NULL)", name="secret"),
    CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", name="previous"),
)
