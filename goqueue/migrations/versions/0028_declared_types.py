"""Job types that are declared over REST, with the schemas of their payloads and where they are sent.

A table of its own, which no statement of the release before looks at.

Revision: 0028, after 0027
"""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE declared_types (
    name text NOT NULL,
    queue text NOT NULL,
    schema json NOT NULL,
    max_retries smallint,
    min_backoff_seconds double precision,
    max_backoff_seconds double precision,
    jitter boolean,
    time_limit_seconds double precision,
    requires text[] NOT NULL DEFAULT '{}',
    url text,
    secret text,
    previous_secret text,
    previous_until timestamptz,
    declared_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT declared_types_pkey PRIMARY KEY (name),
    CONSTRAINT declared_types_secret_check CHECK ((url IS NULL) = (secret IS NULL)),
    CONSTRAINT declared_types_previous_check CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
)
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_UP)


def downgrade() -> None:
    """Take back. Jobs of declared types wait for ever then: nothing knows their types."""
    op.execute("DROP TABLE declared_types")
