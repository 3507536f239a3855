"""The roles of the PostgreSQL that Compose starts."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.migrations.upgrade import downgrade, upgrade
from goqueue.ops.checks import problems_of

ROLES = Path(__file__).parents[2] / "deploy/postgres/roles.sql"


@pytest.fixture
def own_postgres(data_folder: Path) -> EmbeddedPostgres:
    """A PostgreSQL that is the test's alone: roles belong to the server."""
    return EmbeddedPostgres(data_folder)


def test_goqueue_works_without_a_superuser(own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    """The role of the file migrates up and down, finds nothing wrong, and is no superuser."""
    with own_postgres as server:
        lines = [line for line in ROLES.read_text().splitlines() if not line.startswith(("--", "\\"))]
        with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE goqueue")  # the embedded one comes with it
            for statement in "\n".join(lines).replace(":'password'", "'secret'").split(";"):
                if statement.strip():
                    connection.execute(statement.encode())
        url = (
            server.url_for("goqueue").replace("postgres@", "goqueue:secret@").replace("postgres:", "goqueue:")
        )
        settings = Settings(
            database_url=SecretStr(url), redis_url=SecretStr(valkey.url), namespace="roles", environment="dev"
        )
        database = Database(settings)
        upgrade(database)
        assert problems_of(settings) == []
        with database.autocommit() as connection:
            row = connection.exec_driver_sql(
                "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).one()
            assert connection.exec_driver_sql("SELECT current_user").scalar_one() == "goqueue"
        assert tuple(row) == (False, False, False)
        downgrade(database, "-1")
        database.close()
