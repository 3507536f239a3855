"""Users: sessions of the dashboard that somebody began at a provider, and who that was, in the audit log.

The release before this one runs on this schema: a session without a key is none to it, and it writes entries
that name no user.

Revision: 0023, after 0022
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_UP = """
ALTER TABLE dashboard_sessions
    ALTER COLUMN key_hash DROP NOT NULL,
    ADD COLUMN issuer text,
    ADD COLUMN subject text,
    ADD COLUMN user_name text,
    ADD COLUMN claims json,
    ADD COLUMN id_token text,
    ADD CONSTRAINT dashboard_sessions_owner_check CHECK (
        (key_hash IS NULL) = (subject IS NOT NULL)
        AND (subject IS NULL) = (issuer IS NULL)
        AND (subject IS NULL) = (user_name IS NULL)
        AND (subject IS NULL) = (claims IS NULL)
        AND (id_token IS NULL OR subject IS NOT NULL)
    );
ALTER TABLE audit_log ADD COLUMN issuer text, ADD COLUMN subject text;
"""

_DOWN = """
ALTER TABLE audit_log DROP COLUMN issuer, DROP COLUMN subject;
DELETE FROM dashboard_sessions WHERE key_hash IS NULL;
ALTER TABLE dashboard_sessions
    DROP CONSTRAINT dashboard_sessions_owner_check,
    DROP COLUMN id_token,
    DROP COLUMN claims,
    DROP COLUMN user_name,
    DROP COLUMN subject,
    DROP COLUMN issuer,
    ALTER COLUMN key_hash SET NOT NULL;
"""


def upgrade() -> None:
    """Apply."""
    for statement in _UP.strip().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Take back. Whoever signed in at a provider has to sign in again."""
    for statement in _DOWN.strip().split(";\n"):
        op.execute(statement)
