"""Building blocks of the tables: their metadata, and the columns and conditions that many have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Integer, MetaData, func, text

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
    """Return the condition that each moment of these columns that is there is one that every reader can hold.

    One expression for all of them, because each one costs every INSERT and UPDATE.
    """
    names = ", ".join(columns)
    return f"LEAST({names}) >= {_FIRST} AND GREATEST({names}) <= {_LAST}"


def identity() -> Column[object]:
    """Make the column `id`, a number that PostgreSQL gives."""
    return Column("id", BigInteger, Identity(), primary_key=True)


def now(name: str) -> Column[object]:
    """Make a column of a time that is the transaction's where none is given."""
    return Column(name, Timestamp, nullable=False, server_default=func.now())


def flag(name: str) -> Column[object]:
    """Make a column of a truth that is false where nothing is said."""
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def count(name: str, kind: Any = Integer) -> Column[object]:
    """Make a column of a number that begins at 0."""
    return Column(name, kind, nullable=False, server_default="0")
