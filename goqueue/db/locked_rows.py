"""SQL that changes the rows which a part of the same statement has locked."""

from __future__ import annotations

__all__ = ["rows_of"]


def rows_of(part: str, *, table: str = "jobs", key: str = "id") -> str:
    """Return the condition of the rows whose ids another part of the statement has found and locked.

    Not by their places (ctid), which are good within one partition alone. The array is a walk along the
    primary key, whatever the planner believes of the table; as a join the table was read as a whole while it
    was small. PostgreSQL leaves out partitions by comparisons with one value, and not by an array: so the
    lowest and the highest id stand there as well.

    Args:
        part: the name of the part (WITH …), MATERIALIZED, with a column `id`.
        table: whose rows are changed.
        key: the column of the table that has the job's id.
    """
    column = f"{table}.{key}"
    return (
        f"{column} = ANY (ARRAY (SELECT id FROM {part})) "
        f"AND {column} >= (SELECT min(id) FROM {part}) AND {column} <= (SELECT max(id) FROM {part})"
    )
