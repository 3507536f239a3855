"""Job types that run in child processes of their worker, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import goqueue
from tests.support.jobs.chaos_jobs import QUEUE


class RefusedError(Exception):
    """An exception of the handler's own class."""


class FinalError(Exception):
    """One after which there is no retry."""


class Model:
    """What a lifespan loads in each child."""


@goqueue.lifespan
def load_model() -> Iterator[Model]:
    """Load it once a process."""
    yield Model()


def opened() -> Iterator[list[int]]:
    """Open something for a job."""
    found = [os.getpid()]
    yield found
    found.clear()


@goqueue.actor(queue=QUEUE, process=True)
def tells(text: str, number: float = 0.5) -> dict[str, object]:
    """Tell what it was given, and where it runs."""
    return {"text": text, "number": number, "pid": os.getpid(), "job": goqueue.current_job().id}


@goqueue.actor(queue=QUEUE, process=True)
def reports() -> dict[int, object]:
    """Report progress and lines, and what its parents returned."""
    job = goqueue.current_job()
    job.log("first line")
    job.progress(0.25, "a quarter")
    job.log("half a pair: \ud800")
    job.stream("a piece")
    return job.parent_results()


@goqueue.actor(queue=QUEUE, process=True)
def given(
    model: Annotated[Model, goqueue.Depends()],
    pids: Annotated[list[int], goqueue.Depends(opened)],
) -> list[object]:
    """Tell what it is given."""
    return [type(model).__name__, pids[0] == os.getpid()]


@goqueue.actor(queue=QUEUE, process=True)
def creates() -> int:
    """Create a job, on a connection of the child."""
    return goqueue.enqueue(tells, {"text": "made in a child"})


@goqueue.actor(queue=QUEUE, process=True, max_retries=1, min_backoff_seconds=0.05, throws=(FinalError,))
def raises(kind: str) -> None:
    """Raise, or say a verdict."""
    attempt = goqueue.current_job().fence
    match kind:
        case "refused":
            raise RefusedError("not like this")
        case "final":
            raise FinalError("never")
        case "exits":
            raise SystemExit(3)
        case "not json":
            return object()  # type: ignore[return-value]
        case "snooze" if attempt == 1:
            raise goqueue.Snooze(0.1)
        case "retry after" if attempt == 1:
            raise goqueue.RetryAfter(0.1, "busy")
        case "discard":
            raise goqueue.Discard("of no use")
    return None


@goqueue.actor(queue=QUEUE, process=True, max_retries=0)
def dies(how: str) -> str:
    """Take the process along, once it was told how."""
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
    return how


@goqueue.actor(queue=QUEUE, process=True, max_retries=0, time_limit_seconds=1.0)
def spins(how: str) -> str:
    """Never end: in Python, in C that holds the lock of the interpreter, or in spite of an interrupt."""
    while True:
        try:
            if how == "c":
                ctypes.PyDLL(None).sleep(600)
            time.sleep(0.01)
        except BaseException:
            if how != "stubborn":
                raise


@goqueue.actor(queue=QUEUE, process=True, max_retries=0, time_limit_seconds=0.3)
def hurries() -> str:
    """Have less time than a child needs to start."""
    return "in time"


@goqueue.actor(queue=QUEUE, process=True, max_retries=0, time_limit_seconds=60.0)
def works(seconds: float, started: str, how: str = "python") -> str:
    """Work for so long, from when it left its process id in a file; then tell who works."""
    Path(started).write_text(str(os.getpid()))
    if how == "c":
        ctypes.PyDLL(None).sleep(round(seconds))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if how == "cooperates" and goqueue.current_job().cancelled:
            return "tidied up"
        time.sleep(0.01)
    return str(os.getpid())


@goqueue.actor(queue=QUEUE, process=True, max_retries=0)
def starts_program() -> int:
    """Start a program, and end it by SIGTERM as Python does."""
    program = subprocess.Popen(["/bin/sleep", "600"])
    program.terminate()
    return program.wait(10)


@goqueue.actor(queue=QUEUE)
def neighbour(seconds: float) -> int:
    """Run in the worker itself, beside the others."""
    time.sleep(seconds)
    return os.getpid()
