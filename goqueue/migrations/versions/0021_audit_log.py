"""The audit log, which is only written to: no role may change or delete a row of it.

Privileges say so to the role of the service, which may grant them to itself again because it owns the table;
so a trigger says it as well, to everybody. Partitions of a month each are in a schema of their own, which is
called as that of the tables with `_audit` behind it, because a database may have several GoQueues; retention
drops them. What comes when the partition of its month is missing goes to the rest, and stays there.

Revision: 0021, after 0020
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_UP = (
    "DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_schema() || '_audit'); END $$",
    "CREATE SEQUENCE audit_log_id_seq",
    """
    CREATE TABLE audit_log (
        id bigint NOT NULL DEFAULT nextval('audit_log_id_seq'),
        noted_at timestamptz NOT NULL DEFAULT now(),
        actor_kind text NOT NULL,
        actor text NOT NULL,
        key_id text,
        address text,
        request_id text,
        action text NOT NULL,
        target text NOT NULL,
        before json,
        after json,
        reason text,
        CONSTRAINT audit_log_pkey PRIMARY KEY (id, noted_at)
    ) PARTITION BY RANGE (noted_at)
    """,
    "CREATE INDEX audit_log_target_idx ON audit_log (target, id)",
    "CREATE INDEX audit_log_actor_idx ON audit_log (actor, id)",
    """
    CREATE FUNCTION goqueue_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is only written to' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION goqueue_refuse_change()
    """,
    """
    CREATE FUNCTION goqueue_keep_partition(part regclass) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM PUBLIC, %I', part, current_user);
        EXECUTE format('CREATE TRIGGER audit_log_is_whole BEFORE TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION goqueue_refuse_change()', part);
    END
    $$
    """,
    "SELECT goqueue_keep_partition('audit_log')",
    """
    CREATE FUNCTION goqueue_audit_schema() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT nspname || '_audit' FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = 'audit_log'::regclass
    $$
    """,
    """
    DO $$ BEGIN
        EXECUTE format('CREATE TABLE %I.rest PARTITION OF audit_log DEFAULT', current_schema() || '_audit');
        PERFORM goqueue_keep_partition(format('%I.rest', current_schema() || '_audit')::regclass);
    END $$
    """,
    """
    CREATE FUNCTION goqueue_audit_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        begins timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        ends timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
        part text := format('%I.%I', goqueue_audit_schema(),
                            to_char(moment AT TIME ZONE 'UTC', '"month_"YYYY_MM'));
        is_in_rest boolean;
    BEGIN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.rest WHERE noted_at >= $1 AND noted_at < $2)',
                       goqueue_audit_schema()) INTO is_in_rest USING begins, ends;
        IF to_regclass(part) IS NOT NULL OR is_in_rest THEN
            RETURN;
        END IF;
        EXECUTE format('CREATE TABLE %s PARTITION OF audit_log FOR VALUES FROM (%L) TO (%L)', part, begins, ends);
        PERFORM goqueue_keep_partition(part::regclass);
    END
    $$
    """,
    """
    CREATE FUNCTION goqueue_audit_drop(part text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF part !~ '^month_[0-9]{4}_[0-9]{2}$' THEN
            RAISE EXCEPTION 'not a month of the audit log: %', part;
        END IF;
        EXECUTE format('DROP TABLE IF EXISTS %I.%I', goqueue_audit_schema(), part);
    END
    $$
    """,
    "SELECT goqueue_audit_partition(now() + make_interval(months => n)) FROM generate_series(0, 3) AS n",
)

_DOWN = (
    "DROP TABLE audit_log",
    "DO $$ BEGIN EXECUTE format('DROP SCHEMA %I', current_schema() || '_audit'); END $$",
    "DROP SEQUENCE audit_log_id_seq",
    "DROP FUNCTION goqueue_audit_drop(text)",
    "DROP FUNCTION goqueue_audit_partition(timestamptz)",
    "DROP FUNCTION goqueue_audit_schema()",
    "DROP FUNCTION goqueue_keep_partition(regclass)",
    "DROP FUNCTION goqueue_refuse_change()",
)


def upgrade() -> None:
    """Apply."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Take back. The log is gone."""
    for statement in _DOWN:
        op.execute(statement)
