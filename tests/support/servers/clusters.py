"""A migrated PostgreSQL cluster to start from: initdb takes seconds on a busy machine, a copy does not."""

from __future__ import annotations

import atexit
import functools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.migrations.upgrade import upgrade


def copy_cluster(folder: Path) -> None:
    """Put a migrated cluster into the folder of an EmbeddedPostgres that was never started."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", _pristine_cluster(), folder / "data"], check=True)


@contextmanager
def own_postgres_in(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Run a migrated PostgreSQL that is the test's own to harm."""
    copy_cluster(folder)
    with EmbeddedPostgres(folder) as server:
        yield server


@functools.cache
def _pristine_cluster() -> Path:
    """Made once a process."""
    home = tempfile.TemporaryDirectory(prefix="goqueue-cluster-")
    atexit.register(home.cleanup)
    with EmbeddedPostgres(Path(home.name)) as server:
        database = Database(Settings(database_url=SecretStr(server.url)))
        upgrade(database)
        database.close()
    return Path(home.name) / "data"
