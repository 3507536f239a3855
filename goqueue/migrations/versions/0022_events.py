"""Events, written down in the transaction of the change while somebody listens; and what jobs stream.

Triggers see whole statements, and exist only while somebody has subscribed: with nobody there they cost
nothing, because there are none. Their functions are here; `goqueue_events_on` and `goqueue_events_off` make
and drop the triggers.

`events` is a ring of six partitions by `slot`. What is written goes to the slot that `event_capture` names;
the cleaner empties the oldest one and goes on to it, so no row is deleted and none is without a partition.

Revision: 0022, after 0021
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SLOTS = 6

_TABLES = (
    "CREATE SEQUENCE events_id_seq",
    """
    CREATE TABLE events (
        slot smallint NOT NULL,
        xid bigint NOT NULL,
        id bigint NOT NULL DEFAULT nextval('events_id_seq'),
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        kind text NOT NULL,
        job_id bigint,
        queue text,
        type text,
        status text,
        attempt smallint,
        fence integer,
        worker_id bigint,
        reason text,
        available_at timestamptz,
        data json
    ) PARTITION BY LIST (slot)
    """,
    "CREATE INDEX events_xid_id_idx ON events (xid, id)",
    "CREATE INDEX events_id_idx ON events (id)",
    # Their rows are never changed and go all at once: there is nothing to vacuum, and nothing that a plan needs
    # to know of them.
    *(
        f"CREATE TABLE events_{slot} PARTITION OF events FOR VALUES IN ({slot}) "
        "WITH (autovacuum_enabled = false)"
        for slot in range(SLOTS)
    ),
    """
    CREATE TABLE event_capture (
        id smallint NOT NULL DEFAULT 1,
        slot smallint NOT NULL DEFAULT 0,
        slot_since timestamptz NOT NULL DEFAULT now(),
        captured_since bigint NOT NULL DEFAULT 0,
        forgotten_xid bigint NOT NULL DEFAULT 0,
        forgotten_in text NOT NULL DEFAULT '1:1:',
        CONSTRAINT event_capture_pkey PRIMARY KEY (id),
        CONSTRAINT event_capture_one_row_check CHECK (id = 1)
    )
    """,
    "INSERT INTO event_capture DEFAULT VALUES",
    """
    CREATE TABLE event_subscriptions (
        name text NOT NULL,
        what text NOT NULL,
        lease_until timestamptz NOT NULL,
        CONSTRAINT event_subscriptions_pkey PRIMARY KEY (name)
    )
    """,
)

_OUTPUT = """
    CREATE TABLE job_output (
        job_id bigint NOT NULL,
        fence integer NOT NULL,
        chunk integer NOT NULL,
        text text,
        written_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT job_output_pkey PRIMARY KEY (job_id, fence, chunk)
    )
"""

# A row that goes from running to queued says by its attempt why: the record writes both in one statement, and
# a trigger behind the statement sees it. No row of an attempt: it was claimed and had not begun.
_CHANGE_OF_STATUS = """
    CASE n.status
        WHEN 'running' THEN 'job.started'
        WHEN 'completed' THEN 'job.completed'
        WHEN 'failed' THEN 'job.failed'
        WHEN 'cancelled' THEN 'job.cancelled'
        WHEN 'expired' THEN 'job.expired'
        ELSE CASE o.status
            WHEN 'running' THEN coalesce((
                SELECT CASE outcome WHEN 'failed' THEN 'job.retried' WHEN 'snoozed' THEN 'job.snoozed'
                                    ELSE 'job.interrupted' END
                FROM attempts WHERE job_id = n.id AND fence = n.fence LIMIT 1), 'job.returned')
            WHEN 'blocked' THEN 'job.released'
            ELSE 'job.replayed' END
    END
