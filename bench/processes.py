"""Child processes of a benchmark: started, counted by their CPU and memory, and ended by their ids alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil

STOP_SECONDS = 15.0


class Memory(NamedTuple):
    """Memory of one process in MiB: its own, with its share of what is shared, and with all of that."""

    uss: float
    pss: float
    rss: float


class Child:
    """One command of a benchmark, with everything that it starts. Its output goes to a log file.

    Args:
        arguments: of the command.
        environment: the whole environment.
        log: where the output goes.
        program: what is run; this Python where none is named.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        program: str = sys.executable,
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [program, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the command itself."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def tree(self) -> list[psutil.Process]:
        """The command and its descendants, as far as they live."""
        return tree(self.pid)

    def stop(self) -> None:
        """Ask it to end, then insist; returns when it and its descendants are gone."""
        processes = self.tree()
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it and its descendants at once."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, of its living descendants, and of those that ended and were waited for."""
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory(process: psutil.Process) -> Memory:
    """The memory of one process."""
    info = process.memory_full_info()
    return Memory(info.uss / 2**20, info.pss / 2**20, info.rss / 2**20)


def wait_until(condition: Callable[[], object], *, seconds: float, what: str, poll: float = 0.005) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(poll)
