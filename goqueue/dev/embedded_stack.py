"""All of GoQueue on this machine: servers, counterparts, API, workers, background services."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

from goqueue.config.settings import Settings, load_settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.errors import StartupError
from goqueue.migrations.upgrade import upgrade
from goqueue.observability.logging import configure_logging
from goqueue.ops.ports import HOST, free_port, refuse_taken_port
from goqueue.ops.processes import Command, goqueue_command
from goqueue.ops.supervisor import Supervisor
from goqueue.ops.worker_supervisor import metrics_folder, worker_commands

try:
    import httpx

    from goqueue.dev.fakes.payment_sandbox import PaymentSandbox
    from goqueue.dev.fakes.smtp_sink import SmtpSink
    from goqueue.dev.fakes.webhook_receiver import WebhookReceiver, make_secret
except ModuleNotFoundError as missing:
    raise StartupError(f"{missing.name} is missing: pip install 'goqueue[dev]'") from missing

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from goqueue.ops.supervisor import StopRequest

log = structlog.get_logger(__name__)

READY_SECONDS = 60.0
POLL_SECONDS = 0.05

SERVICES = ("api", "scheduler")

#: After this a child of the stack that does not end is killed; it is a developer's machine.
GRACE_SECONDS = 10.0


class EmbeddedStack:
    """Two servers, three counterparts and five or more processes, from `start` to `stop`.

    Args:
        folder: the servers' data, and which ports they had; kept.
        opens_path: whether folders above it may be opened to PostgreSQL's account, where it has one.
        api_port: 0 takes a free one.
        output: where the processes write their logs; None is where ours go.
        overrides: settings of every process, over the environment's.

    Raises:
        ConfigurationError: the environment is not usable.
    """

    def __init__(
        self,
        folder: Path,
        *,
        api_port: int = 0,
        output: IO[bytes] | None = None,
        opens_path: bool = False,
        **overrides: Any,
    ) -> None:
        self._opens_path = opens_path
        self._output = output
        self._overrides = overrides
        self._api_port = api_port
        self._ports = _Ports(folder / "ports.json")
        self.postgres = EmbeddedPostgres(folder / "postgresql")
        self.valkey = EmbeddedValkey(folder / "valkey")
        secret = make_secret()
        self._secret = secret
        self.mail = SmtpSink()
        self.payments = PaymentSandbox()
        self.webhooks = WebhookReceiver(secret)
        self.settings = load_settings(**overrides)
        self._supervisor = Supervisor([])
        self._metrics = ExitStack()

    @property
    def api_url(self) -> str:
        """The root of the API, without a slash at the end."""
        return f"http://{HOST}:{self.settings.api_port}"

    def start(self, stop: StopRequest) -> None:
        """Start everything; return when jobs are accepted and run, or when a stop is requested.

        Raises:
            StartupError: something cannot start; one line.
        """
        if self._api_port:
            refuse_taken_port("the API", self._api_port)
        self._start_servers()
        for counterpart in (self.mail, self.payments, self.webhooks):
            counterpart.start()
        self.settings = load_settings(**(self._addresses() | self._overrides))
        configure_logging(self.settings)
        database = Database(self.settings, pool_size=1)
        try:
            upgrade(database)
            self.settings = self._metrics.enter_context(metrics_folder(self.settings))
            self._supervisor = Supervisor(_commands(self.settings, self._output))
            self._start_processes(database, stop)
        finally:
            database.close()

    def tend(self) -> None:
        """Restart what has died."""
        for server in (self.postgres, self.valkey):
            if not server.is_running():
                log.error("server_restarted", server=server.name, log=str(server.log))
                server.start()
        self._supervisor.tend()

    def stop(self, forced: threading.Event) -> bool:
        """Stop everything, in the order in which nothing misses what it still needs.

        Returns:
            Whether every process ended by itself and without an error.
        """
        clean = True
        for names in (["api"], self._worker_names, ["scheduler"]):
            clean &= self._supervisor.stop(forced, names)
        self._metrics.close()
        for counterpart in (self.mail, self.payments, self.webhooks):
            counterpart.stop()
        self.valkey.stop(graceful=not forced.is_set())
        self.postgres.stop("immediate" if forced.is_set() else "fast")
        return clean

    @property
    def _worker_names(self) -> list[str]:
        return [name for name in self._supervisor.names if name not in SERVICES]

    def _start_servers(self) -> None:
        self.postgres = EmbeddedPostgres(self.postgres.folder, port=self._ports.of("postgresql"))
        self.postgres.opens_path = self._opens_path
        self.postgres.start()
        self.valkey = EmbeddedValkey(self.valkey.folder, port=self._ports.of("valkey"))
        self.valkey.start()
        self._ports.keep()

    def _start_processes(self, database: Database, stop: StopRequest) -> None:
        """Start the API first: it checks the users' modules, and tells in a line what is wrong with them."""
        self._supervisor.start(SERVICES)
        self._wait_until(self._api_answers, stop)
        if not stop.requested.is_set():
            self._supervisor.start(self._worker_names)
            self._wait_until(lambda: self._workers_are_registered(database), stop)

    def _addresses(self) -> dict[str, Any]:
        return {
            # Its own servers, whatever the environment knows of others.
            "namespaces_file": None,
            "database_url": SecretStr(self.postgres.url),
            "redis_url": SecretStr(self.valkey.url),
            "api_host": HOST,
            "api_port": self._api_port or free_port(),
            "smtp_url": SecretStr(self.mail.url),
            "payment_url": self.payments.charges_url,
            "webhook_secret": SecretStr(self._secret),
            "webhook_allow_networks": ("127.0.0.0/8",),
            "shutdown_grace_seconds": GRACE_SECONDS,
            "worker_metrics_port": _free_or_another(self.settings.worker_metrics_port),
            "scheduler_metrics_port": _free_or_another(self.settings.scheduler_metrics_port),
        }

    def _wait_until(self, condition: Callable[[], bool], stop: StopRequest) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition() and not stop.requested.wait(POLL_SECONDS):
            self.tend()
            if self._supervisor.refused:
                raise StartupError(f"{self._supervisor.refused[0]} cannot start; it has said why")
            if time.monotonic() > deadline:
                raise StartupError(f"the API and the workers were not ready after {READY_SECONDS:g} s")

    def _workers_are_registered(self, database: Database) -> bool:
        with database.autocommit() as connection:
            threads = worker_store.threads_by_queue(connection, lease_seconds=self.settings.lease_seconds)
        # Every worker serves the quarantine when it is idle; one thread serves nothing else.
        return threads.get("quarantine", 0) > self.settings.worker_processes * self.settings.worker_threads

    def _api_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.api_url}/health/db", trust_env=False).is_success
        return False


