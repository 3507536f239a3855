"""Labels of workers, what jobs require of them, and how many slots of a worker or of a limit a job takes.

The reasons stand in `goqueue/db/tables`. The release before this one runs on this schema: what it inserts
requires nothing. A job that requires something has its `max_retries` written as -1 - n: the claims of the
release before, whose workers know nothing of labels, ask for `attempts <= max_retries` and so never take it,
and nothing that this release does ever changes the column.

`jobs` is hot: the constraints that look at the column are added NOT VALID, which takes their lock for a moment
and looks at no row, and validated under a lock that stops no reader and no writer. Each step is its own
transaction and may be run again. After a downgrade jobs require nothing any more: cancel before it what must
not run anywhere.

Revision: 0014, after 0013
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_MAX_RETRIES = "GREATEST(max_retries, -1 - max_retries)"

_CONSTRAINTS = {
    "jobs_attempts_check": f"attempts BETWEEN 0 AND {_MAX_RETRIES} + 1",
    "jobs_max_retries_check": f"{_MAX_RETRIES} <= 20",
    "jobs_requires_check": "CASE WHEN max_retries < 0 THEN requires IS NOT NULL AND slots >= 1 "
    "ELSE requires IS NULL AND slots = 1 END",
}

_BEFORE = {
    "jobs_attempts_check": "attempts BETWEEN 0 AND max_retries + 1",
    "jobs_max_retries_check": "max_retries BETWEEN 0 AND 20",
}


def upgrade() -> None:
    """Apply."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE workers ADD COLUMN IF NOT EXISTS labels text[]")
        op.execute(
            "ALTER TABLE jobs ADD COLUMN IF NOT EXISTS requires text[], "
            "ADD COLUMN IF NOT EXISTS slots smallint NOT NULL DEFAULT 1, "
            "ADD COLUMN IF NOT EXISTS limit_cost smallint NOT NULL DEFAULT 1"
        )
        op.execute(
            "ALTER TABLE job_versions ADD COLUMN IF NOT EXISTS requires text[], "
            "ADD COLUMN IF NOT EXISTS slots smallint"
        )
        for name, condition in _CONSTRAINTS.items():
            op.execute(
                f"ALTER TABLE jobs DROP CONSTRAINT IF EXISTS {name}, "
                f"ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
            )
            op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE jobs DROP CONSTRAINT jobs_requires_check")
    op.execute("UPDATE jobs SET max_retries = -1 - max_retries WHERE max_retries < 0")
    for name, condition in _BEFORE.items():
        op.execute(
            f"ALTER TABLE jobs DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
        )
        op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT {name}")
    op.execute("ALTER TABLE job_versions DROP COLUMN slots, DROP COLUMN requires")
    op.execute("ALTER TABLE jobs DROP COLUMN limit_cost, DROP COLUMN slots, DROP COLUMN requires")
    op.execute("ALTER TABLE workers DROP COLUMN labels")
