"""One child process of a worker, as the worker thread sees it that has it run a handler."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog

from goqueue.errors import GoQueueError
from goqueue.forks import close_in_children, life_of_this_process
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.event_loop import CLEAN_UP_SECONDS
from goqueue.worker.children.documents import document_of_job, error_of
from goqueue.worker.children.main import serve
from goqueue.worker.interrupts import DeadlinePassed, Interrupted, TimeLimitExceeded

__all__ = ["ChildProcessDied", "HandlerChild"]

log = structlog.get_logger(__name__)

#: So often the waiting thread looks for a cancel; an interrupt reaches it as soon.
LOOK_SECONDS = 0.05

#: How long the end of a process may take that has closed its connection, or was killed.
END_SECONDS = 5.0

#: Not forked: a fork of a process with threads, connections and loggers inherits their locks as they are.
_context = multiprocessing.get_context("spawn")

_INTERRUPTS = (TimeLimitExceeded, DeadlinePassed, Interrupted)


class ChildProcessDied(GoQueueError):  # noqa: N818  (it is what the error of the attempt says)
    """The child process that ran the handler died."""


class HandlerChild:
    """A process that runs handlers, one after the other.

    Args:
        modules: what it imports first.

    Attributes:
        holder: the thread that has it run something; None while it is free.
        is_broken: it has died, or must not be used any more.
    """

    def __init__(self, modules: Sequence[str], holder: int | None) -> None:
        self.holder = holder
        self.is_broken = False
        self._is_ready = False
        #: It was given a job, and has not told what that came to.
        self._is_running = False
        #: An interrupt in here leaves half a message behind.
        self._is_talking = False
        self._connection, theirs = _context.Pipe()
        close_in_children(self._connection)
        life = life_of_this_process()
        self._process = _context.Process(
            target=serve, args=(theirs, life, tuple(modules)), name="goqueue-handlers"
        )
        self._process.start()
        theirs.close()
        if life is not None:
            life.close()

    @property
    def is_usable(self) -> bool:
        """Tell whether the child can run something now."""
        return not (self.is_broken or self._is_running or self._is_talking)

    @property
    def pid(self) -> int | None:
        """The process id of the child."""
        return self._process.pid

    def run(
        self, handler: str, current: JobAttempt, limit_seconds: float, begin: Callable[[], object]
    ) -> Any:
        """Run a handler in the child, and return what it returned.

        Args:
            handler: its name.
            current: the attempt.
            limit_seconds: how long it may run, from when the child is ready.
            begin: called when it is.

        Raises:
            ReadElsewhere: it raised, which was read in the child.
            ChildProcessDied: the child died.
            Interrupt: the attempt was stopped, and the child did not end within a moment: it was killed.
        """
        try:
            self._expect_ready()
            begin()
            self._is_running = True
            self._send({"run": document_of_job(current, limit_seconds), "handler": handler})
            return self._result_of(self._follow(current, None), current)
        except _INTERRUPTS as interrupt:
            return self._stopped(current, interrupt)

    def close(self) -> None:
        """Ask the child to end: it sees that nobody talks to it any more."""
        self._connection.close()

    def end(self, seconds: float) -> None:
        """Wait for the end of the child, and kill it after so long."""
        self.is_broken = True
        self._process.join(max(0.0, seconds))
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(END_SECONDS)

    def kill(self) -> None:
        """End the child at once."""
        self.is_broken = True
        self._process.kill()
        self._process.join(END_SECONDS)
        self._connection.close()

    def _expect_ready(self) -> None:
        while not self._is_ready:
            self._is_ready = bool((self._received(LOOK_SECONDS) or {}).get("ready"))

    def _follow(self, current: JobAttempt, until: float | None) -> dict[str, Any] | None:
        """Pass on what the handler says of its job, until it ends; None: it has not, until then."""
        told = False
        while until is None or time.monotonic() < until:
            if current.cancel_requested and not told:
                told = True
                self._send({"cancelled": True})
            message = self._received(LOOK_SECONDS)
            if message is not None and "ended" in message:
                self._is_running = False
                ended: dict[str, Any] = message["ended"]
                return ended
            if message is not None:
                self._report(current, message)
        return None

    def _report(self, current: JobAttempt, message: dict[str, Any]) -> None:
        if "progress" in message:
            current.progress(*message["progress"])
        elif "log" in message:
            current.log(message["log"])
        elif "stream" in message:
            current.stream(message["stream"])
        elif "parents" in message:
            try:
                self._send({"parents": current.parent_results()})
            except GoQueueError as error:
                self._send({"parents": None, "error": str(error)})

    def _result_of(self, ended: dict[str, Any] | None, current: JobAttempt) -> Any:
        assert ended is not None
        current.knows_of_cancel |= ended["knows_of_cancel"]
        if "raised" in ended:
            raise error_of(ended)
        return None if ended["result"] is None else orjson.loads(ended["result"])

    def _stopped(self, current: JobAttempt, interrupt: BaseException) -> Any:
        """What the interrupted handler comes to; where it does not end within a moment, the child is killed.

        The child watches the time limit and the deadline itself, so the exception names the line.
        """
        ended = None
        if self._is_ready and not self._is_talking:
            if isinstance(interrupt, Interrupted):
                self._send({"interrupt": current.interruption or AttemptOutcome.INTERRUPTED})
            ended = self._follow(current, time.monotonic() + CLEAN_UP_SECONDS)
        if ended is None:
            log.warning("handler_child_killed", pid=self.pid, job_id=current.id)
            self.kill()
            raise interrupt
        return self._result_of(ended, current)

    def _send(self, message: dict[str, Any]) -> None:
        # A child that has died is told by the next look at it.
        self._is_talking = True
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send_bytes(orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS))
        self._is_talking = False

    def _received(self, seconds: float) -> dict[str, Any] | None:
        try:
            if not self._connection.poll(seconds):
                return None
            self._is_talking = True
            message: dict[str, Any] = orjson.loads(self._connection.recv_bytes())
            self._is_talking = False
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        return message

    def _death(self) -> ChildProcessDied:
        self.is_broken = True
        self._process.join(END_SECONDS)
        how = _how_it_ended(self._process.exitcode)
        when = "that ran the handler" if self._is_ready else "that was to run the handler"
        log.warning("handler_child_died", pid=self.pid, how=how)
        return ChildProcessDied(f"the process {when} {how}")


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its connection"
    if exit_code >= 0:
        return f"ended with the exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
