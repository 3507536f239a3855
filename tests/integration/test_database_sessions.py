"""What every session of PostgreSQL is told at its start."""

from __future__ import annotations

import pytest

from goqueue.db import Database


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "UTC"),
        # Images of PostgreSQL have it on; compiling a statement takes longer than running any of ours.
        ("jit", "off"),
        # tests/integration/test_places.py shows what for.
        ("enable_seqscan", "off"),
        ("statement_timeout", "30s"),
    ],
)
def test_a_session_has_the_setting(database: Database, setting: str, value: str) -> None:
    """It is in force before the first statement."""
    with database.autocommit() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == value
