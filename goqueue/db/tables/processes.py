"""Processes: workers, the leading scheduler, and what API processes sign with and remember of clients."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from goqueue.db.tables.base import Timestamp, count, flag, identity, metadata, now

# One row a worker process; its heartbeat is the lease of every job it holds.
workers = Table(
    "workers",
    metadata,
    identity(),
    Column("hostname", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    # Which process numbers mean the same: this boot of this host and its PID namespace. NULL: unknown.
    Column("host_key", Text),
    Column("queues", ARRAY(Text), nullable=False),
    Column("threads", SmallInteger, nullable=False),
    count("busy", SmallInteger),
    # How many async jobs it runs at once beside those of its threads, and how many it has. 0: it knows no
    # async type, or is of a release that does not tell.
    count("async_slots"),
    count("async_busy"),
    now("started_at"),
    now("heartbeat_at"),
    # Set when it said goodbye, or when the rescuer took its jobs: it can never renew again.
    Column("stopped_at", Timestamp),
    # Somebody else found it gone or silent, and ended its lease.
    flag("lost"),
    # The memory of the process that is its own, at its last heartbeat. NULL: unknown.
    Column("memory_bytes", BigInteger),
    # What an operator wants it to do: fetch no more, or end after its jobs. It is told by its heartbeat.
    Column("command", Text),
    Column("commanded_at", Timestamp),
    # Why it ends, from when it drains. NULL: it does not, nobody knows, or its release does not tell.
    Column("shutdown_reason", Text),
    # The job types that it can run, each with the hash of its schema, and a hash of both lists: processes
    # that know the same have the same. NULL: a release that does not tell.
    Column("signature", Text),
    Column("types", ARRAY(Text)),
    Column("schemas", ARRAY(Text)),
    # Which of the types are async.
    Column("async_types", ARRAY(Text)),
    # How many jobs of each of its queues it runs at once, in their order: on its threads, on its event loop,
    # or both, by the types that were declared for the queue. NULL: as many as it has threads.
    Column("queue_slots", ARRAY(Integer)),
    # What it is, as `name=value`: jobs may require it. NULL: a release that knows of no labels.
    Column("labels", ARRAY(Text)),
    # It claims ranges of ready jobs; a worker of an older release takes one on its runway for garbage.
    flag("claims_ranges"),
    # It asks `ready_jobs` and `running_jobs`; a worker of an older release asks the indexes that were there
    # before them (`goqueue.db.retired_indexes.py`).
    flag("places_jobs"),
    # It changes rows by their ids; a worker of an older release does by their places, which name rows of
    # other partitions as well. Where jobs are in partitions, a constraint refuses its registration.
    flag("locks_by_id"),
    # A worker outside of GoQueue, which leases its jobs over HTTP: whose key it came with, what it calls
    # itself, what it is written in, and from where. NULL: a worker process of GoQueue.
    Column("client", Text),
    Column("remote_name", Text),
    Column("language", Text),
    Column("address", Text),
    CheckConstraint("command IN ('quiet','stop')", name="command"),
    Index("workers_heartbeat_idx", "heartbeat_at", postgresql_where=text("stopped_at IS NULL")),
    Index(
        "workers_remote_idx",
        "client",
        "remote_name",
        unique=True,
        postgresql_where=text("remote_name IS NOT NULL AND stopped_at IS NULL"),
    ),
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
    count("term", BigInteger),
    # Counts up with each renewal: whoever sees it stand still for a lease needs no clock of another machine.
    count("renewals", BigInteger),
    now("renewed_at"),
    now("expires_at"),
    CheckConstraint("id = 1", name="one_row"),
)

# What the processes of the service sign with, made by the first that needs it: nobody can derive it from the
# settings, and every process reads the same.
service_secrets = Table(
    "service_secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    now("created_at"),
)

# One row a browser that showed a key, or whose user signed in at a provider. The row is the session: without
# it a cookie opens nothing.
dashboard_sessions = Table(
    "dashboard_sessions",
    metadata,
    identity(),
    # SHA-256 of the name in its cookie: who reads this table can sign in as nobody.
    Column("name_hash", Text, nullable=False, unique=True),
    # The hash of the key that was shown, as the settings or its row have it: a key that is taken away ends
    # its sessions. NULL: a user signed in.
    Column("key_hash", Text),
    Column("address", Text),
    Column("user_agent", Text),
    now("created_at"),
    Column("expires_at", Timestamp, nullable=False),
    # Of which row the key is. NULL: it is one of the settings.
    Column("key_id", Text),
    # Of a user: who says who that is, what that one calls the user for ever, and what people do.
    Column("issuer", Text),
    Column("subject", Text),
    Column("user_name", Text),
    # What the provider said, as far as the rules of the settings look at it: what the user may do is computed
    # from it anew.
    Column("claims", JSON),
    # What the provider is shown when the user signs out there, too. It opens nothing.
    Column("id_token", Text),
    CheckConstraint(
        "(key_hash IS NULL) = (subject IS NOT NULL) AND (subject IS NULL) = (issuer IS NULL) "
        "AND (subject IS NULL) = (user_name IS NULL) AND (subject IS NULL) = (claims IS NULL) "
        "AND (id_token IS NULL OR subject IS NOT NULL)",
        name="owner",
    ),
    Index("dashboard_sessions_expires_at_idx", "expires_at"),
)

# One row an API key. Whoever reads this table can use none of them.
api_keys = Table(
    "api_keys",
    metadata,
    # Random, and no secret: the part of a key's text that people name it by.
    Column("id", Text, primary_key=True),
    # Keys of one name are of one client.
    Column("name", Text, nullable=False),
    # SHA-256 of its secret, which has 256 random bits.
    Column("secret_hash", Text, nullable=False),
    # The secret before the last rotation, and until when it is good beside the new one.
    Column("previous_hash", Text),
    Column("previous_until", Timestamp),
    Column("scopes", ARRAY(Text), nullable=False),
    # Only jobs of these exist for it. NULL: all do.
    Column("queues", ARRAY(Text)),
    Column("types", ARRAY(Text)),
    Column("created_by", Text, nullable=False),
    now("created_at"),
    Column("expires_at", Timestamp),
    # Written at most once a minute.
    Column("last_used_at", Timestamp),
    Column("rotated_at", Timestamp),
    Column("revoked_at", Timestamp),
    Column("revoked_by", Text),
    # The namespace that it opens; `default` is the installation itself, in whose table all keys are.
    Column("namespace", Text, nullable=False, server_default="default"),
    CheckConstraint("(previous_hash IS NULL) = (previous_until IS NULL)", name="previous"),
)
