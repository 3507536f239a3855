"""Operations: what a queue promises about its waits.

The reasons stand in `goqueue/db/tables/queues.py`. The release before this one runs on this schema: every new
column has a default or may be NULL.

Revision: 0003, after 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        ALTER TABLE queues
            ADD COLUMN slo_wait_seconds float,
            ADD COLUMN slo_objective float NOT NULL DEFAULT 0.99,
            ADD CONSTRAINT queues_slo_check CHECK (
                slo_wait_seconds > 0 AND slo_objective > 0 AND slo_objective < 1)
        """
    )


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE queues DROP COLUMN slo_objective, DROP COLUMN slo_wait_seconds")
