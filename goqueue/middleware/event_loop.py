"""The event loop of async handlers: one a process, which no handler can end for the others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypeVar

import structlog
from dramatiq import Broker, Worker
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import AsyncIO, Interrupt

from goqueue.config.settings import EventLoopKind
from goqueue.errors import StartupError

__all__ = ["EventLoopLostError", "JobEventLoop", "KeptEventLoop", "kept_event_loop"]

R = TypeVar("R")

log = structlog.get_logger(__name__)

#: How long a busy machine may take to start a thread, and a loop that is told to end its round.
START_SECONDS = 30.0
STOP_SECONDS = 1.0

#: The pause before a loop is made again that could not be made, or asked for again that is closed.
RETRY_SECONDS = 0.1

#: A closed loop that is not replaced after so long never is: its thread waits in a selector that is closed.
LOST_SECONDS = 2.0

#: A handler that was interrupted may take so long for its clean-up.
CLEAN_UP_SECONDS = 1.0

#: How much is told of what a loop does that does not turn.
FRAMES = 5


class EventLoopLostError(Exception):
    """The event loop that ran the handler was closed or broken by some handler of its process."""


class KeptEventLoop(EventLoopThread):
    """A thread whose loop goes on whatever its tasks do, until `stop`.

    `SystemExit` and `KeyboardInterrupt` in a task, and `loop.stop()`, make a loop return: it is entered
    again, and all other tasks go on. One that a handler has closed or broken is replaced; its tasks are lost,
    and those who wait for them are told.
    """

    def __init__(self, logger: logging.Logger, kind: EventLoopKind = "auto") -> None:
        super().__init__(logger)
        self.loop.close()
        self._kind = kind
        self.name = "event-loop"
        # A handler that blocks the loop must not hold the process at its end.
        self.daemon = True
        self.loop = new_event_loop(kind)
        #: Called in the thread of the loop when another one has taken its place.
        self.on_replaced: Callable[[], object] = bool
        self._ending = threading.Event()
        self._asked_at: float | None = None

    def run(self) -> None:
        """Turn the loop until `stop`."""
        while not self._ending.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("event_loop_not_replaced")
                self._ending.wait(RETRY_SECONDS)
        self.loop.close()

    def stop(self) -> None:
        """End the loop; one that does not turn is left to itself."""
        self._ending.set()
        self._call_soon(self.loop.stop)
        self.join(STOP_SECONDS)

    def stuck_seconds(self) -> float:
        """Tell for how long the loop has not answered, and ask it again. Call it from one thread."""
        asked_at = self._asked_at
        if asked_at is not None:
            return time.monotonic() - asked_at
        self._asked_at = time.monotonic()
        self._call_soon(self._answer)
        return 0.0

    def is_lost(self) -> bool:
        """Tell whether another thread closed the loop just as it was entered: then it never turns again."""
        return self.loop.is_closed() and self.stuck_seconds() >= LOST_SECONDS

    def doing(self) -> str:
        """Tell where the code stands that runs in the loop now."""
        frame = sys._current_frames().get(self.ident or 0)  # noqa: SLF001  (there is no public way)
        stack = traceback.extract_stack(frame, FRAMES) if frame is not None else []
        return " < ".join(f"{entry.name} ({entry.filename}:{entry.lineno})" for entry in reversed(stack))

    def run_coroutine(self, coro: Awaitable[R]) -> R:
        """Run a coroutine on the loop, and wait for it.

        Raises:
            EventLoopLostError: the loop was replaced meanwhile.
        """
        loop, done = self._open_loop(), threading.Event()

        async def run_to_end() -> R:
            try:
                return await coro
            finally:
                done.set()

        future: concurrent.futures.Future[R] = self._scheduled(run_to_end(), loop)
        try:
            return self._result_of(future, loop)
        except Interrupt as interrupt:
            # Raised by another thread: the handler gets a moment for its clean-up.
            loop.call_soon_threadsafe(future.cancel)
            if not done.wait(CLEAN_UP_SECONDS):
                raise RuntimeError("Timed out while waiting for coroutine.") from interrupt
            raise
        finally:
            # An exception's traceback holds this frame, which would hold the exception.
            del future

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        """The loop; one that was closed is given the time to be replaced."""
        deadline = time.monotonic() + LOST_SECONDS
        while self.loop.is_closed() and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
        return self.loop

    @staticmethod
    def _scheduled(coroutine: Any, loop: asyncio.AbstractEventLoop) -> concurrent.futures.Future[Any]:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError as error:
            coroutine.close()
            raise EventLoopLostError(str(error)) from error

    def _result_of(self, future: concurrent.futures.Future[R], loop: asyncio.AbstractEventLoop) -> R:
        """What the future comes to. Interrupts from other threads arrive between two waits."""
        while True:
            try:
                return future.result(timeout=self.interrupt_check_ival)
            except TimeoutError:
                if future.done():  # it is the handler's own, or came just now
                    break
            if loop is not self.loop or loop.is_closed():
                raise EventLoopLostError("a handler closed or broke the event loop of its process")
        return future.result(timeout=0)

    def _turn(self) -> None:
        why = "stopped"
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            why = type(error).__name__
        except BaseException:
            log.exception("event_loop_broken")
            self._replace()
            return
        if not self._ending.is_set():
            log.warning("event_loop_entered_again", reason=why)
            if self.loop.is_closed():
                self._replace()

    def _replace(self) -> None:
        self.loop = new_event_loop(self._kind)
        self._asked_at = None
        self.on_replaced()

    def _answer(self) -> None:
        self._asked_at = None

    def _call_soon(self, callback: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError as error:
            log.debug("event_loop_is_closed", error=str(error))


def new_event_loop(kind: EventLoopKind) -> asyncio.AbstractEventLoop:
    """Make an event loop of this kind; "auto" is uvloop's where that is installed, which is quicker.

    Raises:
        StartupError: uvloop is asked for, and not installed.
    """
    if kind == "asyncio":
        return asyncio.new_event_loop()
    try:
        uvloop = import_module("uvloop")
    except ImportError as error:
        if kind == "uvloop":
            raise StartupError("GOQUEUE_WORKER_EVENT_LOOP: uvloop is not installed") from error
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class JobEventLoop(AsyncIO):
    """Dramatiq's middleware for async actors, with a KeptEventLoop.

    Args:
        kind: of which make the loop is.
    """

    def __init__(self, kind: EventLoopKind = "auto") -> None:
        super().__init__()
        self._kind = kind

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Start the loop of this process."""
        thread = KeptEventLoop(self.logger, self._kind)
        set_event_loop_thread(thread)
        thread.start(timeout=START_SECONDS)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """End the loop of the process."""
        thread = get_event_loop_thread()
        if thread is not None:
            thread.stop()  # type: ignore[no-untyped-call]  # Dramatiq's
        set_event_loop_thread(None)


def kept_event_loop() -> KeptEventLoop | None:
    """The event loop of this process; None where there is none, or somebody else's."""
    thread = get_event_loop_thread()
    return thread if isinstance(thread, KeptEventLoop) else None
