"""Queues and job types: how their jobs are let in. See `goqueue/limits/settings.py`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from goqueue.db.tables.base import Timestamp, count, flag, identity, metadata, now, within_bounds

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    # A pause with an end is over when that has come, whatever still stands here.
    Column("paused_at", Timestamp),
    Column("paused_until", Timestamp),
    Column("paused_by", Text),
    Column("pause_reason", Text),
    # The most jobs that run at once: of the queue, and of each concurrency key.
    Column("concurrency", Integer),
    Column("key_concurrency", Integer),
    Column("on_conflict", Text, nullable=False, server_default="wait"),
    # Keys take turns; the jobs of a key run one after the other, in the order of their creation.
    flag("fair"),
    flag("fifo"),
    # Starts of the queue, and of each key: a RateLimit of `goqueue/limits/settings.py`.
    Column("rate", JSON),
    Column("key_rate", JSON),
    # A handler was told to slow down: nothing starts before, and then more and more over the ramp.
    Column("throttled_until", Timestamp),
    # How long a ramp takes; when the last one began, or will begin, and ends.
    count("ramp_seconds", Float),
    Column("ramping_since", Timestamp),
    Column("ramping_until", Timestamp),
    # The wait that its jobs should not exceed, and the part of them that has to keep it.
    Column("slo_wait_seconds", Float),
    Column("slo_objective", Float, nullable=False, server_default=text("0.99")),
    # Its jobs start only when the dispatcher has let them in (`jobs.admitted`).
    Column(
        "governed",
        Boolean,
        Computed(
            "concurrency IS NOT NULL OR key_concurrency IS NOT NULL OR fair OR fifo "
            "OR rate IS NOT NULL OR key_rate IS NOT NULL",
            persisted=True,
        ),
        nullable=False,
    ),
    now("created_at"),
    # The same, because its namespace has a quota of jobs that run. A quota changes the default, too, so that
    # it holds for queues that come.
    flag("namespace_governed"),
    CheckConstraint("concurrency >= 1 AND key_concurrency >= 1", name="limits"),
    CheckConstraint("on_conflict IN ('wait','drop_new','cancel_running')", name="on_conflict"),
    CheckConstraint("slo_wait_seconds > 0 AND slo_objective > 0 AND slo_objective < 1", name="slo"),
    CheckConstraint(
        "paused_at IS NOT NULL OR (paused_until IS NULL AND paused_by IS NULL AND pause_reason IS NULL)",
        name="pause",
    ),
    CheckConstraint(
        within_bounds("paused_at", "paused_until", "throttled_until", "ramping_since", "ramping_until")
        + " AND ramp_seconds BETWEEN 0 AND 86400",
        name="moments",
    ),
)

# What is special about one key of a queue; most keys have no row.
queue_keys = Table(
    "queue_keys",
    metadata,
    Column("queue", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("weight", Integer, nullable=False, server_default="1"),
    Column("concurrency", Integer),
    PrimaryKeyConstraint("queue", "key"),
    CheckConstraint("weight BETWEEN 1 AND 1000 AND concurrency >= 1", name="limits"),
)

# One row a start that a rate limit allowed, as long as some window reaches back to it.
rate_grants = Table(
    "rate_grants",
    metadata,
    identity(),
    Column("queue", Text, nullable=False),
    Column("key", Text),
    Column("job_id", BigInteger, nullable=False),
    # The fence that the job had when it was let in: its start has the next one.
    Column("fence", Integer, nullable=False),
    Column("cost", Integer, nullable=False),
    now("granted_at"),
    # When the job started; NULL while it has not.
    Column("used_at", Timestamp),
    Index("rate_grants_queue_idx", "queue", "used_at"),
    Index("rate_grants_key_idx", "queue", "key", postgresql_where=text("key IS NOT NULL")),
)

# The level of a token bucket: of a queue (key ''), or of a key.
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("queue", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("level", Float, nullable=False),
    now("updated_at"),
    PrimaryKeyConstraint("queue", "key"),
)

# Settings and circuit breaker of a job type; a type without any has no row.
types = Table(
    "types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("concurrency", Integer),
    # A Breaker of `goqueue/limits/settings.py`, and where it stands.
    Column("breaker", JSON),
    Column("breaker_state", Text, nullable=False, server_default="closed"),
    Column("breaker_changed_at", Timestamp),
    Column("breaker_reason", Text),
    # Half-open: how many probes admission let in since then, and when the last one.
    count("probes_let_in"),
    Column("probed_at", Timestamp),
    Column(
        "governed",
        Boolean,
        Computed("concurrency IS NOT NULL OR breaker IS NOT NULL", persisted=True),
        nullable=False,
    ),
    CheckConstraint("concurrency >= 1", name="limits"),
    CheckConstraint("breaker_state IN ('closed','open','half_open')", name="breaker_state"),
)

# Ends of attempts a second, of the types that have a breaker. `since` is the change of the breaker after
# which they started: what began before it says nothing about the time since.
type_outcomes = Table(
    "type_outcomes",
    metadata,
    Column("type", Text, nullable=False),
    Column("since", Timestamp, nullable=False),
    Column("second", Timestamp, nullable=False),
    count("completed"),
    count("failed"),
    PrimaryKeyConstraint("type", "since", "second"),
)

# Counts of jobs that are too many to be counted for each request, by the scheduler: how many of a queue are
# ready, waiting, failed …, and of a kind of failure. What is few is counted when it is asked for.
kept_counts = Table(
    "kept_counts",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text(collation="C"), nullable=False),
    Column("jobs", BigInteger, nullable=False),
    now("counted_at"),
    PrimaryKeyConstraint("kind", "name"),
)

# Indexes on paths of the payloads of a type, which somebody asked for; the scheduler makes and drops them.
payload_indexes = Table(
    "payload_indexes",
    metadata,
    identity(),
    Column("type", Text, nullable=False),
    # customer_id, or address.country.
    Column("path", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="building"),
    # Of one that failed: why.
    Column("error", Text),
    now("created_at"),
    now("updated_at"),
    UniqueConstraint("type", "path", name="payload_indexes_type_key"),
    CheckConstraint("state IN ('building','ready','failed','dropping')", name="state"),
)
