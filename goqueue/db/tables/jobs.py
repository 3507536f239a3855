"""Jobs, and what ties them together: dependencies, and keys that only one of them may have.

`jobs` is the hot table: every job is one row that is inserted, claimed (updated) and recorded (updated). Each
index on it is paid for three times a job, so each says what it is for. Indexes of rare states are partial.
"""

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

from goqueue.db.fragments import (
    LATER,
    MAX_RETRIES,
    READY,
    READY_OF_KEYS,
    SUSPECT,
    SUSPECT_BESIDE,
    UNSUCCESSFUL,
)
from goqueue.db.tables.base import Timestamp, count, flag, identity, metadata, now, within_bounds

jobs = Table(
    "jobs",
    metadata,
    identity(),
    Column("queue", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="queued"),
    # json, not jsonb: the text is kept as it came. jsonb would turn 1e308 into 309 digits (a way to make one
    # MiB of request into fifty of table) and costs a parse at each write; nothing searches it by index.
    Column("payload", JSON, nullable=False),
    count("priority", SmallInteger),
    # -1 - n where it requires something: see `MAX_RETRIES`.
    Column("max_retries", SmallInteger, nullable=False, server_default="3"),
    count("attempts", SmallInteger),
    # Raised by every claim, lowered by nothing: who does not hold the present number cannot write.
    count("fence"),
    # Lonely deaths: worker processes that died while they ran this job and no other.
    count("deaths", SmallInteger),
    # A suspect of its worker's death: it keeps off the runway of its queue, and waits for a process that has
    # no other suspect (`suspicion` below 2), or to run alone.
    flag("quarantined"),
    # Workers that died while they ran it beside others, since it last ended by itself; 2 is two or more.
    count("suspicion", SmallInteger),
    # The attempt, by its fence, that has begun and must not be repeated when its worker dies. NULL: there is
    # none, or its type says nothing of the kind.
    Column("unrepeatable_fence", Integer),
    now("available_at"),
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
    now("created_at"),
    now("updated_at"),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
    # Whose turn it is among the jobs of a queue: a tenant, an account. What one start costs its rate limits.
    Column("concurrency_key", Text(collation="C")),
    Column("rate_cost", SmallInteger, nullable=False, server_default="1"),
    # The limits of its queue and type let it in: it may be claimed, and holds a slot. A running job holds one
    # as well; so slots are rows, and what frees the row frees the slot.
    flag("admitted"),
    # No attempt starts after either; after the deadline none is retried, and none goes on.
    Column("expires_at", Timestamp),
    Column("deadline_at", Timestamp),
    # The key in `unique_keys` that it was created with.
    Column("unique_key", Text),
    # Other jobs wait for its end, so its end is recorded together with what follows for them.
    flag("has_dependants"),
    # Someone wants it stopped; its worker knows.
    Column("cancel_requested_at", Timestamp),
    Column("cancel_acknowledged_at", Timestamp),
    # Which kind of failure its last error is (`failure_kinds`).
    Column("fingerprint", Text),
    # The labels that its worker has to have, as `name=value`, and how many of the worker's threads it takes.
    # NULL: it runs anywhere, and takes one.
    Column("requires", ARRAY(Text)),
    Column("slots", SmallInteger, nullable=False, server_default="1"),
    # How many slots of each concurrency limit it takes.
    Column("limit_cost", SmallInteger, nullable=False, server_default="1"),
    # What its client calls it by; NULL is none. `job_tags` finds them.
    Column("tags", ARRAY(Text)),
    # When the handler of the present attempt began. NULL from the claim on, until the worker notes it, which
    # it does for jobs that still run a tenth of a second later: shorter ones are recorded before.
    Column("begun_at", Timestamp),
    # Hashes of the schemas that could not read the payload: it waits so long for a worker with another one.
    Column("unreadable_by", ARRAY(Text)),
    Column("unreadable_until", Timestamp),
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
    # Who is let in waits to be claimed; who was claimed holds its slot by running.
    CheckConstraint("NOT admitted OR status = 'queued'", name="admitted"),
    # A job runs at most 1 + max_retries times, whatever asks for more.
    CheckConstraint(f"attempts BETWEEN 0 AND {MAX_RETRIES} + 1", name="attempts"),
    CheckConstraint(f"{MAX_RETRIES} <= 20", name="max_retries"),
    # What requires something is not claimable for workers that know nothing of it.
    CheckConstraint(
        "CASE WHEN max_retries < 0 THEN requires IS NOT NULL AND slots >= 1 "
        "ELSE requires IS NULL AND slots = 1 END",
        name="requires",
    ),
    CheckConstraint("priority BETWEEN -100 AND 100", name="priority"),
    CheckConstraint("fence >= 0 AND deaths >= 0", name="counters"),
    CheckConstraint("suspicion BETWEEN 0 AND 2", name="suspicion"),
    # What somebody asked for, every reader can read; and no arithmetic with it leads beyond that.
    CheckConstraint(
        within_bounds("available_at", "rank", "expires_at", "deadline_at")
        + " AND time_limit_seconds BETWEEN 0 AND 86400",
        name="moments",
    ),
    # GET /jobs?queue=…, newest first.
    Index("jobs_queue_id_idx", "queue", "id"),
    # The dispatcher: the next ready rows of a queue, by rank.
    Index(
        "jobs_ready_idx",
        "queue",
        "rank",
        "id",
        postgresql_where=text(READY),
    ),
    # The dispatcher: suspects that wait to run alone, the least suspicious first.
    Index(
        "jobs_quarantined_idx",
        "deaths",
        "rank",
        "id",
        postgresql_where=text(SUSPECT),
    ),
    # The dispatcher: suspects of a queue that may run beside others.
    Index(
        "jobs_suspects_idx",
        "queue",
        "rank",
        "id",
        postgresql_where=text(SUSPECT_BESIDE),
    ),
    # The dispatcher: rows whose time comes next (run-at, backoff, snooze).
    Index("jobs_waiting_idx", "available_at", postgresql_where=text(LATER)),
    # The rescuer, and "what does this worker hold?".
    Index("jobs_running_idx", "worker_id", postgresql_where=text("status = 'running'")),
    # Lists of the rare states; completed rows are dense enough to be found without.
    Index("jobs_unsuccessful_idx", "status", "id", postgresql_where=text(UNSUCCESSFUL)),
    # The same of a queue, and of a type: in the order of ids, whatever ended elsewhere. The status first, so
    # that no statement for them can be taken for one of all jobs of the queue or the type.
    Index("jobs_unsuccessful_queue_idx", "status", "queue", "id", postgresql_where=text(UNSUCCESSFUL)),
    Index("jobs_unsuccessful_type_idx", "status", "type", "id", postgresql_where=text(UNSUCCESSFUL)),
    # The cleaner: final rows by age.
    Index("jobs_finished_idx", "status", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    # Admission: the next ready rows of a key, and the next key that has one.
    Index(
        "jobs_key_ready_idx",
        "queue",
        "concurrency_key",
        "rank",
        "id",
        postgresql_where=text(READY_OF_KEYS),
    ),
    # Admission in strict order: the oldest unfinished job of a key.
    Index(
        "jobs_key_unfinished_idx",
        "queue",
        "concurrency_key",
        "id",
        postgresql_where=text("finished_at IS NULL AND concurrency_key IS NOT NULL"),
    ),
    # Admission: who was let in and has not started.
    Index("jobs_admitted_idx", "queue", "rank", "id", postgresql_where=text("admitted")),
    # The expirer: whose time to start is over.
    Index(
        "jobs_expiring_idx",
        text("LEAST(expires_at, deadline_at)"),
        postgresql_where=text(
            "status IN ('queued','blocked') AND LEAST(expires_at, deadline_at) IS NOT NULL"
        ),
    ),
    # What a worker, and the rescuer, are asked to stop.
    Index(
        "jobs_cancelling_idx",
        "worker_id",
        postgresql_where=text("status = 'running' AND cancel_requested_at IS NOT NULL"),
    ),
    # Dead letters in groups: by the fingerprint of their error, or, where no exception was seen, by the
    # reason of their failure. The included columns are what groups are counted by, so that counting need not
    # look at the rows (the planner wants those of the expression as well). It is written as SQLAlchemy reads
    # it back, which is what Alembic compares.
    Index(
        "jobs_fingerprint_idx",
        text("COALESCE(fingerprint, \"left\"(md5((type || ':'::text) || COALESCE(reason, ''::text)), 16))"),
        "id",
        postgresql_include=["fingerprint", "type", "reason", "queue", "finished_at"],
        postgresql_where=text("status = 'failed'"),
    ),
)

# The jobs of a tag, in the order of their ids; deleted with them.
job_tags = Table(
    "job_tags",
    metadata,
    Column("tag", Text(collation="C"), nullable=False),
    Column("job_id", BigInteger, nullable=False),
    # NULL: a release before 0012 wrote it.
    Column("queue", Text),
    PrimaryKeyConstraint("tag", "job_id"),
    # Those of a queue: most tags are used in several, and some in one that has few jobs.
    Index("job_tags_queue_idx", "tag", "queue", "job_id"),
)

# One row an edge: `job_id` waits for `parent_id`. No foreign keys, as for attempts.
dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("parent_id", BigInteger, nullable=False),
    Column("on_parent_failure", Text, nullable=False, server_default="fail"),
    # What the parent came to; NULL while the child still waits for it.
    Column("parent_status", Text),
    PrimaryKeyConstraint("job_id", "parent_id"),
    CheckConstraint("job_id <> parent_id", name="itself"),
    CheckConstraint("on_parent_failure IN ('fail','cancel','run')", name="on_parent_failure"),
    CheckConstraint("parent_status IN ('completed','failed','cancelled','expired')", name="parent_status"),
    # A parent has ended: its children, in the order in which they are locked. Whose row must be kept.
    Index("dependencies_parent_idx", "parent_id", "job_id"),
)

# Who has a unique key. A row whose job has left `states`, or is older than the window, is free to be taken.
unique_keys = Table(
    "unique_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    Column("states", ARRAY(Text), nullable=False),
    # Until when the key is kept; NULL: as long as its job is in one of the states.
    Column("until", Timestamp),
    # The most payloads that its job takes while it waits, and their bytes; NULL: it takes no further ones.
    Column("collect_max", Integer),
    Column("collect_max_bytes", Integer),
    now("created_at"),
    Index("unique_keys_job_idx", "job_id"),
)
