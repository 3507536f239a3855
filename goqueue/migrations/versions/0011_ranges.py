"""Workers that claim ranges of ready jobs say so: while one listens to a queue that does not, it gets none.

The reason stands in `goqueue/db/tables/processes.py`. The release before this one runs on this schema: its
workers have the default, which says that they claim none.

Revision: 0011, after 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE workers ADD COLUMN claims_ranges boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE workers DROP COLUMN claims_ranges")
