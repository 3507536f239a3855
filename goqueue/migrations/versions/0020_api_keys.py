"""API keys as rows, and sessions of the dashboard that know which of them was shown.

Revision: 0020, after 0019
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE api_keys (
    id text NOT NULL,
    name text NOT NULL,
    secret_hash text NOT NULL,
    previous_hash text,
    previous_until timestamptz,
    scopes text[] NOT NULL,
    queues text[],
    types text[],
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    rotated_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_previous_check CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
ALTER TABLE dashboard_sessions ADD COLUMN key_id text;
"""

_DOWN = """
ALTER TABLE dashboard_sessions DROP COLUMN key_id;
DROP TABLE api_keys;
"""


def upgrade() -> None:
    """Apply."""
    for statement in _UP.strip().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Take back. The keys are gone."""
    for statement in _DOWN.strip().split(";\n"):
        op.execute(statement)
