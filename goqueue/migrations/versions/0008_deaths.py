"""Deaths of workers: how much a job is suspected, what must not be repeated, and which leases were lost.

The reasons stand in `goqueue/models`. The release before this one runs on this schema: every new column has a
default or may be NULL. What it quarantined without a number is taken for a first death.

Revision: 0008, after 0007
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        ALTER TABLE jobs
            ADD COLUMN suspicion smallint NOT NULL DEFAULT 0,
            ADD COLUMN unrepeatable_fence integer,
            ADD CONSTRAINT jobs_suspicion_check CHECK (suspicion BETWEEN 0 AND 2)
        """
    )
    # By the rule of the release before, one death in company made a suspect, and the next one was lonely.
    op.execute(
        "UPDATE jobs SET suspicion = CASE WHEN deaths > 0 THEN 2 ELSE 1 END "
        "WHERE quarantined AND finished_at IS NULL"
    )
    op.execute(
        "CREATE INDEX jobs_suspects_idx ON jobs (queue, rank, id) "
        "WHERE status = 'queued' AND rank IS NOT NULL AND quarantined AND suspicion < 2"
    )
    op.execute("ALTER TABLE workers ADD COLUMN lost boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Take back."""
    op.execute("ALTER TABLE workers DROP COLUMN lost")
    op.execute("DROP INDEX jobs_suspects_idx")
    op.execute("ALTER TABLE jobs DROP COLUMN suspicion, DROP COLUMN unrepeatable_fence")
