"""What every table is made with."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, func

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)

Timestamp = DateTime(timezone=True)


#: The first and the last moment that is stored (`goqueue/config/bounds.py`), as a constraint writes them.
_FIRST = "timestamptz '1900-01-01 00:00:00+00'"
_LAST = "timestamptz '3000-01-01 00:00:00+00'"


def within_bounds(*columns: str) -> str:
    """The condition that every moment of these columns, where there is one, is one that each reader can hold.

    One expression for all of them, because each one costs every INSERT and UPDATE.
    """
    names = ", ".join(columns)
    return f"LEAST({names}) >= {_FIRST} AND GREATEST({names}) <= {_LAST}"


def now(name: str) -> Column[object]:
    """A time that is the transaction's where none is given."""
    return Column(name, Timestamp, nullable=False, server_default=func.now())
