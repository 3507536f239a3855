"""The past: attempts, edits of jobs, and what ended when. No foreign keys: see `attempts`."""

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
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from goqueue.db.tables.base import Timestamp, count, metadata, now

# One row an attempt, written once, when it ends. No foreign key: its check would lock the job row again for
# every attempt; the cleaner deletes both in one statement.
attempts = Table(
    "attempts",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("worker_id", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
    Column("started_at", Timestamp, nullable=False),
    now("finished_at"),
    Column("run_seconds", Float, nullable=False),
    # Two records of one claim are impossible, whatever else fails.
    PrimaryKeyConstraint("job_id", "fence"),
    CheckConstraint(
        "outcome IN ('completed','failed','snoozed','interrupted','worker_died','cancelled')", name="outcome"
    ),
    # The roller and the cleaner: which jobs completed when, by their last attempt.
    Index("attempts_finished_idx", "finished_at"),
    # The rollups: which attempts failed when. Paid for by these alone.
    Index("attempts_failed_idx", "finished_at", postgresql_where=text("outcome = 'failed'")),
)

# How far an attempt has come, by its own account; written while it runs.
attempt_progress = Table(
    "attempt_progress",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("progress", Float, nullable=False),
    Column("message", Text),
    now("updated_at"),
    PrimaryKeyConstraint("job_id", "fence"),
    CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
)

# The lines that an attempt logged, in their order.
attempt_logs = Table(
    "attempt_logs",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("line", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("logged_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("job_id", "fence", "line"),
)

# What an attempt streams while it runs, in pieces, in their order. No text: what came behind was not kept.
job_output = Table(
    "job_output",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("text", Text),
    now("written_at"),
    PrimaryKeyConstraint("job_id", "fence", "chunk"),
)

# What a job was before each edit.
job_versions = Table(
    "job_versions",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("available_at", Timestamp, nullable=False),
    # NULL: it required nothing, or a release before this one edited it.
    Column("requires", ARRAY(Text)),
    Column("slots", SmallInteger),
    Column("replaced_by", Text),
    now("replaced_at"),
    PrimaryKeyConstraint("job_id", "version"),
)

# One row a step in which something ended: of the whole service (name ''), of a queue, or of a type.
rollups = Table(
    "rollups",
    metadata,
    Column("scope", Text, nullable=False),
    Column("name", Text(collation="C"), nullable=False),
    Column("step_seconds", Integer, nullable=False),
    Column("starts_at", Timestamp, nullable=False),
    # Jobs that came to an end in the step, and attempts that failed and are tried again.
    count("completed"),
    count("failed"),
    count("cancelled"),
    count("expired"),
    count("retried"),
    # Of the last attempts of these jobs, in the buckets of `goqueue/insight/histograms.py`: how long they had
    # waited, and how long they ran. Trailing zeros are left out.
    Column("waits", ARRAY(Integer), nullable=False, server_default="{}"),
    Column("runs", ARRAY(Integer), nullable=False, server_default="{}"),
    count("wait_seconds", Float),
    count("run_seconds", Float),
    PrimaryKeyConstraint("scope", "name", "step_seconds", "starts_at"),
    CheckConstraint("scope IN ('service','queue','type')", name="scope"),
    # The roller, which deletes by age.
    Index("rollups_age_idx", "step_seconds", "starts_at"),
)

# Up to when each length of step is counted.
rollup_progress = Table(
    "rollup_progress",
    metadata,
    Column("step_seconds", Integer, primary_key=True, autoincrement=False),
    Column("up_to", Timestamp, nullable=False),
)
