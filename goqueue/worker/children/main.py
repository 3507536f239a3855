"""The child's side: a process that runs one handler after the other, until its worker is gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import orjson

from goqueue.errors import DatabaseUnavailableError
from goqueue.forks import end_children_with_this_process, end_with
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.current_job import CurrentJob
from goqueue.observability.exception_reader import text_of
from goqueue.worker.children.declared import ChildHandler, handler_of
from goqueue.worker.interrupts import Interrupts

__all__ = ["ChildServer", "serve"]

#: Signals that mean a whole service. Its worker drains then, and waits for what the child runs.
_OF_THE_SERVICE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Where memory runs out, the kernel is to prefer the child over its worker by so much of a thousand.
_OOM_SCORE = 300

_OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")


def serve(connection: Connection, life: Connection | None, modules: Sequence[str]) -> None:
    """Run what comes over the connection, until it is closed: the main function of the child.

    Args:
        connection: to the worker.
        life: the reading end of a pipe that closes when the worker has ended, however that ends.
        modules: what is imported first; what they declare with `process=True` can be run then.
    """
    for number in _OF_THE_SERVICE:
        # Not ignored: programs that a handler starts would ignore it, too.
        signal.signal(number, _stay)
    if life is not None:
        end_with(life.fileno())
    end_children_with_this_process()
    _die_before_the_worker()
    for module in modules:
        import_module(module)
    ChildServer(connection).run()


def _stay(_number: int, _frame: FrameType | None) -> None:
    """Go on: the worker drains, and says when it is over."""


def _die_before_the_worker() -> None:
    with suppress(OSError, ValueError):
        score = int(_OOM_SCORE_FILE.read_text())
        _OOM_SCORE_FILE.write_text(str(min(1000, score + _OOM_SCORE)))


class ChildServer:
    """Takes jobs from a connection, runs their handlers in the main thread, and sends what they come to.

    A second thread reads meanwhile what the worker says of the job that runs.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._jobs: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._parents: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._current: JobAttempt | None = None
        self._is_running = False
        self._interrupts: Interrupts | None = None

    def run(self) -> None:
        """Run jobs until the worker closes the connection."""
        threading.Thread(target=self._read, name="reads", daemon=True).start()
        self._send({"ready": True})
        used: list[ChildHandler] = []
        while (message := self._jobs.get()) is not None:
            handler = handler_of(message["handler"])
            if handler not in used:
                used.append(handler)
                handler.open()
            self._is_running = True
            ended = handler.run(message["run"], self)
            self._is_running = False
            self._send({"ended": ended})
        for handler in reversed(used):
            handler.close()

    def begin(self, current: JobAttempt, interrupts: Interrupts) -> None:
        """Note which job runs from now on, and who interrupts it."""
        self._interrupts, self._current = interrupts, current

    def progress(self, current: CurrentJob, fraction: float, text: str | None) -> None:  # noqa: ARG002  (the protocol of reports)
        """Tell the worker how far the job has come."""
        self._send({"progress": [fraction, None if text is None else storable(text_of(text))]})

    def log(self, current: CurrentJob, text: str) -> None:  # noqa: ARG002  (the protocol of reports)
        """Tell the worker a line of the log of the job."""
        self._send({"log": storable(text_of(text))})

    def stream(self, current: CurrentJob, text: str) -> None:  # noqa: ARG002  (the protocol of reports)
        """Tell the worker a piece of what the job streams."""
        self._send({"stream": storable(text_of(text))})

    def results_of_parents(self, _job_id: int) -> dict[int, Any]:
        """Ask the worker what the jobs returned that this one waited for.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer the worker.
        """
        self._send({"parents": True})
        answer = self._parents.get()
        if answer is None or answer["parents"] is None:
            raise DatabaseUnavailableError(None if answer is None else answer["error"])
        return {int(job_id): result for job_id, result in answer["parents"].items()}

    def _read(self) -> None:
        while True:
            try:
                message = orjson.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                if self._is_running:  # for a worker that is gone
                    os.kill(os.getpid(), signal.SIGKILL)
                self._jobs.put(None)
                self._parents.put(None)
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        current = self._current
        if "run" in message:
            self._jobs.put(message)
        elif "parents" in message:
            self._parents.put(message)
        elif current is not None and "cancelled" in message:
            current.cancel_requested = True
        elif current is not None and self._interrupts is not None and "interrupt" in message:
            self._interrupts.interrupt(current, AttemptOutcome(message["interrupt"]))

    def _send(self, message: dict[str, Any]) -> None:
        # A worker that is gone takes the child along.
        with self._sending, suppress(OSError):
            self._connection.send_bytes(orjson.dumps(message))


def storable(text: str) -> str:
    """Return a text without half a surrogate pair, which is no JSON."""
    return text.encode("utf-8", "replace").decode("utf-8")
