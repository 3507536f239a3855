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


def now(name: str) -> Column[object]:
    """A time that is the transaction's where none is given."""
    return Column(name, Timestamp, nullable=False, server_default=func.now())
