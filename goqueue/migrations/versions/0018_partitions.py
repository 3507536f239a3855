"""Workers that change rows by their ids say so: only these may work where jobs are in partitions.

The reason stands in `goqueue/db/tables/processes.py`. The release before this one runs on this schema: its
workers have the default, which says that they do not. Nothing is partitioned here; `goqueue partitions on`
does that (docs/partitions.md).

Revision: 0018, after 0017
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE workers ADD COLUMN locks_by_id boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Take back; not from under partitions, on which a release before this one would change wrong rows."""
    op.execute(
        """
        DO $$ BEGIN
            IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'jobs'::regclass) THEN
                RAISE EXCEPTION 'the jobs are in partitions: run `goqueue partitions off` first';
            END IF;
        END $$
        """
    )
    op.execute("ALTER TABLE workers DROP COLUMN locks_by_id")
