"""Children that a handler forks (`multiprocessing`, `ProcessPoolExecutor`, `os.fork`), cut off their parent.

A fork copies every open file: the socket on which a worker answers probes, the locks of its group's folder,
its connections to PostgreSQL. Closing them at `exec` does not help, because there is none. So they are closed
in the child; pools begin anew there; and the child of a worker ends with it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Protocol
from weakref import WeakMethod, WeakSet

import structlog

__all__ = [
    "call_in_children",
    "close_in_children",
    "disconnect_in_children",
    "end_children_with_this_process",
    "end_with",
    "life_of_this_process",
]

log = structlog.get_logger(__name__)

#: Linux's F_SETSIG, which the module `fcntl` has since Python 3.13: the signal that tells of a readable file.
F_SETSIG = 10


class Closable(Protocol):
    """A file or a socket that can be closed."""

    def close(self) -> None:
        """Close the file in this process."""


class Connected(Protocol):
    """A connection that lies on a socket."""

    @property
    def closed(self) -> bool:
        """Whether the connection has no socket any more."""

    def fileno(self) -> int:
        """The file descriptor of the connection's socket."""


_files: WeakSet[Closable] = WeakSet()
_connections: WeakSet[Connected] = WeakSet()
_calls: list[WeakMethod[Callable[[], object]]] = []

#: A pipe to which nobody ever writes. This process alone holds its writing end, which closes when it ends.
_life: tuple[int, int] | None = None


def close_in_children(file: Closable) -> None:
    """Close this file in each child that is forked, while it is used here."""
    _files.add(file)


def disconnect_in_children(connection: Connected) -> None:
    """Cut this connection off in each child: whatever it does with it reaches nobody."""
    _connections.add(connection)


def call_in_children(method: Callable[[], object]) -> None:
    """Call this bound method in each child, as long as its object is used here."""
    _calls.append(WeakMethod(method, _calls.remove))


def end_children_with_this_process() -> None:
    """Let the kernel kill every child forked from now on when this process ends, and let SIGTERM end it.

    The killing is Linux's alone. Meant for a process that runs handlers; a second call changes nothing.
    """
    # Not by PR_SET_PDEATHSIG: that signal comes when the thread ends that forked.
    global _life  # noqa: PLW0603  (it belongs to the process)
    if _life is None:
        _life = os.pipe()


def life_of_this_process() -> Connection | None:
    """Return a reading end of the pipe that closes when this process ends; None: it does not care.

    It is for a child that is not forked; the caller closes it once that has it.
    """
    return None if _life is None else Connection(os.dup(_life[0]), writable=False)


def end_with(reading: int) -> None:
    """Let the kernel kill this process when the writing end of a pipe is closed; Linux's alone."""
    try:
        # Opened anew: who is told of what happens to a file is noted once for all who share it.
        watched = os.open(f"/proc/self/fd/{reading}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(watched, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(watched, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(watched, fcntl.F_SETFL, fcntl.fcntl(watched, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError as error:
        log.debug("child_outlives_its_worker", error=str(error))
        return
    poller = select.poll()
    poller.register(watched, 0)
    if poller.poll(0):  # the worker has ended meanwhile
        os.kill(os.getpid(), signal.SIGKILL)


def _begin_child() -> None:
    """In the child, before anything else runs in it. An error here would be printed, and change nothing."""
    for file in list(_files):
        with suppress(OSError, ValueError):
            file.close()
    _files.clear()
    _cut_off(list(_connections))
    _connections.clear()
    for call in _calls.copy():
        method = call()
        if method is not None:
            method()
    if _life is not None:
        _end_with_parent(*_life)


def _cut_off(connections: list[Connected]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for connection in connections:
        with suppress(Exception):  # the driver's own
            if not connection.closed:
                os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)


def _end_with_parent(reading: int, writing: int) -> None:
    # The worker's own handlers only note that it is to drain: `Pool.terminate` would wait for ever.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError):  # a child of a child has closed it already
        os.close(writing)
    end_with(reading)


os.register_at_fork(after_in_child=_begin_child)
