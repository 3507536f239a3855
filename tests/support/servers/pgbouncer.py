"""A PgBouncer in transaction mode, from Debian's package, as deploy/pgbouncer/pgbouncer.ini configures it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from signal import SIGINT, SIGKILL
from urllib.parse import urlsplit

import psycopg

from goqueue.dev.embedded_process import EmbeddedServer
from goqueue.ops.ports import HOST

CONFIGURATION = Path(__file__).parents[3] / "deploy" / "pgbouncer" / "pgbouncer.ini"

#: Fewer sessions than the engine of a test has clients, so that sessions do change hands.
POOL_SIZE = 3


def program() -> str | None:
    """Find the installed program; None where there is none."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


class EmbeddedPgBouncer(EmbeddedServer):
    """A PgBouncer before a PostgreSQL that trusts everybody.

    Args:
        folder: its configuration and its log.
        postgres_url: any database of that PostgreSQL.
    """

    name = "PgBouncer"
    orphan_signal = SIGINT

    def __init__(self, folder: Path, postgres_url: str) -> None:
        super().__init__(folder)
        self._postgres = urlsplit(postgres_url)

    def url_for(self, database: str) -> str:
        """The URL of a database, through PgBouncer."""
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def give_role_a_timeout(self) -> None:
        """Let statements end by themselves, as the role of a deployment does."""
        with psycopg.connect(self._postgres.geturl(), autocommit=True) as connection:
            connection.execute("ALTER ROLE postgres SET statement_timeout = '30s'")
            connection.execute("ALTER ROLE postgres SET lock_timeout = '5s'")
            connection.execute("ALTER ROLE postgres SET jit = off")

    def stop(self) -> None:
        """Stop; clients are disconnected."""
        self._end((SIGINT, SIGKILL))

    def _prepare(self) -> None:
        """Nothing: it keeps nothing."""

    def _command(self) -> list[str]:
        changes = {
            r"^\* = .*": f"* = host={HOST} port={self._postgres.port} user=postgres",
            r"^listen_addr = .*": f"listen_addr = {HOST}",
            r"^listen_port = .*": f"listen_port = {self.port}",
            r"^auth_type = .*": "auth_type = any",
            r"^auth_file = .*": "",
            r"^pidfile = .*": "",
            r"^unix_socket_dir = .*": "unix_socket_dir =",
            r"^default_pool_size = .*": f"default_pool_size = {POOL_SIZE}",
            r"^(client|server)_tls_sslmode = .*": "",
        }
        text = CONFIGURATION.read_text()
        for pattern, replacement in changes.items():
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(text)
        found = program()
        assert found is not None
        # It refuses to stay root, and has read its configuration before it becomes somebody else.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [found, *user, str(configuration)]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url_for("postgres"), connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True

    def _complete(self) -> None:
        """Nothing: a started one is complete."""
