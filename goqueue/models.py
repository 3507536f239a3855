"""The tables. The migrations build them; a test holds both together.

`jobs` is the hot table: every job is one row that is inserted, claimed (updated) and recorded (updated). Each
index on it is paid for three times a job, so each says what it is for. Indexes of rare states are partial.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)

Timestamp = DateTime(timezone=True)


def _now(name: str) -> Column[object]:
    return Column(name, Timestamp, nullable=False, server_default=func.now())


jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="queued"),
    # json, not jsonb: the text is kept as it came. jsonb would turn 1e308 into 309 digits (a way to make one
    # MiB of request into fifty of table) and costs a parse at each write; nothing searches it by index.
    Column("payload", JSON, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("max_retries", SmallInteger, nullable=False, server_default="3"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    # Raised by every claim, lowered by nothing: who does not hold the present number cannot write.
    Column("fence", Integer, nullable=False, server_default="0"),
    # Lonely deaths: worker processes that died while they ran this job and no other.
    Column("deaths", SmallInteger, nullable=False, server_default="0"),
    # Its last worker died: it runs next alone.
    Column("quarantined", Boolean, nullable=False, server_default=text("false")),
    Column("available_at", Timestamp, nullable=False, server_default=func.now()),
    # The order among ready rows: available_at minus the head start of the priority. NULL while the time has
    # not come, so that a hundred thousand rows for tomorrow cost the dispatcher nothing.
    Column("rank", Timestamp),
    Column("time_limit_seconds", Float),
    Column("worker_id", BigInteger),
    # Overrides of the retry policy and options of plain Dramatiq messages; rarely there.
    Column("options", JSON),
    Column("result", JSON),
    Column("error", Text),
    Column("reason", Text),
    _now("created_at"),
    _now("updated_at"),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
    CheckConstraint(
        "status IN ('queued','blocked','running','completed','failed','cancelled','expired')", name="status"
    ),
    # A final state and its time come and go together, so that the cleaner cannot miss a row.
    CheckConstraint(
        "(finished_at IS NOT NULL) = (status IN ('completed','failed','cancelled','expired'))",
        name="finished_at",
    ),
    # Only a running job has a holder. (A running job without one is held by a client of the REST API.)
    CheckConstraint("worker_id IS NULL OR status = 'running'", name="worker_id"),
    # A job runs at most 1 + max_retries times, whatever asks for more.
    CheckConstraint("attempts BETWEEN 0 AND max_retries + 1", name="attempts"),
    CheckConstraint("max_retries BETWEEN 0 AND 20", name="max_retries"),
    CheckConstraint("priority BETWEEN -100 AND 100", name="priority"),
    CheckConstraint("fence >= 0 AND deaths >= 0", name="counters"),
    # GET /jobs?queue=…, newest first.
    Index("jobs_queue_id_idx", "queue", "id"),
    # The dispatcher: the next ready rows of a queue, by rank.
    Index(
        "jobs_ready_idx",
        "queue",
        "rank",
        "id",
        postgresql_where=text("status = 'queued' AND rank IS NOT NULL AND NOT quarantined"),
    ),
    # The dispatcher: suspects that wait to run alone, the least suspicious first.
    Index(
        "jobs_quarantined_idx",
        "deaths",
        "rank",
        "id",
        postgresql_where=text("status = 'queued' AND rank IS NOT NULL AND quarantined"),
    ),
    # The dispatcher: rows whose time comes next (run-at, backoff, snooze).
    Index("jobs_waiting_idx", "available_at", postgresql_where=text("status = 'queued' AND rank IS NULL")),
    # The rescuer, and "what does this worker hold?".
    Index("jobs_running_idx", "worker_id", postgresql_where=text("status = 'running'")),
    # Lists of the rare states; completed rows are dense enough to be found without.
    Index(
        "jobs_unsuccessful_idx",
        "status",
        "id",
        postgresql_where=text("status IN ('failed','cancelled','expired','blocked')"),
    ),
    # The cleaner: final rows by age.
    Index("jobs_finished_idx", "status", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

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
    _now("finished_at"),
    Column("run_seconds", Float, nullable=False),
    # Two records of one claim are impossible, whatever else fails.
    PrimaryKeyConstraint("job_id", "fence"),
    CheckConstraint(
        "outcome IN ('completed','failed','snoozed','interrupted','worker_died','cancelled')", name="outcome"
    ),
)

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_at", Timestamp),
    _now("created_at"),
)

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
    _now("started_at"),
    _now("heartbeat_at"),
    # Set when it said goodbye, or when the rescuer took its jobs: it can never renew again.
    Column("stopped_at", Timestamp),
    Index("workers_heartbeat_idx", "heartbeat_at", postgresql_where=text("stopped_at IS NULL")),
)

# One row a used Idempotency-Key, in the transaction that creates its jobs.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False),
    Column("response", JSON),
    _now("created_at"),
    Index("idempotency_keys_created_idx", "created_at"),
)
