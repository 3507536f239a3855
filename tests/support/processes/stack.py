"""A whole GoQueue of real processes and servers of its own, for the system tests to harm."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx
import psutil
from pydantic import SecretStr

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.dev.embedded import HOST, EmbeddedPostgres, EmbeddedValkey, free_port
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Runway
from goqueue.engine.runway.servers import connect
from goqueue.errors import DatabaseUnavailableError
from goqueue.ops.processes import ChildProcess, Command
from tests.support.chaos.checker import Report, check
from tests.support.chaos.history import Collector
from tests.support.database.places import misplaced
from tests.support.jobs.chaos_jobs import LOG_VARIABLE, QUEUE, SABOTAGE_VARIABLE
from tests.support.servers.clusters import copy_cluster
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
ACTORS = "tests.support.jobs.chaos_jobs"
GRACE_SECONDS = 20.0

#: At which the load of a test pauses, so that the end of a run does not depend on the machine's speed.
BACKLOG_MAX = 500

#: Where only the mechanism matters: a lost worker is noticed after two seconds instead of fifteen.
FAST_LEASES: dict[str, Any] = {"heartbeat_seconds": 0.5, "lease_seconds": 2.0, "rescue_interval_seconds": 0.2}


class Stack:
    """PostgreSQL, Valkey and whatever processes a test starts; everything ends with the block.

    Args:
        folder: for the servers' data, the log files and the side-effect log.
        proxied: put a TcpProxy between the processes and Valkey.
        sabotage: a module that switches a promise off in every process.
        settings: GoQueue's settings, by their names.
    """

    def __init__(
        self, folder: Path, *, proxied: bool = False, sabotage: str | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres", settings={"log_lock_waits": "on"})
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.proxy: TcpProxy | None = None
        self._proxied = proxied
        self._sabotage = sabotage
        self._overrides = settings
        self._children: list[ChildProcess] = []
        self._logs: list[IO[bytes]] = []
        self._stopped_pids: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()
        if kind is not None:
            self.show_logs()

    def _start(self) -> None:
        copy_cluster(self.postgres.folder)
        self.postgres.start()
        self.valkey.start()
        port = self.valkey.port
        if self._proxied:
            self.proxy = TcpProxy(self.valkey.port)
            port = self.proxy.port
        self.settings = Settings(
            database_url=SecretStr(self.postgres.url),
            redis_url=SecretStr(f"redis://{HOST}:{port}/0"),
            api_port=free_port(),
            **{
                "actors": (ACTORS,),
                "api_processes": 1,
                "shutdown_grace_seconds": GRACE_SECONDS,
                "worker_metrics_port": 0,
                "scheduler_metrics_port": 0,
                "log_format": "json",
                **self._overrides,
            },
        )
        self.database = Database(self.settings, application_name="chaos-test")
        self.runway = Runway(self.settings)
        self.redis = connect(Settings(redis_url=SecretStr(self.valkey.url)))
        self.submitter = JobCreator(self.settings, self.database, self.runway)
        self.collector = Collector(self.database, self.submitter, self.effects)

    def _end(self) -> None:
        for pid in set(self._stopped_pids):
            self.resume(pid)
        for child in self._children:
            child.kill()
        if hasattr(self, "collector"):
            self.collector.close()
            self.runway.close()
            self.redis.close()
            self.database.close()
        if self.proxy is not None:
            self.proxy.close()
        self.valkey.stop()
        self.postgres.stop("immediate")
        for file in self._logs:
            file.close()

    @property
    def effects(self) -> Path:
        """The log of side effects."""
        return self.folder / "effects.log"

    @property
    def api_url(self) -> str:
        """The root of the API."""
        return f"http://{HOST}:{self.settings.api_port}"

    def worker(self, threads: int = 4, **changes: Any) -> ChildProcess:
        """Start one worker process, as Dramatiq's command starts it."""
        grace_ms = str(int(self.settings.shutdown_grace_seconds * 1000))
        arguments = ["-m", "dramatiq", "goqueue.actors", "-p", "1", "-t", str(threads), "--skip-logging"]
        return self.run([*arguments, "--worker-shutdown-timeout", grace_ms], **changes)

    def workers(self, count: int, threads: int = 4, **changes: Any) -> list[ChildProcess]:
        """Start worker processes and wait until each has registered."""
        newer = "SELECT count(*) FROM workers WHERE id > %s"
        ((last,),) = self.rows("SELECT coalesce(max(id), 0) FROM workers")
        children = [self.worker(threads, **changes) for _ in range(count)]
        wait_until(lambda: self.rows(newer, (last,))[0][0] >= count, 30, "the workers to register")
        return children

    def supervisor(self, processes: int, threads: int = 4, **changes: Any) -> ChildProcess:
        """Start `goqueue worker`, the supervisor."""
        options = ["--processes", str(processes), "--threads", str(threads)]
        return self.run(["-m", "goqueue", "worker", *options], **changes)

    def scheduler(self, **changes: Any) -> ChildProcess:
        """Start `goqueue scheduler`; sabotage comes with the actors, which have to be there first."""
        if not self._sabotage:
            return self.run(["-m", "goqueue", "scheduler"], **changes)
        code = "import goqueue.actors, sys; from goqueue.cli import main; sys.exit(main(['scheduler']))"
        return self.run(["-c", code], **changes)

    def api(self, **changes: Any) -> ChildProcess:
        """Start `goqueue api` and wait until it answers."""
        child = self.run(["-m", "goqueue", "api"], **changes)
        wait_until(self.api_answers, 30, "the API to answer")
        return child

    def run(self, arguments: Sequence[str], *, root: Path = ROOT, **changes: Any) -> ChildProcess:
        """Start a Python process with this stack's settings, some changed; of the code in a folder."""
        settings = self.settings.model_copy(update=changes)
        environment = self.environment(settings) | {"PYTHONPATH": str(root)}
        return self.program([sys.executable, *arguments], environment, root=root)

    def program(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, root: Path = ROOT
    ) -> ChildProcess:
        """Start any program; `environment` is all that it has, beside where it notes its side effects."""
        path = self.folder / f"process-{len(self._logs)}.log"
        output = path.open("ab")
        self._logs.append(output)
        command = Command(
            name=path.stem,
            arguments=tuple(arguments),
            environment={LOG_VARIABLE: str(self.effects), **environment},
            grace_seconds=0,
            output=output,
            folder=root,
        )
        child = ChildProcess(command)
        self._children.append(child)
        return child

    def environment(self, settings: Settings) -> dict[str, str]:
        """Return the variables by which a Python process belongs to this stack."""
        environment = environment_of(settings)
        environment |= {"PYTHONPATH": str(ROOT), LOG_VARIABLE: str(self.effects)}
        if self._sabotage:
            environment[SABOTAGE_VARIABLE] = self._sabotage
        return environment

    def api_answers(self) -> bool:
        """Tell whether the API answers, and PostgreSQL it."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.api_url}/health/db", trust_env=False).is_success
        return False

    def worker_pids(self) -> list[int]:
        """The processes that hold a lease, the newest last."""
        return [row[0] for row in self.rows("SELECT pid FROM workers WHERE stopped_at IS NULL ORDER BY id")]

    def processes(self) -> list[psutil.Process]:
        """Every process of the stack, the servers first, each before its children."""
        pids = [self.postgres.pid, self.valkey.pid, *(child.pid for child in self._children)]
        roots = [psutil.Process(pid) for pid in pids]
        return [process for root in roots for process in (root, *root.children(recursive=True))]

    def kill(self, *pids: int, kind: str = "kill") -> None:
        """SIGKILL processes of this stack, and remember what was running."""
        self.collector.note_fault(kind, harmed_pids=pids)
        for pid in pids:
            self.signal(pid, signal.SIGKILL)

    def pause(self, pid: int) -> None:
        """SIGSTOP a process of this stack."""
        self.collector.note_fault("stop", harmed_pids=[pid])
        self._stopped_pids.add(pid)
        self.signal(pid, signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """SIGCONT a stopped process."""
        self._stopped_pids.discard(pid)
        self.signal(pid, signal.SIGCONT)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Signal a process, unless it is gone: its number may be somebody else's by now."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.environ().get(LOG_VARIABLE) == str(self.effects):
                process.send_signal(number)

    def rows(self, sql: str, parameters: Any = ()) -> Sequence[Any]:
        """The rows of a query."""
        with self.database.autocommit() as connection:
            return connection.exec_driver_sql(sql, parameters).fetchall()

    def rows_changed(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(sql)

    def count(self, *statuses: str) -> int:
        """Count the jobs in one of these states."""
        return int(self.rows("SELECT count(*) FROM jobs WHERE status = ANY(%s)", (list(statuses),))[0][0])

    def runway_length(self) -> int:
        """Count the messages on the runway of the chaos queue."""
        return int(self.redis.llen(self.redis_key("runway")))

    def redis_key(self, name: str) -> str:
        """A key of the chaos queue."""
        return f"{self.settings.namespace}:{{{QUEUE}}}:{name}"

    def unfinished(self) -> int:
        """Count the jobs without a final state; a great many while PostgreSQL is away."""
        try:
            return self.count("queued", "running", "blocked")
        except DatabaseUnavailableError:
            return sys.maxsize

    def wait_until_finished(self, timeout_seconds: float) -> None:
        """Wait until every job has a final state."""
        wait_until(lambda: self.unfinished() == 0, timeout_seconds, "every job to finish")

    def logged(self, event: str, logger: str = "") -> int:
        """Count the lines of all logs that hold an event, told by a logger whose name begins so."""
        return sum(
            f'"event": "{event}"' in line and f'"logger": "{logger}' in line
            for path in self.folder.glob("process-*.log")
            for line in path.read_text().splitlines()
        )

    def report(self) -> Report:
        """The checker's report of the run so far, printed; the places of all jobs are right."""
        with self.database.autocommit() as connection:
            assert misplaced(connection) == {}
        report = check(self.collector.finished())
        print(f"\n{self.folder.name}: {report}", flush=True)  # noqa: T201  (duplicates and recovery are always told)
        return report

    def show_logs(self, lines: int = 40) -> None:
        """Print the ends of all log files: what somebody needs who looks at a failure."""
        for path in sorted(self.folder.glob("**/*.log")):
            if path != self.effects:
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                print(f"--- {path}", *tail, sep="\n", flush=True)  # noqa: T201


@contextmanager
def load(
    stack: Stack, type_name: str = "quick", *, batch: int = 20, pause_seconds: float = 0.1, **payload: Any
) -> Iterator[None]:
    """Submit jobs in the background inside the block, as long as not too many wait.

    While PostgreSQL is away they are only attempted.
    """
    ended = threading.Event()

    def submit() -> None:
        while not ended.wait(pause_seconds):
            with suppress(DatabaseUnavailableError):
                if stack.count("queued", "running") < BACKLOG_MAX:
                    stack.collector.submit(type_name, batch, **payload)

    thread = threading.Thread(target=submit, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
