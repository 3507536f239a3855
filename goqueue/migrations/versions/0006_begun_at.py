"""The time at which a running job began: what was claimed and waits for a thread is told from what runs.

The release before this one runs on this schema: the column may be NULL.

Revision: 0006, after 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE jobs ADD COLUMN begun_at timestamptz")
    # What runs now was claimed by a release that does not tell.
    op.execute("UPDATE jobs SET begun_at = started_at WHERE status = 'running'")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE jobs DROP COLUMN begun_at")
