"""Ready and running jobs in small tables of their own, so that no index of `jobs` names what every job changes.

A claim and a record change `status`, `worker_id` and `finished_at`. As long as an index of `jobs` names one of
them, each of the two writes a new entry into every index; without, PostgreSQL keeps the versions of a row on
its page (HOT). So the rows that are ready or running are listed in `ready_jobs` and `running_jobs`, and the
states that few jobs are in are repeated in columns that the others leave empty (`goqueue/db/tables/jobs.py`).

The trigger keeps all of that in step for every writer: for the release before, which knows of none of it, for
every statement that is not hot, and for a hand at psql. The hot statements write the tables themselves and
say so by `place`, which spares them the trigger's function.

Expand, backfill, contract: the tables, the columns and the trigger come first; then the rows that are not
completed are filled in, some pages at a time; the new indexes are made beside the writers. The old indexes
stay for workers of the release before, which are slow without them; they are dropped here where none of these
is alive, and else by the scheduler when the last is gone.

Revision: 0016, after 0015
"""

from __future__ import annotations

from alembic import op

from goqueue.db.retired_indexes import make_retired_indexes, unasked_indexes

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE ready_jobs (
    queue_name text NOT NULL,
    ready_rank timestamptz NOT NULL,
    job_id bigint NOT NULL,
    job_fence integer NOT NULL,
    job_type text NOT NULL,
    is_special boolean NOT NULL DEFAULT false,
    open_key text COLLATE "C",
    CONSTRAINT ready_jobs_pkey PRIMARY KEY (queue_name, ready_rank, job_id)
);
CREATE INDEX ready_jobs_key_idx ON ready_jobs (queue_name, open_key, ready_rank, job_id) WHERE open_key IS NOT NULL;
CREATE TABLE running_jobs (
    holder bigint NOT NULL,
    job_id bigint NOT NULL,
    to_stop boolean NOT NULL DEFAULT false,
    CONSTRAINT running_jobs_pkey PRIMARY KEY (holder, job_id)
);
CREATE INDEX running_jobs_to_stop_idx ON running_jobs (holder, job_id) WHERE to_stop;
"""

# Their rows come and go with every job, and nearly all versions are dead.
_STORAGE = """
ALTER TABLE {0} SET (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
)
"""

_PLACE = """
    CASE NEW.status
        WHEN 'completed' THEN NULL
        WHEN 'running' THEN 'running'
        WHEN 'queued' THEN CASE WHEN NEW.rank IS NULL THEN 'waiting'
                                WHEN NEW.quarantined THEN 'suspect' ELSE 'ready' END
        ELSE NEW.status
    END
"""

_FUNCTIONS = f"""
CREATE FUNCTION goqueue_place_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text;
    stands text := {_PLACE};
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD.place;
    END IF;
    -- A writer that says where the row stands has written the tables.
    IF NEW.place IS DISTINCT FROM stands OR was = stands THEN
        IF was = 'ready' THEN
            DELETE FROM ready_jobs
            WHERE queue_name = OLD.queue AND ready_rank = OLD.rank AND job_id = OLD.id;
        ELSIF was = 'running' THEN
            DELETE FROM running_jobs WHERE holder = coalesce(OLD.worker_id, -1) AND job_id = OLD.id;
        END IF;
        IF stands = 'ready' THEN
            INSERT INTO ready_jobs (queue_name, ready_rank, job_id, job_fence, job_type, is_special, open_key)
            VALUES (NEW.queue, NEW.rank, NEW.id, NEW.fence, NEW.type,
                    NEW.requires IS NOT NULL OR NEW.unreadable_until IS NOT NULL,
                    CASE WHEN NOT NEW.admitted THEN NEW.concurrency_key END)
            ON CONFLICT (queue_name, ready_rank, job_id)
            DO UPDATE SET job_fence = EXCLUDED.job_fence, is_special = EXCLUDED.is_special, open_key = EXCLUDED.open_key;
        ELSIF stands = 'running' THEN
            INSERT INTO running_jobs (holder, job_id, to_stop)
            VALUES (coalesce(NEW.worker_id, -1), NEW.id, NEW.cancel_requested_at IS NOT NULL)
            ON CONFLICT (holder, job_id) DO UPDATE SET to_stop = EXCLUDED.to_stop;
        END IF;
    END IF;
    -- One that completed without the statement of a worker is found by these columns alone.
    NEW.rare_state := CASE
        WHEN stands IN ('ready', 'running') THEN NULL
        WHEN stands IS NOT NULL THEN stands
        WHEN TG_OP = 'INSERT' OR NEW.place IS NOT NULL OR OLD.rare_state = 'completed' THEN 'completed' END;
    NEW.rare_since := CASE WHEN NEW.rare_state IS NOT NULL THEN NEW.finished_at END;
    NEW.unfinished_key := CASE WHEN NEW.finished_at IS NULL THEN NEW.concurrency_key END;
    NEW.expiring_at := CASE WHEN NEW.status IN ('queued', 'blocked')
        THEN LEAST(NEW.expires_at, NEW.deadline_at) END;
    NEW.place := stands;
    RETURN NEW;