"""

# As columns, because making JSON of them took as long as the rest of the event.
_OF_JOB = "n.id, n.queue, n.type, n.status, n.attempts, n.fence, n.worker_id, n.reason, n.available_at"
_JOB_COLUMNS = "kind, job_id, queue, type, status, attempt, fence, worker_id, reason, available_at"
_COLUMNS = "kind, job_id, queue, type, data"


def _function(name: str, body: str, columns: str = _COLUMNS) -> str:
    """The function of a trigger: a SELECT of these columns, written as events."""
    return f"""
    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        this bigint := pg_current_xact_id()::text::bigint;
        moment timestamptz := clock_timestamp();
    BEGIN
        INSERT INTO events (slot, xid, at, {columns})
        SELECT event_capture.slot, this, moment, change.* FROM event_capture CROSS JOIN (
            {body}
        ) AS change ({columns}) WHERE kind IS NOT NULL;
        RETURN NULL;
    END
    $$
    """  # noqa: S608  (constants of this module)


#: Of the hot table: the name of each function, and what it writes.
_JOB_FUNCTIONS = {
    "goqueue_event_of_new_jobs": f"SELECT 'job.created', {_OF_JOB} FROM new_rows AS n",  # noqa: S608  (constants)
    # Both tables have the same rows. A full join is made by hashing; for any other the planner keeps the plan of
    # a small statement, which compares each with each, for those of a thousand rows.
    #
    # Priority and start are compared first: what an admission changes of a waiting job is no edit.
    "goqueue_event_of_jobs": f"""
        SELECT CASE
                   WHEN n.status <> o.status THEN {_CHANGE_OF_STATUS}
                   WHEN n.status = 'running' THEN CASE
                       WHEN n.cancel_requested_at IS NOT NULL AND o.cancel_requested_at IS NULL
                       THEN 'job.cancel_requested' END
                   WHEN n.status IN ('queued', 'blocked') AND n.updated_at <> o.updated_at
                        AND (n.priority <> o.priority OR n.available_at <> o.available_at
                             OR n.requires IS DISTINCT FROM o.requires OR n.slots <> o.slots
                             OR n.payload::text <> o.payload::text)
                   THEN 'job.edited' END,
               {_OF_JOB}
        FROM new_rows AS n FULL JOIN old_rows AS o ON o.id = n.id
    """,  # noqa: S608  (constants of this module)
}

#: Of the others.
_FUNCTIONS = {
    "goqueue_event_of_progress": """
        SELECT 'job.progress', n.job_id, job.queue, job.type,
               json_build_object('progress', n.progress, 'fence', n.fence)
        FROM new_rows AS n
        CROSS JOIN LATERAL (SELECT queue, type FROM jobs WHERE jobs.id = n.job_id LIMIT 1) AS job
        ORDER BY n.job_id
    """,
    "goqueue_event_of_new_queues": """
        SELECT CASE WHEN n.paused_at IS NOT NULL THEN 'queue.paused' END, NULL::bigint, n.name, NULL::text,
               json_build_object('until', n.paused_until, 'by', n.paused_by, 'reason', n.pause_reason)
        FROM new_rows AS n
    """,
    "goqueue_event_of_queues": """
        SELECT CASE
                   WHEN n.paused_at IS NULL AND o.paused_at IS NOT NULL THEN 'queue.resumed'
                   WHEN (n.paused_at, n.paused_until, n.paused_by, n.pause_reason)
                        IS DISTINCT FROM (o.paused_at, o.paused_until, o.paused_by, o.pause_reason)
                   THEN 'queue.paused'
                   WHEN (n.concurrency, n.key_concurrency, n.on_conflict, n.fair, n.fifo, n.rate::text,
                         n.key_rate::text, n.ramp_seconds, n.slo_wait_seconds, n.slo_objective)
                        IS DISTINCT FROM
                        (o.concurrency, o.key_concurrency, o.on_conflict, o.fair, o.fifo, o.rate::text,
                         o.key_rate::text, o.ramp_seconds, o.slo_wait_seconds, o.slo_objective)
                   THEN 'queue.changed' END,
               NULL::bigint, n.name, NULL::text,
               json_build_object('until', n.paused_until, 'by', n.paused_by, 'reason', n.pause_reason)
        FROM new_rows AS n JOIN old_rows AS o ON o.name = n.name
    """,
    "goqueue_event_of_types": """
        SELECT CASE WHEN n.breaker_state <> o.breaker_state THEN
                   CASE n.breaker_state WHEN 'open' THEN 'breaker.opened'
                        WHEN 'half_open' THEN 'breaker.half_opened' ELSE 'breaker.closed' END END,
               NULL::bigint, NULL::text, n.name, json_build_object('reason', n.breaker_reason)
        FROM new_rows AS n JOIN old_rows AS o ON o.name = n.name
    """,
    "goqueue_event_of_new_schedules": """
        SELECT 'schedule.created', NULL::bigint, n.queue, n.type, json_build_object('schedule', n.name)
        FROM new_rows AS n
    """,
    # What a tick changes of its schedule is told by the tick.
    "goqueue_event_of_schedules": """
        SELECT CASE
                   WHEN n.paused_at IS NULL AND o.paused_at IS NOT NULL THEN 'schedule.resumed'
                   WHEN n.paused_at IS NOT NULL AND o.paused_at IS NULL THEN 'schedule.paused'
                   WHEN n.updated_at <> o.updated_at THEN 'schedule.changed' END,
               NULL::bigint, n.queue, n.type, json_build_object('schedule', n.name)
        FROM new_rows AS n JOIN old_rows AS o ON o.id = n.id
    """,
    "goqueue_event_of_gone_schedules": """
        SELECT 'schedule.deleted', NULL::bigint, o.queue, o.type, json_build_object('schedule', o.name)
        FROM old_rows AS o
    """,
    "goqueue_event_of_ticks": """
        SELECT CASE WHEN n.outcome = 'fired' THEN 'schedule.fired' ELSE 'schedule.skipped' END,
               n.job_id, schedule.queue, schedule.type,
               json_build_object('schedule', schedule.name, 'nominal_at', n.nominal_at, 'kind', n.kind,
                                 'outcome', n.outcome)
        FROM new_rows AS n JOIN schedules AS schedule ON schedule.id = n.schedule_id
        ORDER BY n.nominal_at
    """,
    "goqueue_event_of_new_workers": """
        SELECT 'worker.started', NULL::bigint, NULL::text, NULL::text,
               json_build_object('worker_id', n.id, 'hostname', n.hostname, 'pid', n.pid, 'queues', n.queues)
        FROM new_rows AS n
    """,
    "goqueue_event_of_workers": """
        SELECT CASE
                   WHEN n.stopped_at IS NOT NULL AND o.stopped_at IS NULL
                   THEN CASE WHEN n.lost THEN 'worker.lost' ELSE 'worker.stopped' END
                   WHEN n.command IS DISTINCT FROM o.command
                   THEN CASE n.command WHEN 'quiet' THEN 'worker.quieted' WHEN 'stop' THEN 'worker.stopping'
                             ELSE 'worker.resumed' END END,
               NULL::bigint, NULL::text, NULL::text,
               json_build_object('worker_id', n.id, 'hostname', n.hostname, 'pid', n.pid,
                                 'reason', n.shutdown_reason)
        FROM new_rows AS n JOIN old_rows AS o ON o.id = n.id
    """,
}

_NEW, _OLD, _BOTH = (
    "NEW TABLE AS new_rows",
    "OLD TABLE AS old_rows",
    "OLD TABLE AS old_rows NEW TABLE AS new_rows",
)

#: Table, the name of the trigger behind the table's, when, the rows that it sees, and its function. The hot
#: table is the last one that is locked.
_TRIGGERS = (
    ("workers", "event_started", "INSERT", _NEW, "goqueue_event_of_new_workers"),
    ("workers", "event_changed", "UPDATE", _BOTH, "goqueue_event_of_workers"),
    ("queues", "event_created", "INSERT", _NEW, "goqueue_event_of_new_queues"),
    ("queues", "event_changed", "UPDATE", _BOTH, "goqueue_event_of_queues"),
    ("types", "event_changed", "UPDATE", _BOTH, "goqueue_event_of_types"),
    ("schedules", "event_created", "INSERT", _NEW, "goqueue_event_of_new_schedules"),
    ("schedules", "event_changed", "UPDATE", _BOTH, "goqueue_event_of_schedules"),
    ("schedules", "event_deleted", "DELETE", _OLD, "goqueue_event_of_gone_schedules"),
    ("schedule_ticks", "event_decided", "INSERT", _NEW, "goqueue_event_of_ticks"),
    ("attempt_progress", "event_told", "INSERT", _NEW, "goqueue_event_of_progress"),
    ("attempt_progress", "event_told_again", "UPDATE", _NEW, "goqueue_event_of_progress"),
    ("jobs", "event_created", "INSERT", _NEW, "goqueue_event_of_new_jobs"),
    ("jobs", "event_changed", "UPDATE", _BOTH, "goqueue_event_of_jobs"),
)
_WATCHED = ", ONLY ".join(dict.fromkeys(table for table, *_ in _TRIGGERS))

_MAKE_TRIGGERS = "\n".join(
    f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} REFERENCING {rows} "
    f"FOR EACH STATEMENT EXECUTE FUNCTION {function}();"
    for table, name, event, rows, function in _TRIGGERS
)
_DROP_TRIGGERS = "\n".join(f"DROP TRIGGER {table}_{name} ON {table};" for table, name, *_ in _TRIGGERS)

_SWITCHES = (
    """
    CREATE FUNCTION goqueue_events_are_on() RETURNS boolean LANGUAGE sql STABLE AS $$
        SELECT EXISTS (SELECT FROM pg_trigger
                       WHERE tgrelid = 'jobs'::regclass AND tgname = 'jobs_event_changed')
    $$
    """,
    # A cursor from before this transaction leads to nothing: what happened until now was not written down.
    f"""
    CREATE FUNCTION goqueue_events_on() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        LOCK TABLE ONLY {_WATCHED} IN SHARE ROW EXCLUSIVE MODE;
        IF goqueue_events_are_on() THEN
            RETURN false;
        END IF;
        UPDATE event_capture SET captured_since = pg_current_xact_id()::text::bigint;
        {_MAKE_TRIGGERS}
        RETURN true;
    END
    $$
    """,  # noqa: S608  (constants of this module)
    # Whoever renews a lease waits for the first lock, and looks for the triggers afterwards.
    f"""
    CREATE FUNCTION goqueue_events_off(since interval) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        LOCK TABLE event_subscriptions IN SHARE ROW EXCLUSIVE MODE;
        IF NOT goqueue_events_are_on()
           OR EXISTS (SELECT FROM event_subscriptions WHERE lease_until > now() - since) THEN
            RETURN false;
        END IF;
        LOCK TABLE ONLY {_WATCHED} IN ACCESS EXCLUSIVE MODE;
        {_DROP_TRIGGERS}
        DELETE FROM event_subscriptions;
        RETURN true;
    END
    $$
    """,  # noqa: S608
    # What was the oldest slot becomes the one that is written to. `forgotten_xid` is the last transaction of
    # which rows went; one that was still open in `forgotten_in` had none among them, because it would have
    # held the slot.
    f"""
    CREATE FUNCTION goqueue_events_turn(slot_age interval) RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        coming smallint := (SELECT (slot + 1) % {SLOTS} FROM event_capture WHERE slot_since < now() - slot_age);
        last_xid bigint;
    BEGIN
        IF coming IS NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('LOCK TABLE events_%s IN ACCESS EXCLUSIVE MODE', coming);
        EXECUTE format('SELECT max(xid) FROM events_%s', coming) INTO last_xid;
        IF last_xid IS NOT NULL THEN
            EXECUTE format('TRUNCATE events_%s', coming);
            UPDATE event_capture SET forgotten_xid = greatest(forgotten_xid, last_xid),
                                     forgotten_in = pg_current_snapshot()::text;
        END IF;
        UPDATE event_capture SET slot = coming, slot_since = now();
        RETURN true;
    END
    $$
    """,  # noqa: S608
)


def upgrade() -> None:
    """Apply."""
    for statement in (*_TABLES, _OUTPUT):
        op.execute(statement)
    for name, body in _JOB_FUNCTIONS.items():
        op.execute(_function(name, body, _JOB_COLUMNS))
    for name, body in _FUNCTIONS.items():
        op.execute(_function(name, body))
    for statement in _SWITCHES:
        op.execute(statement)


def downgrade() -> None:
    """Take back. Whoever listens hears nothing any more."""
    op.execute("DELETE FROM event_subscriptions")
    op.execute("SELECT goqueue_events_off('0')")
    op.execute("DROP FUNCTION goqueue_events_turn(interval), goqueue_events_off(interval)")
    op.execute("DROP FUNCTION goqueue_events_on(), goqueue_events_are_on()")
    for name in (*_JOB_FUNCTIONS, *_FUNCTIONS):
        op.execute(f"DROP FUNCTION {name}()")
    op.execute("DROP TABLE events, event_capture, event_subscriptions, job_output")
    op.execute("DROP SEQUENCE events_id_seq")
