"""The job types that each worker process can run, and the jobs whose payload one could not read.

The reasons stand in `goqueue/models`. The release before this one runs on this schema: every new column may be
NULL, which says of a worker that it did not tell.

Revision: 0007, after 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        ALTER TABLE workers
            ADD COLUMN signature text,
            ADD COLUMN types text[],
            ADD COLUMN schemas text[]
        """
    )
    op.execute("ALTER TABLE jobs ADD COLUMN unreadable_by text[], ADD COLUMN unreadable_until timestamptz")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE jobs DROP COLUMN unreadable_until, DROP COLUMN unreadable_by")
    op.execute("ALTER TABLE workers DROP COLUMN schemas, DROP COLUMN types, DROP COLUMN signature")