END
$$;
CREATE FUNCTION goqueue_displace_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.place = 'ready' THEN
        DELETE FROM ready_jobs
            WHERE queue_name = OLD.queue AND ready_rank = OLD.rank AND job_id = OLD.id;
    ELSE
        DELETE FROM running_jobs WHERE holder = coalesce(OLD.worker_id, -1) AND job_id = OLD.id;
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION goqueue_displace_all_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE ready_jobs, running_jobs;
    RETURN NULL;
END
$$;
"""  # noqa: S608

# What a plain job goes through makes none of the conditions true, where the statement says the place.
_TRIGGERS = f"""
CREATE TRIGGER jobs_place_inserted BEFORE INSERT ON jobs FOR EACH ROW
WHEN (NEW.place IS DISTINCT FROM 'ready' OR NEW.status <> 'queued' OR NEW.rank IS NULL OR NEW.quarantined
      OR NEW.concurrency_key IS NOT NULL OR NEW.expires_at IS NOT NULL OR NEW.deadline_at IS NOT NULL)
EXECUTE FUNCTION goqueue_place_job();
CREATE TRIGGER jobs_place_updated
BEFORE UPDATE OF place, status, queue, rank, quarantined, fence, admitted, concurrency_key, worker_id,
                 finished_at, expires_at, deadline_at, cancel_requested_at, requires, unreadable_until
ON jobs FOR EACH ROW
WHEN (NEW.place IS DISTINCT FROM {_PLACE}
      OR OLD.rare_state IS NOT NULL
      OR (OLD.place = 'ready' AND NEW.place = 'ready'
          AND (NEW.rank <> OLD.rank OR NEW.queue <> OLD.queue OR NEW.fence <> OLD.fence
               OR NEW.requires IS DISTINCT FROM OLD.requires
               OR NEW.unreadable_until IS DISTINCT FROM OLD.unreadable_until
               OR (NEW.admitted <> OLD.admitted AND NEW.concurrency_key IS NOT NULL)))
      OR (OLD.place = 'running' AND NEW.place = 'running'
          AND (NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at
               OR NEW.worker_id IS DISTINCT FROM OLD.worker_id))
      OR NEW.unfinished_key IS DISTINCT FROM
         CASE WHEN NEW.finished_at IS NULL THEN NEW.concurrency_key END
      OR NEW.expiring_at IS DISTINCT FROM
         CASE WHEN NEW.status IN ('queued', 'blocked') THEN LEAST(NEW.expires_at, NEW.deadline_at) END)
