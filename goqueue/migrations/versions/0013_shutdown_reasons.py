"""A column for the reason for which a worker process ended, or drains.

The release before this one goes on: it writes no reason, and reads none.

Revision: 0013, after 0012
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE workers ADD COLUMN shutdown_reason text")


def downgrade() -> None:
    """Take it back."""
    op.execute("ALTER TABLE workers DROP COLUMN shutdown_reason")
