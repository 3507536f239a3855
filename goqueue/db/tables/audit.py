"""The table of the audit log. Migration 0021 has its partitions, and what keeps it from being changed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Sequence, Table, Text
from sqlalchemy.dialects.postgresql import JSON

from goqueue.db.tables.base import metadata, now

_ids = Sequence("audit_log_id_seq", metadata=metadata)

# One row a change that somebody made.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, server_default=_ids.next_value(), nullable=False),
    now("noted_at"),
    # Of which kind whoever made it is: a key, a user, anybody, a terminal, a program, the system.
    Column("actor_kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key_id", Text),
    # Where it came from: the address of a request, or a host.
    Column("address", Text),
    Column("request_id", Text),
    # What was done to what: `queue.pause`, `queue mail`.
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    # Of what changed; never a payload.
    Column("before", JSON),
    Column("after", JSON),
    Column("reason", Text),
    # Of a user who signed in at a provider: who said so, and what that one calls the user for ever.
    Column("issuer", Text),
    Column("subject", Text),
    PrimaryKeyConstraint("id", "noted_at"),
    Index("audit_log_target_idx", "target", "id"),
    Index("audit_log_actor_idx", "actor", "id"),
    postgresql_partition_by="RANGE (noted_at)",
)
