"""Orders to encrypt with another key what is encrypted."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, Index, Table, Text, text

from goqueue.db.tables.base import Timestamp, count, identity, metadata, now

# One row an order. The newest one counts: one that was running before it is stopped.
reencryptions = Table(
    "reencryptions",
    metadata,
    identity(),
    # The key that all that is encrypted shall be encrypted with.
    Column("key_id", Text, nullable=False),
    # Jobs a second; NULL: as fast as it goes.
    Column("rate", Float),
    Column("state", Text, nullable=False, server_default="running"),
    # Every encrypted job up to this id was looked at.
    count("after_id", BigInteger),
    # Jobs and schedules that were encrypted anew, and those that the scheduler could not decrypt.
    count("done", BigInteger),
    count("undecryptable", BigInteger),
    # Why it does not go on.
    Column("reason", Text),
    Column("requested_by", Text, nullable=False),
    now("created_at"),
    now("updated_at"),
    Column("finished_at", Timestamp),
    CheckConstraint("state IN ('running','completed','stopped')", name="state"),
    CheckConstraint("(finished_at IS NULL) = (state = 'running')", name="finished_at"),
    Index("reencryptions_running_idx", "id", postgresql_where=text("finished_at IS NULL")),
)
