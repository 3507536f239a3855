"""The folder that the worker processes of one group share: their metrics, and a sign of life of each."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from goqueue.config.settings import Settings
from goqueue.errors import StartupError
from goqueue.forks import close_in_children

#: No more is kept of what is wrong with a process.
PROBLEM_MAX_BYTES = 500

_LAYOUT = struct.Struct(f"<d??{PROBLEM_MAX_BYTES}s")


class SignOfLife(NamedTuple):
    """The facts that a worker process tells of itself every second.

    Attributes:
        turned_at: when the slowest of its consumers last turned, by the monotonic clock of the machine.
        ready: it has a lease, and PostgreSQL and Redis answer.
        draining: it is told to stop: its consumers need not turn any more.
        problem: what is wrong with its threads, as what follows "process 7"; empty when they are well.
    """

    turned_at: float
    ready: bool
    draining: bool
    problem: str = ""


class GroupFolder:
    """One folder for each group: the one that the settings name, or that of Dramatiq's parent process.

    Raises:
        StartupError: it cannot be made, or belongs to somebody else.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_temporary = settings.metrics_folder is None
        name = f"goqueue-workers-{os.getuid()}-{os.getppid()}"
        self.path = Path(settings.metrics_folder or Path(tempfile.gettempdir()) / name)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise StartupError(f"the folder for metrics cannot be made: {error}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StartupError(f"the folder for metrics, {self.path}, is not a folder of this user")
        self._own: IO[bytes] | None = None
        self._server: IO[bytes] | None = None

    def heartbeat(self, sign: SignOfLife) -> None:
        """Leave a sign of life of this process. Its lock says that the process is there, however it ends."""
        if self._own is None:
            self._own = self._make_own()
        packed = _LAYOUT.pack(sign.turned_at, sign.ready, sign.draining, sign.problem.encode())
        os.pwrite(self._own.fileno(), packed, 0)

    def signs(self) -> dict[int, SignOfLife]:
        """The last signs of the processes that are there, by their process ids."""
        return dict(self._read_signs())

    def may_serve(self) -> bool:
        """Tell whether this process answers for the group: the first that asks, until it ends."""
        if self._server is None:
            file = (self.path / "server").open("a+b")
            close_in_children(file)
            if not _lock(file):
                file.close()
                return False
            self._server = file
        return True

    def leave(self) -> None:
        """Take the own sign away; the last one of a group that has no supervisor removes the folder."""
        for file in (self._own, self._server):
            if file is not None:
                file.close()
        (self.path / f"{os.getpid()}.life").unlink(missing_ok=True)
        if self._is_temporary and not self.signs():
            shutil.rmtree(self.path, ignore_errors=True)

    def _make_own(self) -> IO[bytes]:
        path = self.path / f"{os.getpid()}.life"
        while True:
            file = path.open("w+b", buffering=0)
            close_in_children(file)
            fcntl.flock(file, fcntl.LOCK_EX)
            # Between the two, a reader may have taken it for that of a dead process.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
            file.close()

    def _read_signs(self) -> Iterator[tuple[int, SignOfLife]]:
        for path in self.path.glob("*.life"):
            try:
                with path.open("r+b") as file:
                    if int(path.stem) != os.getpid() and _lock(file):
                        path.unlink(missing_ok=True)
                        continue
                    content = file.read(_LAYOUT.size)
            except FileNotFoundError:
                continue
            if len(content) == _LAYOUT.size:
                turned_at, ready, draining, packed = _LAYOUT.unpack(content)
                problem = packed.rstrip(b"\0").decode(errors="ignore")
                yield int(path.stem), SignOfLife(turned_at, ready, draining, problem)


def _lock(file: IO[bytes]) -> bool:
    """Take the lock of a file; False: another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
