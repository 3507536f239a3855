"""The servers of a run, and how both systems are started on them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

from bench.processes import Child
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2
THREADS = 8
#: As `goqueue api` is served.
GUNICORN = [
    "-k",
    "goqueue.api.server.worker.BufferingWorker",
    "-w",
    str(PROCESSES),
    "--threads",
    str(THREADS),
]
GUNICORN += ["--log-level", "warning", "--no-control-socket"]


class Stack:
    """PostgreSQL (durable) and Valkey for one run, in a folder that goes with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="goqueue-bench-"))
        self.log = self.folder / "processes.log"
        self.runs = self.folder / "runs"
        self.runs.mkdir()
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.valkey = EmbeddedValkey(self.folder / "valkey")

    def __enter__(self) -> Self:
        # As Ctrl-C does: what is ended in the middle of a run leaves no server behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.postgres.start()
        self.valkey.start()
        os.environ.update(self.environment())
        self._migrate()
        self.sql = psycopg.connect(self.postgres.url, autocommit=True)
        self.redis = redis.Redis.from_url(self.valkey.url)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            print(f"--- the end of {self.log}:\n{self._log_tail()}", file=sys.stderr)
        self.sql.close()
        self.redis.close()
        self.postgres.stop()
        self.valkey.stop()
        shutil.rmtree(self.folder)

    def environment(self) -> dict[str, str]:
        """The environment of every process of the run, the driver included."""
        mine = {
            "PYTHONPATH": str(ROOT),
            "BENCH_FOLDER": str(self.folder),
            "BENCH_REDIS_URL": self.valkey.url,
            "BENCH_DATABASE_URL": self.postgres.url,
            "GOQUEUE_DATABASE_URL": self.postgres.url,
            "GOQUEUE_REDIS_URL": self.valkey.url,
            "GOQUEUE_ACTORS": "bench.goqueue_jobs",
            "GOQUEUE_LOG_LEVEL": "WARNING",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
        return inherited | mine

    def workers(self, module: str, *, processes: int = PROCESSES, threads: int = THREADS) -> Child:
        """Worker processes under Dramatiq's own command, alike for both systems."""
        arguments = [
            "-m",
            "bench.installed",
            module,
            "-p",
            str(processes),
            "-t",
            str(threads),
            "--skip-logging",
        ]
        return self._child(arguments)

    def command(self, arguments: list[str], extra: Mapping[str, str] | None = None) -> Child:
        """Another Python command, with more in its environment."""
        return Child(arguments, environment=self.environment() | dict(extra or {}), log=self.log)

    def scheduler(self) -> Child:
        """GoQueue's background services."""
        return self._child(["-m", "goqueue", "scheduler"])

    def ruby(self, script: Path, *arguments: str) -> Child:
        """A Ruby script; the warning that mapped memory is an experiment is left out."""
        command = ["-W:no-experimental", str(script), *arguments]
        return Child(command, environment=self.environment(), log=self.log, program="ruby")

    def web(self, application: str) -> tuple[Child, int]:
        """A WSGI application under gunicorn, with as many threads for both; and its port."""
        port = free_port()
        # The yardsticks are served by what gunicorn brings; of two worker classes the last counts.
        kind = [] if application.startswith("goqueue.") else ["-k", "gthread"]
        arguments = ["-m", "gunicorn", *GUNICORN, *kind, "-b", f"127.0.0.1:{port}", application]
        return self._child(arguments), port

    def query(self, statement: str, *parameters: Any) -> Any:
        """The first column of the first row of a statement."""
        row = self.sql.execute(statement, parameters).fetchone()
        return row[0] if row else None

    def _log_tail(self) -> str:
        """The last lines that the processes of the run have written."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-20:])

    def clear(self) -> None:
        """Forget all jobs and counts, and begin the next round on freshly vacuumed tables."""
        self.redis.flushall()
        for path in self.runs.iterdir():
            path.unlink()
        (self.folder / "stamps").unlink(missing_ok=True)
        self.sql.execute("TRUNCATE jobs, attempts, workers")
        self.sql.execute("CHECKPOINT")

    def _child(self, arguments: list[str]) -> Child:
        return Child(arguments, environment=self.environment(), log=self.log)

    def _migrate(self) -> None:
        from goqueue.config.settings import get_settings  # noqa: PLC0415  (it reads the environment that was just set)
        from goqueue.db.database import Database  # noqa: PLC0415
        from goqueue.migrations.upgrade import upgrade  # noqa: PLC0415

        database = Database(get_settings())
        upgrade(database)
        database.close()
