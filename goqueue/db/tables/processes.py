"""Worker processes, and what API processes remember of their clients."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from goqueue.db.tables.base import Timestamp, metadata, now

# One row a worker process; its heartbeat is the lease of every job it holds.
workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    # Which process numbers mean the same: this boot of this host and its PID namespace. NULL: unknown.
    Column("host_key", Text),
    Column("queues", ARRAY(Text), nullable=False),
    Column("threads", SmallInteger, nullable=False),
    Column("busy", SmallInteger, nullable=False, server_default="0"),
    now("started_at"),
    now("heartbeat_at"),
    # Set when it said goodbye, or when the rescuer took its jobs: it can never renew again.
    Column("stopped_at", Timestamp),
    # Somebody else found it gone or silent, and ended its lease.
    Column("lost", Boolean, nullable=False, server_default=text("false")),
    # The memory of the process that is its own, at its last heartbeat. NULL: unknown.
    Column("memory_bytes", BigInteger),
    # What an operator wants it to do: fetch no more, or end after its jobs. It is told by its heartbeat.
    Column("command", Text),
    Column("commanded_at", Timestamp),
    # The job types that it can run, each with the hash of its schema, and a hash of both lists: processes
    # that know the same have the same. NULL: a release that does not tell.
    Column("signature", Text),
    Column("types", ARRAY(Text)),
    Column("schemas", ARRAY(Text)),
    CheckConstraint("command IN ('quiet','stop')", name="command"),
    Index("workers_heartbeat_idx", "heartbeat_at", postgresql_where=text("stopped_at IS NULL")),
)

# One row a used Idempotency-Key, in the transaction that creates its jobs.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False),
    Column("response", JSON),
    now("created_at"),
    Index("idempotency_keys_created_idx", "created_at"),
)

# One row: which scheduler leads, and until when by this clock. Whoever takes it over raises the term.
leadership = Table(
    "leadership",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default="1"),
    # What the sessions of the leader are called in pg_stat_activity. NULL: it has resigned.
    Column("holder", Text),
    Column("term", BigInteger, nullable=False, server_default="0"),
    # Counts up with each renewal: whoever sees it stand still for a lease needs no clock of another machine.
    Column("renewals", BigInteger, nullable=False, server_default="0"),
    now("renewed_at"),
    now("expires_at"),
    CheckConstraint("id = 1", name="one_row"),
)
