"""The dashboard: rollups, tags, and what workers are told.

The reasons stand in `goqueue/models`. The release before this one runs on this schema: every new column has a
default or may be NULL.

Revision: 0004, after 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        CREATE TABLE rollups (
            scope text NOT NULL,
            name text COLLATE "C" NOT NULL,
            step_seconds integer NOT NULL,
            starts_at timestamptz NOT NULL,
            completed integer NOT NULL DEFAULT 0,
            failed integer NOT NULL DEFAULT 0,
            cancelled integer NOT NULL DEFAULT 0,
            expired integer NOT NULL DEFAULT 0,
            retried integer NOT NULL DEFAULT 0,
            waits integer[] NOT NULL DEFAULT '{}',
            runs integer[] NOT NULL DEFAULT '{}',
            wait_seconds float NOT NULL DEFAULT 0,
            run_seconds float NOT NULL DEFAULT 0,
            PRIMARY KEY (scope, name, step_seconds, starts_at),
            CONSTRAINT rollups_scope_check CHECK (scope IN ('service','queue','type'))
        )
        """
    )
    op.execute("CREATE INDEX rollups_age_idx ON rollups (step_seconds, starts_at)")
    op.execute("CREATE TABLE rollup_progress (step_seconds integer PRIMARY KEY, up_to timestamptz NOT NULL)")
    op.execute("CREATE INDEX attempts_failed_idx ON attempts (finished_at) WHERE outcome = 'failed'")
    op.execute("ALTER TABLE jobs ADD COLUMN tags text[]")
    op.execute(
        'CREATE TABLE job_tags (tag text COLLATE "C" NOT NULL, job_id bigint NOT NULL, PRIMARY KEY (tag, job_id))'
    )
    op.execute(
        """
        ALTER TABLE workers
            ADD COLUMN memory_bytes bigint,
            ADD COLUMN command text,
            ADD COLUMN commanded_at timestamptz,
            ADD CONSTRAINT workers_command_check CHECK (command IN ('quiet','stop'))
        """
    )


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE workers DROP COLUMN commanded_at, DROP COLUMN command, DROP COLUMN memory_bytes")
    op.execute("DROP TABLE job_tags")
    op.execute("ALTER TABLE jobs DROP COLUMN tags")
    op.execute("DROP INDEX attempts_failed_idx")
    op.execute("DROP TABLE rollup_progress")
    op.execute("DROP TABLE rollups")