EXECUTE FUNCTION goqueue_place_job();
CREATE TRIGGER jobs_place_deleted AFTER DELETE ON jobs FOR EACH ROW
WHEN (OLD.place IN ('ready', 'running')) EXECUTE FUNCTION goqueue_displace_job();
CREATE TRIGGER jobs_place_truncated AFTER TRUNCATE ON jobs FOR EACH STATEMENT
EXECUTE FUNCTION goqueue_displace_all_jobs();
"""

# Twelve constraints said in four: they cost every claim and every record.
_CONSTRAINTS = {
    "state": "CASE status WHEN 'queued' THEN worker_id IS NULL AND finished_at IS NULL "
    "WHEN 'running' THEN NOT admitted AND finished_at IS NULL "
    "WHEN 'blocked' THEN worker_id IS NULL AND NOT admitted AND finished_at IS NULL "
    "ELSE status IN ('completed','failed','cancelled','expired') AND worker_id IS NULL "
    "AND NOT admitted AND finished_at IS NOT NULL END",
    "tries": "attempts >= 0 AND CASE WHEN max_retries >= 0 "
    "THEN max_retries <= 20 AND attempts <= max_retries + 1 AND requires IS NULL AND slots = 1 "
    "ELSE max_retries >= -21 AND attempts <= -max_retries AND requires IS NOT NULL AND slots >= 1 END",
    "counters": "priority BETWEEN -100 AND 100 AND fence >= 0 AND deaths >= 0 AND suspicion BETWEEN 0 AND 2",
}
_MAX_RETRIES = "GREATEST(max_retries, -1 - max_retries)"
_CONSTRAINTS_BEFORE = {
    "status": "status IN ('queued','blocked','running','completed','failed','cancelled','expired')",
    "finished_at": "(finished_at IS NOT NULL) = (status IN ('completed','failed','cancelled','expired'))",
    "worker_id": "worker_id IS NULL OR status = 'running'",
    "admitted": "NOT admitted OR status = 'queued'",
    "attempts": f"attempts BETWEEN 0 AND {_MAX_RETRIES} + 1",
    "max_retries": f"{_MAX_RETRIES} <= 20",
    "requires": "CASE WHEN max_retries < 0 THEN requires IS NOT NULL AND slots >= 1 "
    "ELSE requires IS NULL AND slots = 1 END",
    "priority": "priority BETWEEN -100 AND 100",
    "suspicion": "suspicion BETWEEN 0 AND 2",
    "counters": "fence >= 0 AND deaths >= 0",
}

_UNSUCCESSFUL = "WHERE rare_state IN ('failed','cancelled','expired','blocked')"
_FINGERPRINT = "COALESCE(fingerprint, \"left\"(md5((type || ':'::text) || COALESCE(reason, ''::text)), 16))"
_INDEXES = {
    "jobs_suspect_idx": "jobs (deaths, rank, id) WHERE rare_state = 'suspect'",
    "jobs_suspect_queue_idx": "jobs (queue, rank, id) WHERE rare_state = 'suspect' AND suspicion < 2",
    "jobs_later_idx": "jobs (available_at) WHERE rare_state = 'waiting'",
    "jobs_rare_idx": f"jobs (rare_state, id) {_UNSUCCESSFUL}",
    "jobs_rare_queue_idx": f"jobs (rare_state, queue, id) {_UNSUCCESSFUL}",
    "jobs_rare_type_idx": f"jobs (rare_state, type, id) {_UNSUCCESSFUL}",
    "jobs_rare_since_idx": "jobs (rare_state, rare_since) WHERE rare_since IS NOT NULL",
    "jobs_unfinished_key_idx": "jobs (queue, unfinished_key, id) WHERE unfinished_key IS NOT NULL",
    "jobs_expiring_at_idx": "jobs (expiring_at) WHERE expiring_at IS NOT NULL",
    "jobs_failure_idx": f"jobs (({_FINGERPRINT}), id) INCLUDE (fingerprint, type, reason, queue, rare_since) "
    "WHERE rare_state = 'failed'",
    "attempts_finished_idx": "attempts (finished_at)",
}

#: Pages of `jobs` whose rows are filled in in one transaction: some thousands of rows.
_PAGES = 200


def upgrade() -> None:
    """Apply."""
    op.execute(_TABLES)
    for table in ("ready_jobs", "running_jobs"):
        op.execute(_STORAGE.format(table))
    op.execute("ALTER TABLE workers ADD COLUMN places_jobs boolean NOT NULL DEFAULT false")
    op.execute(
        "ALTER TABLE jobs ADD COLUMN place text, ADD COLUMN rare_state text, ADD COLUMN rare_since timestamptz, "
        'ADD COLUMN unfinished_key text COLLATE "C", ADD COLUMN expiring_at timestamptz'
    )
    op.execute(_FUNCTIONS)
    op.execute(_TRIGGERS)
    with op.get_context().autocommit_block():
        _fill_in()
        for name, columns in _INDEXES.items():
            # One that was left behind by an upgrade that was cut off is no index.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        _replace_constraints(_CONSTRAINTS_BEFORE, _CONSTRAINTS)
        for name in unasked_indexes(op.get_bind()):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _replace_constraints(before: dict[str, str], after: dict[str, str]) -> None:
    """Put constraints in the place of others; they are validated beside all readers and writers."""
    for name, condition in after.items():
        op.execute(
            f"ALTER TABLE jobs DROP CONSTRAINT IF EXISTS jobs_{name}_check, "
            f"ADD CONSTRAINT jobs_{name}_check CHECK ({condition}) NOT VALID"
        )
        op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT jobs_{name}_check")
    drops = (f"DROP CONSTRAINT IF EXISTS jobs_{name}_check" for name in before if name not in after)
    op.execute(f"ALTER TABLE jobs {', '.join(drops)}")


def _fill_in() -> None:
    """Let the trigger place the rows that are not completed; what is written meanwhile it places anyway."""
    connection = op.get_bind()
    pages = connection.exec_driver_sql(
        "SELECT pg_relation_size('jobs') / current_setting('block_size')::int"
    ).scalar_one()
    for page in range(0, pages, _PAGES):
        connection.exec_driver_sql(
            "UPDATE jobs SET place = NULL WHERE ctid >= %(first)s::tid AND ctid < %(end)s::tid "
            "AND status <> 'completed' AND place IS NULL",
            {"first": f"({page},0)", "end": f"({page + _PAGES},0)"},
        )


def downgrade() -> None:
    """Take back."""
    with op.get_context().autocommit_block():
        make_retired_indexes(op.get_bind())
        _replace_constraints(_CONSTRAINTS, _CONSTRAINTS_BEFORE)
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS attempts_finished_idx")
    op.execute("DROP TRIGGER jobs_place_inserted ON jobs")
    op.execute("DROP TRIGGER jobs_place_updated ON jobs")
    op.execute("DROP TRIGGER jobs_place_deleted ON jobs")
    op.execute("DROP TRIGGER jobs_place_truncated ON jobs")
    op.execute("DROP FUNCTION goqueue_place_job, goqueue_displace_job, goqueue_displace_all_jobs")
    op.execute(
        "ALTER TABLE jobs DROP COLUMN place, DROP COLUMN rare_state, DROP COLUMN rare_since, "
        "DROP COLUMN unfinished_key, DROP COLUMN expiring_at"
    )
    op.execute("ALTER TABLE workers DROP COLUMN places_jobs")
    op.execute("DROP TABLE ready_jobs, running_jobs")
