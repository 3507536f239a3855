"""Bounds: no moment is stored that some reader of it cannot hold, or not compute with.

The reasons stand in `goqueue/models`. The release before this one runs on this schema: what it creates within
the bounds is not touched, and what lies beyond them, which would have stopped its dispatcher, is refused.

`jobs` is hot. So rows from before are first moved to the nearest bound, in a pass that locks no row but
those; then the constraint is added NOT VALID, which takes its lock for a moment and looks at no row; what
came in between is moved as well; and validating reads the table under a lock that stops no reader and no
writer. Each step is its own transaction and may be run again.

Revision: 0005, after 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FIRST = "timestamptz '1900-01-01 00:00:00+00'"
_LAST = "timestamptz '3000-01-01 00:00:00+00'"

#: Table → its columns of moments, and what else its constraint says.
_BOUNDED = {
    "jobs": (
        ("available_at", "rank", "expires_at", "deadline_at"),
        "time_limit_seconds BETWEEN 0 AND 86400",
    ),
    "queues": (
        ("paused_at", "paused_until", "throttled_until", "ramping_since", "ramping_until"),
        "ramp_seconds BETWEEN 0 AND 86400",
    ),
    "schedules": (("paused_at", "next_at", "due_at"), "jitter_seconds BETWEEN 0 AND 86400"),
}

#: Settings that lie beyond are forgotten: what they are then.
_FORGOTTEN = {"time_limit_seconds": "NULL", "ramp_seconds": "0", "jitter_seconds": "0"}


def _condition(table: str) -> str:
    moments, rest = _BOUNDED[table]
    columns = ", ".join(moments)
    return f"LEAST({columns}) >= {_FIRST} AND GREATEST({columns}) <= {_LAST} AND {rest}"


def _repair(table: str) -> str:
    """Move what lies beyond to where every reader can read it: long ago, or far ahead, as it was meant."""
    moments, rest = _BOUNDED[table]
    moved = [
        f"{name} = CASE WHEN {name} IS NOT NULL THEN LEAST(GREATEST({name}, timestamptz '1970-01-01 00:00:00+00'), "
        f"timestamptz '2990-01-01 00:00:00+00') END"
        for name in moments
    ]
    setting = rest.partition(" ")[0]
    moved.append(f"{setting} = CASE WHEN {rest} THEN {setting} ELSE {_FORGOTTEN[setting]} END")
    key = "name" if table == "queues" else "id"
    # The parts are constants of this module.
    return f"""
        WITH beyond AS (
            SELECT {key} FROM {table} WHERE ({_condition(table)}) IS FALSE ORDER BY {key} FOR UPDATE
        )
        UPDATE {table} SET {", ".join(moved)} FROM beyond WHERE {table}.{key} = beyond.{key}
    """  # noqa: S608


def upgrade() -> None:
    """Apply."""
    with op.get_context().autocommit_block():
        for table in _BOUNDED:
            name = f"{table}_moments_check"
            op.execute(_repair(table))
            op.execute(
                f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, "
                f"ADD CONSTRAINT {name} CHECK ({_condition(table)}) NOT VALID"
            )
            op.execute(_repair(table))
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    """Take back."""
    for table in _BOUNDED:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_moments_check")
