"""Cron schedules and their ticks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from goqueue.db.tables.base import Timestamp, count, identity, metadata, now, within_bounds

schedules = Table(
    "schedules",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    Column("queue", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    count("priority", SmallInteger),
    Column("max_retries", SmallInteger, nullable=False, server_default="3"),
    Column("overlap", Text, nullable=False, server_default="queue"),
    Column("catch_up", Text, nullable=False, server_default="once"),
    Column("catch_up_max", Integer, nullable=False, server_default="100"),
    Column("catch_up_window_seconds", Float, nullable=False, server_default="86400"),
    count("jitter_seconds", Float),
    # What else the job says: time_limit_seconds, ttl_seconds, options, unique, …
    Column("job_settings", JSON, nullable=False, server_default="{}"),
    # [{"start", "end", "days"} | {"from", "until"}] and what happens to their ticks.
    Column("blackouts", JSON, nullable=False, server_default="[]"),
    Column("blackout_policy", Text, nullable=False, server_default="skip"),
    Column("paused_at", Timestamp),
    Column("paused_by", Text),
    Column("pause_reason", Text),
    # The next nominal time; NULL while paused. Every nominal time before it is decided.
    Column("next_at", Timestamp),
    # When that is decided: with its jitter, or after its blackout.
    Column("due_at", Timestamp),
    # "api" or "code": what is declared in code is put right at each start.
    Column("source", Text, nullable=False, server_default="api"),
    now("created_at"),
    now("updated_at"),
    CheckConstraint("overlap IN ('skip','queue','cancel_running')", name="overlap"),
    CheckConstraint("catch_up IN ('skip','once','all')", name="catch_up"),
    CheckConstraint("blackout_policy IN ('skip','after')", name="blackout_policy"),
    CheckConstraint(
        "(next_at IS NULL) = (due_at IS NULL) AND (paused_at IS NULL OR next_at IS NULL)", name="next_at"
    ),
    CheckConstraint("paused_at IS NOT NULL OR (paused_by IS NULL AND pause_reason IS NULL)", name="pause"),
    CheckConstraint("source IN ('api','code')", name="source"),
    CheckConstraint(
        within_bounds("paused_at", "next_at", "due_at") + " AND jitter_seconds BETWEEN 0 AND 86400",
        name="moments",
    ),
    Index("schedules_due_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

# One row a nominal time that was decided: fired or not, it can never be decided again.
schedule_ticks = Table(
    "schedule_ticks",
    metadata,
    Column("schedule_id", BigInteger, nullable=False),
    Column("nominal_at", Timestamp, nullable=False),
    # "scheduled", or "manual" for a run-now, whose nominal time is when it was asked for.
    Column("kind", Text, nullable=False, server_default="scheduled"),
    Column("outcome", Text, nullable=False),
    Column("job_id", BigInteger),
    now("decided_at"),
    PrimaryKeyConstraint("schedule_id", "nominal_at", "kind"),
    CheckConstraint("outcome IN ('fired','overlapped','missed','blacked_out','over_quota')", name="outcome"),
    CheckConstraint("(job_id IS NOT NULL) = (outcome = 'fired')", name="job_id"),
    CheckConstraint("kind IN ('scheduled','manual')", name="kind"),
)
