"""Workers tell how many async jobs they run at once, which of their types are async, and the slots of each queue.

The columns are added without a table to be rewritten, which takes a moment. A worker of the release before
this one tells none of it: its threads are all that it has, as that release counts.

Revision: 0017, after 0016
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        "ALTER TABLE workers ADD COLUMN async_slots integer NOT NULL DEFAULT 0, "
        "ADD COLUMN async_busy integer NOT NULL DEFAULT 0, "
        "ADD COLUMN async_types text[], ADD COLUMN queue_slots integer[]"
    )


def downgrade() -> None:
    """Take back."""
    op.execute(
        "ALTER TABLE workers DROP COLUMN queue_slots, DROP COLUMN async_types, "
        "DROP COLUMN async_busy, DROP COLUMN async_slots"
    )
