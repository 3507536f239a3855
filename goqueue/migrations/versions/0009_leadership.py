"""The leadership of the schedulers as a lease: a row instead of a lock of a session.

A lock is held for as long as its session lives, and that of a process that is stopped, or of a link that
swallows everything, lives on. The reasons for the columns stand in `goqueue/db/tables/processes.py`. The release
before this one goes on with its lock: while both run, two may lead, which costs work and harms nothing.

Revision: 0009, after 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        CREATE TABLE leadership (
            id smallint PRIMARY KEY DEFAULT 1,
            holder text,
            term bigint NOT NULL DEFAULT 0,
            renewals bigint NOT NULL DEFAULT 0,
            renewed_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT leadership_one_row_check CHECK (id = 1)
        )
        """
    )
    op.execute("INSERT INTO leadership DEFAULT VALUES")


def downgrade() -> None:
    """Take it back."""
    op.execute("DROP TABLE leadership")
