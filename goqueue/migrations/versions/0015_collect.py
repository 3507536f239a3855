"""Keys of jobs that collect payloads while they wait say how many they take.

The columns are added without a default, which takes a moment, and the release before this one runs on them:
what it gives a key to collects nothing.

Revision: 0015, after 0014
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE unique_keys ADD COLUMN collect_max integer, ADD COLUMN collect_max_bytes integer")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE unique_keys DROP COLUMN collect_max, DROP COLUMN collect_max_bytes")
