"""${message}.

Rules: a migration must be compatible with the release before it (old processes run while it is applied: add
columns with a default, drop what nothing reads any more one release later); it must not hold a lock on
`jobs` for longer than a moment (CREATE INDEX CONCURRENTLY in an autocommit block, NOT VALID then VALIDATE);
and its downgrade must work (a test runs it).

Revision: ${up_revision}, after ${down_revision | comma,n}, of ${create_date}
"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    """Take back."""
    ${downgrades if downgrades else "raise NotImplementedError"}
