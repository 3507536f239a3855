"""Workers that lease their jobs over HTTP are rows of `workers`, by the name that they call themselves.

The columns are added without a table to be rewritten; the table has a row for each worker process of the last
hour, so its index takes a moment. A release before this one never has such a row.

Revision: 0024, after 0023
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        "ALTER TABLE workers ADD COLUMN client text, ADD COLUMN remote_name text, "
        "ADD COLUMN language text, ADD COLUMN address text"
    )
    op.execute(
        "CREATE UNIQUE INDEX workers_remote_idx ON workers (client, remote_name) "
        "WHERE remote_name IS NOT NULL AND stopped_at IS NULL"
    )


def downgrade() -> None:
    """Take back. What such workers hold is taken back as from any worker that fell silent."""
    op.execute("DROP INDEX workers_remote_idx")
    op.execute(
        "ALTER TABLE workers DROP COLUMN address, DROP COLUMN language, DROP COLUMN remote_name, "
        "DROP COLUMN client"
    )
