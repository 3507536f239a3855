"""The planner knows nothing of what ready and running jobs are like, and so is never misled about it.

A row stays in these tables for moments. What an ANALYZE saw of them is gone at the next one, and a planner that
believes it reads and sorts a backlog for each step of a walk that it could have gone along an index: where the
jobs of a queue had no keys at the last ANALYZE, a drain of jobs with keys fell to a seventh of its speed, and a
round of admission took 13 s. Of columns without statistics it supposes what makes an index the better way.

Statistics that were collected before stay with a column until its type is set, here to what it is; no row and no
index is written anew.

Revision: 0019, after 0018
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COLUMNS = {
    "ready_jobs": {
        "queue_name": "text",
        "ready_rank": "timestamptz",
        "job_id": "bigint",
        "job_fence": "integer",
        "job_type": "text",
        "is_special": "boolean",
        "open_key": 'text COLLATE "C"',
    },
    "running_jobs": {"holder": "bigint", "job_id": "bigint", "to_stop": "boolean"},
}


def upgrade() -> None:
    """Apply."""
    for table, columns in COLUMNS.items():
        forgotten = [f"ALTER COLUMN {column} TYPE {its_type}" for column, its_type in columns.items()]
        op.execute(f"ALTER TABLE {table} {', '.join(forgotten)}")
        kept_out = [f"ALTER COLUMN {column} SET STATISTICS 0" for column in columns]
        op.execute(f"ALTER TABLE {table} {', '.join(kept_out)}")


def downgrade() -> None:
    """Take back."""
    for table, columns in COLUMNS.items():
        collected = [f"ALTER COLUMN {column} SET STATISTICS -1" for column in columns]
        op.execute(f"ALTER TABLE {table} {', '.join(collected)}")
