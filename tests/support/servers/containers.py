"""PostgreSQL and Redis in containers, in place of the embedded servers: `pytest --servers=containers`.

The images are those of docker-compose.yml.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import yaml
from psycopg import sql
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer

COMPOSE_FILE = Path(__file__).parents[3] / "docker-compose.yml"

# A test's database lives for a moment: what a crash would lose is not worth a flush.
POSTGRES = "postgres -c fsync=off -c max_connections=200 -c shared_buffers=256MB -c max_wal_size=2GB"
REDIS = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
REDIS += ["--maxmemory-policy", "noeviction"]


class ContainerPostgres:
    """A PostgreSQL in a container that does what tests ask of an embedded one."""

    def __init__(self, container: PostgresContainer) -> None:
        self._container = container

    @property
    def url(self) -> str:
        """The URL of an empty database."""
        return self.url_for("goqueue")

    def url_for(self, database: str) -> str:
        """Return the URL of a database of this server."""
        host, port = self._container.get_container_host_ip(), self._container.get_exposed_port(5432)
        return f"postgresql://postgres@{host}:{port}/{quote(database, safe='')}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database; a `template` that is copied must have no connections."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))

    def drop_database(self, name: str) -> None:
        """Drop a database and disconnect whoever uses it; a missing one is fine."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url_for("postgres"), autocommit=True) as connection:
            connection.execute(statement)


class ContainerRedis:
    """A Redis in a container that does what tests ask of an embedded one."""

    def __init__(self, container: RedisContainer) -> None:
        self._container = container

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{self._container.get_container_host_ip()}:{self._container.get_exposed_port(6379)}/0"

    def is_running(self) -> bool:
        """Tell whether the server answers."""
        with self._container.get_client() as client:
            return bool(client.ping())


@contextmanager
def postgres_container() -> Iterator[ContainerPostgres]:
    """Run a PostgreSQL in a container of its own."""
    container = PostgresContainer(
        image_of("postgres"), username="postgres", password="postgres", dbname="goqueue", driver=None
    )
    # As the embedded server: it trusts whoever reaches its port, on this machine, and sorts like it.
    container.with_env("POSTGRES_HOST_AUTH_METHOD", "trust").with_command(POSTGRES)
    container.with_env("POSTGRES_INITDB_ARGS", "--locale=C --encoding=UTF8")
    with container:
        yield ContainerPostgres(container)


@contextmanager
def redis_container() -> Iterator[ContainerRedis]:
    """Run a Redis in a container of its own."""
    with RedisContainer(image_of("redis")).with_command(REDIS) as container:
        yield ContainerRedis(container)


def image_of(service: str) -> str:
    """The image of a service of docker-compose.yml."""
    return str(compose_file()["services"][service]["image"])


@functools.cache
def compose_file() -> dict[str, Any]:
    """Read docker-compose.yml, once a process."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return document
