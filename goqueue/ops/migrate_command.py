"""`goqueue migrate`: the schema of the installation, and that of every namespace inside of its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from goqueue.access.namespaces import Namespaces
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import DatabaseRefusedError
from goqueue.migrations.upgrade import current_revision, downgrade, upgrade

__all__ = ["migrate", "names_inside"]


def migrate(settings: Settings, *, to: str, down: bool) -> Iterator[str]:
    """Bring schemas up to a revision, or take them one step back; yield what became of each, a line each.

    The installation goes first on the way up, and last on the way back, because it knows the namespaces.

    Args:
        settings: of the installation, or of one namespace, which is then the only one.
        to: the revision.
        down: one step back instead.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    settings = settings.without_pooler()
    if not down:
        yield _migrated(settings, to=to, down=down)
    for name in names_inside(settings):
        yield f"{name}: {_migrated(settings.within(name), to=to, down=down)}"
    if down:
        yield _migrated(settings, to=to, down=down)


def names_inside(settings: Settings) -> list[str]:
    """List the namespaces inside of the database of an installation; those of a namespace are none.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    if settings.database_namespace is not None:
        return []
    with closing(Database(settings, pool_size=1, application_name="goqueue-migrate")) as database:
        try:
            return [one.name for one in Namespaces(settings, database).every()]
        except DatabaseRefusedError:
            return []  # a schema of before there were any


def _migrated(settings: Settings, *, to: str, down: bool) -> str:
    with closing(Database(settings, application_name="goqueue-migrate")) as database:
        if down:
            downgrade(database, "-1")
        else:
            upgrade(database, to)
        with database.autocommit() as connection:
            return f"the schema is at {current_revision(connection) or 'nothing'}"
