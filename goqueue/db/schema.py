"""The revision of the database's schema, for processes that must not start on an older one."""

from __future__ import annotations

from importlib import resources

from goqueue.db.database import Connection

__all__ = ["problem_of", "problem_with"]


def problem_of(connection: Connection) -> str | None:
    """Say why this release cannot work on the schema of this database; None when it can."""
    cursor = connection.exec_driver_sql("SELECT to_regclass('alembic_version') IS NOT NULL")
    if not cursor.scalar_one():
        return problem_with(None, _newest())
    return problem_with(
        connection.exec_driver_sql("SELECT max(version_num) FROM alembic_version").scalar_one(), _newest()
    )


def problem_with(current: str | None, needed: str) -> str | None:
    """Say how the current revision is behind the needed one, each of four digits; None when it is not."""
    if current is None:
        return "the database has no schema yet: run `goqueue migrate`"
    if current < needed:
        return f"the schema is at {current}, and this release needs {needed}: run `goqueue migrate`"
    return None


def _newest() -> str:
    """The newest revision that comes with this release. Alembic knows it too, after a third of a second."""
    folder = resources.files("goqueue.migrations").joinpath("versions")
    return max(entry.name[:4] for entry in folder.iterdir() if entry.name[:4].isdigit())
