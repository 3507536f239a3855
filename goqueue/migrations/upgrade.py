"""Running the migrations from Python: `goqueue migrate`, the demo and the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from goqueue.db.database import Database


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    _run(database, lambda config: command.upgrade(config, revision))


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to a revision (`-1`: one step; `base`: nothing)."""
    _run(database, lambda config: command.downgrade(config, revision))


def current_revision(connection: Connection) -> str | None:
    """The revision that the database has, or None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str | None:
    """The revision that this code needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


#: Alembic's context is the process's own: two threads that migrate have to wait for each other.
_one_at_a_time = threading.Lock()


def _run(database: Database, step: Callable[[Config], None]) -> None:
    with _one_at_a_time, database.connection() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        config = _config()
        config.attributes["connection"] = connection
        step(config)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
