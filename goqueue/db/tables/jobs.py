"""Jobs, and what ties them together: dependencies, and keys that only one of them may have.

`jobs` is the hot table: every job is one row that is inserted, claimed (updated) and recorded (updated). No
index names a column that a claim or a record of a plain job changes (`status`, `worker_id`, `finished_at`),
not even in its condition: then PostgreSQL keeps the versions of the row on its page (HOT), and no index is
written to but at the insert. What has to be found by these columns stands in two small tables, and in columns
that most jobs leave empty.
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
    # The id of the key that what it holds is encrypted with; NULL: it is not.
    Column("payload_key", Text(collation="C")),
    # Where the row stands, said by the statements that every job goes through, and made to agree with the
    # other columns by a trigger where a statement says nothing: 'ready' and 'running' have a row in
    # `ready_jobs` and `running_jobs`; then 'waiting' (for its time), 'suspect', 'blocked', and the final
    # states but 'completed', which is NULL.
    Column("place", Text),
    # For indexes, written by the trigger alone and empty in all that a plain job goes through: the place that
    # few jobs are in ('completed': without the record of a worker), and since when, of those that have ended.
    Column("rare_state", Text),
    Column("rare_since", Timestamp),
    # Likewise: the key of a job that has not ended, and when one that has not started is to expire.
    Column("unfinished_key", Text(collation="C")),
    Column("expiring_at", Timestamp),
    # Constraints cost every INSERT and UPDATE, so there are few, each of which begins with what most rows
    # are.
    #
    # The states, and what comes and goes with them: only a running job has a holder (one without is held by a
    # client of the REST API); who was let in waits to be claimed; a final state and its time come together,
    # so that the cleaner cannot miss a row.
    CheckConstraint(
        "CASE status WHEN 'queued' THEN worker_id IS NULL AND finished_at IS NULL "
        "WHEN 'running' THEN NOT admitted AND finished_at IS NULL "
        "WHEN 'blocked' THEN worker_id IS NULL AND NOT admitted AND finished_at IS NULL "
        "ELSE status IN ('completed','failed','cancelled','expired') AND worker_id IS NULL "
        "AND NOT admitted AND finished_at IS NOT NULL END",
        name="state",
    ),
    # A job runs at most 1 + max_retries times, whatever asks for more. What requires something of its worker
    # is not claimable for workers that know nothing of it (`fragments.MAX_RETRIES`).
    CheckConstraint(
        "attempts >= 0 AND CASE WHEN max_retries >= 0 "
        "THEN max_retries <= 20 AND attempts <= max_retries + 1 AND requires IS NULL AND slots = 1 "
        "ELSE max_retries >= -21 AND attempts <= -max_retries AND requires IS NOT NULL AND slots >= 1 END",
        name="tries",
    ),
    CheckConstraint(
        "priority BETWEEN -100 AND 100 AND fence >= 0 AND deaths >= 0 AND suspicion BETWEEN 0 AND 2",
        name="counters",
    ),
    # What somebody asked for, every reader can read; and no arithmetic with it leads beyond that.
    CheckConstraint(
        within_bounds("available_at", "rank", "expires_at", "deadline_at")
        + " AND time_limit_seconds BETWEEN 0 AND 86400",
        name="moments",
    ),
    # GET /jobs?queue=…, newest first.
    Index("jobs_queue_id_idx", "queue", "id"),
    # The dispatcher: suspects that wait to run alone, the least suspicious first.
    Index("jobs_suspect_idx", "deaths", "rank", "id", postgresql_where=text(SUSPECT)),
    # The dispatcher: suspects of a queue that may run beside others.
    Index("jobs_suspect_queue_idx", "queue", "rank", "id", postgresql_where=text(SUSPECT_BESIDE)),
    # The dispatcher: rows whose time comes next (run-at, backoff, snooze).
    Index("jobs_later_idx", "available_at", postgresql_where=text(LATER)),
    # Lists of the rare states; completed rows are dense enough to be found without.
    Index("jobs_rare_idx", "rare_state", "id", postgresql_where=text(UNSUCCESSFUL)),
    # The same of a queue, and of a type: in the order of ids, whatever ended elsewhere. The state first, so
    # that no statement for them can be taken for one of all jobs of the queue or the type.
    Index("jobs_rare_queue_idx", "rare_state", "queue", "id", postgresql_where=text(UNSUCCESSFUL)),
    Index("jobs_rare_type_idx", "rare_state", "type", "id", postgresql_where=text(UNSUCCESSFUL)),
    # The cleaner and the roller: what ended without completing, by age. Completed jobs are found by their
    # attempts.
    Index("jobs_rare_since_idx", "rare_state", "rare_since", postgresql_where=text("rare_since IS NOT NULL")),
    # Admission in strict order: the oldest unfinished job of a key.
    Index(
        "jobs_unfinished_key_idx",
        "queue",
        "unfinished_key",
        "id",
        postgresql_where=text("unfinished_key IS NOT NULL"),
    ),
    # Admission: who was let in and has not started.
    Index("jobs_admitted_idx", "queue", "rank", "id", postgresql_where=text("admitted")),
    # The expirer: whose time to start is over.
    Index("jobs_expiring_at_idx", "expiring_at", postgresql_where=text("expiring_at IS NOT NULL")),
    # Which jobs are encrypted. Nothing that happens to a job changes that.
    Index("jobs_encrypted_idx", "id", postgresql_where=text("payload_key IS NOT NULL")),
    # Dead letters in groups: by the fingerprint of their error, or, where no exception was seen, by the
    # reason of their failure. The included columns are what groups are counted by, so that counting need not
    # look at the rows (the planner wants those of the expression as well). It is written as SQLAlchemy reads
    # it back, which is what Alembic compares.
    Index(
        "jobs_failure_idx",
        text("COALESCE(fingerprint, \"left\"(md5((type || ':'::text) || COALESCE(reason, ''::text)), 16))"),
        "id",
        postgresql_include=["fingerprint", "type", "reason", "queue", "rare_since"],
        postgresql_where=text("rare_state = 'failed'"),
    ),
)

# The rows of `jobs` that may start, as far as they say, in the order of their queues. A row is here as long
# as the job's `place` is 'ready', in the same transaction: the statements of creates and claims write both,
# and for every other writer a trigger on `jobs` does. Each column is a copy: a claim takes a job whose row
# still says the same, and so never one that was changed since.
ready_jobs = Table(
    "ready_jobs",
    metadata,
    Column("queue_name", Text, nullable=False),
    Column("ready_rank", Timestamp, nullable=False),
    Column("job_id", BigInteger, nullable=False, autoincrement=False),
    Column("job_fence", Integer, nullable=False),
    Column("job_type", Text, nullable=False),
    # It requires something of its worker, or waits for one that can read its payload.
    flag("is_special"),
    # Its concurrency key, as long as no round of admission has let it in.
    Column("open_key", Text(collation="C")),
    PrimaryKeyConstraint("queue_name", "ready_rank", "job_id"),
    # Admission: the next ready rows of a key, and the next key that has one.
    Index(
        "ready_jobs_key_idx",
        "queue_name",
        "open_key",
        "ready_rank",
        "job_id",
        postgresql_where=text("open_key IS NOT NULL"),
    ),
)

# The jobs that run, and who holds them, written in the same ways.
running_jobs = Table(
    "running_jobs",
    metadata,
    # The worker; -1: a client of the REST API.
    Column("holder", BigInteger, nullable=False, autoincrement=False),
    Column("job_id", BigInteger, nullable=False, autoincrement=False),
    # Somebody wants it stopped.
    flag("to_stop"),
    PrimaryKeyConstraint("holder", "job_id"),
    # What a worker, and the rescuer, are asked to stop.
    Index("running_jobs_to_stop_idx", "holder", "job_id", postgresql_where=text("to_stop")),
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
