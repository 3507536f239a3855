"""Job types of the chaos tests, loaded by `GOQUEUE_ACTORS`. Each run leaves lines in a side-effect log.

The log is the file that the environment names: `job_id fence attempt pid start|end time`, one `write` of one
line to a file opened for appending, so that a SIGKILL leaves whole lines only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import goqueue

LOG_VARIABLE = "CHAOS_SIDE_EFFECTS"

#: A module that switches one of GoQueue's promises off, in the process that loads it: a mutation test's.
SABOTAGE_VARIABLE = "CHAOS_SABOTAGE"

QUEUE = "chaos"

_log = os.open(os.environ.get(LOG_VARIABLE, os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@contextmanager
def logged() -> Iterator[None]:
    """Around what a handler does: the lines of its start and, where it comes so far, its end."""
    _write("start")
    yield
    _write("end")


def _write(what: str) -> None:
    job = goqueue.current_job()
    os.write(_log, f"{job.id} {job.fence} {job.attempt} {os.getpid()} {what} {time.time():.6f}\n".encode())


@goqueue.actor(queue=QUEUE)
def quick(token: str) -> str:
    """Return the token at once."""
    with logged():
        return token


@goqueue.actor(queue=QUEUE)
def slow(token: str, seconds: float) -> str:
    """Sleep once for so long: an interrupt from outside is delivered when the sleep is over."""
    with logged():
        time.sleep(seconds)
        return token


@goqueue.actor(queue=QUEUE)
def slow_at_first(token: str, seconds: float, step_seconds: float = 0.02, again_seconds: float = 0.0) -> str:
    """Take so long in the first run, and again in later ones; an interrupt lands between two steps."""
    with logged():
        deadline = time.monotonic() + (seconds if goqueue.current_job().fence == 1 else again_seconds)
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, step_seconds))
        return token


@goqueue.actor(queue=QUEUE, rerun_after_death=False)
def never_twice(token: str, seconds: float) -> str:
    """Take so long, in an attempt that must not be repeated when its worker dies."""
    with logged():
        time.sleep(seconds)
        return token


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def fails_once(token: str, seconds: float = 0.0) -> str:
    """Fail the first attempt, after so long."""
    with logged():
        time.sleep(seconds)
        if goqueue.current_job().attempt == 1:
            raise RuntimeError("the first attempt fails")
        return token


@goqueue.actor(queue=QUEUE, max_retries=1, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def fails_always(token: str) -> str:
    """Fail in every single attempt."""
    with logged():
        raise RuntimeError(f"{token} always fails")


@goqueue.actor(queue=QUEUE)
def pill_sigkill(token: str) -> str:
    """Kill the process of the worker."""
    with logged():
        os.kill(os.getpid(), signal.SIGKILL)
        return token


@goqueue.actor(queue=QUEUE)
def pill_segfault(token: str) -> str:
    """Read memory at address 0."""
    with logged():
        ctypes.string_at(0)
        return token


@goqueue.actor(queue=QUEUE)
def pill_exit(token: str) -> str:
    """Leave without a goodbye."""
    with logged():
        os._exit(3)
        return token


if os.environ.get(SABOTAGE_VARIABLE):
    import_module(os.environ[SABOTAGE_VARIABLE])
