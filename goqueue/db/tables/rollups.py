"""What happened when, counted beforehand: a page over thirty days reads some hundred rows."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, Index, Integer, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from goqueue.db.tables.base import Timestamp, metadata

# One row a step in which something ended: of the whole service (name ''), of a queue, or of a type.
rollups = Table(
    "rollups",
    metadata,
    Column("scope", Text, nullable=False),
    Column("name", Text(collation="C"), nullable=False),
    Column("step_seconds", Integer, nullable=False),
    Column("starts_at", Timestamp, nullable=False),
    # Jobs that came to an end in the step, and attempts that failed and are tried again.
    Column("completed", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
    Column("expired", Integer, nullable=False, server_default="0"),
    Column("retried", Integer, nullable=False, server_default="0"),
    # Of the last attempts of these jobs, in the buckets of `goqueue/insight/histograms.py`: how long they had
    # waited, and how long they ran. Trailing zeros are left out.
    Column("waits", ARRAY(Integer), nullable=False, server_default="{}"),
    Column("runs", ARRAY(Integer), nullable=False, server_default="{}"),
    Column("wait_seconds", Float, nullable=False, server_default="0"),
    Column("run_seconds", Float, nullable=False, server_default="0"),
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