def _free_or_another(port: int) -> int:
    """The port, if it is free at this moment; 0 stays."""
    try:
        refuse_taken_port("metrics", port)
    except StartupError:
        return free_port()
    return port


class _Ports:
    """The ports of the last run, which a developer has in the shell; others where those are taken."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, int] = {}
        with suppress(OSError, ValueError):
            self._ports = {str(name): int(port) for name, port in json.loads(file.read_text()).items()}

    def of(self, name: str) -> int:
        """The port of a server, free at this moment."""
        port = self._ports.get(name, 0)
        try:
            refuse_taken_port(name, port)
        except StartupError:
            port = 0
        self._ports[name] = port or free_port()
        return self._ports[name]

    def keep(self) -> None:
        """Remember them for the next run."""
        self._file.write_text(json.dumps(self._ports))


def _commands(settings: Settings, output: IO[bytes] | None) -> list[Command]:
    quarantine = settings.model_copy(
        update={"worker_processes": 1, "worker_threads": 1, "worker_queues": ("quarantine",)}
    )
    commands = [
        goqueue_command(settings, "api"),
        goqueue_command(settings, "scheduler"),
        *worker_commands(settings),
        *worker_commands(quarantine, name="quarantine"),
    ]
    return [replace(command, output=output) for command in commands]
