"""Tasks on the event loop of the process, started and waited for by its other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from goqueue.middleware.event_loop import CLEAN_UP_SECONDS, EventLoopLostError, kept_event_loop

__all__ = ["HeldContext", "start_on_event_loop", "wait_for"]

R = TypeVar("R")

#: So often a thread that waits looks for interrupts, and whether the loop is still there.
LOOK_SECONDS = 0.1


def start_on_event_loop(coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
    """Start a task on the event loop of this process, from any of its threads.

    Raises:
        EventLoopLostError: there is none, or it was closed.
    """
    kept = kept_event_loop()
    if kept is None:
        coroutine.close()
        raise EventLoopLostError("this process has no event loop: only workers have one")
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, kept.loop)
    except RuntimeError as error:
        coroutine.close()
        raise EventLoopLostError(str(error)) from error


def wait_for(future: concurrent.futures.Future[R]) -> R:
    """Wait for what another thread or the event loop makes; interrupts arrive between two looks.

    Raises:
        EventLoopLostError: the loop that was to make it was closed or broken meanwhile.
    """
    kept = kept_event_loop()
    loop = None if kept is None else kept.loop
    while not concurrent.futures.wait([future], timeout=LOOK_SECONDS).done:
        if kept is not None and (kept.loop is not loop or kept.loop.is_closed()):
            raise EventLoopLostError("a handler closed or broke the event loop of its process")
    return future.result()


class HeldContext(AbstractContextManager[Any]):
    """An async context manager as a synchronous one: one task of the event loop enters and leaves it.

    One task for both, because task groups and cancel scopes may not be left by another than entered them.
    """

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._entered: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._leaving: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()
        self._task: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Any:
        self._task = start_on_event_loop(self._live())
        try:
            return wait_for(self._entered)
        except BaseException:
            # It may have been interrupted: what it opens must not stay open.
            self._task.cancel()
            concurrent.futures.wait([self._task], timeout=CLEAN_UP_SECONDS)
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._leaving.set_result(error)
        try:
            wait_for(self._task)
        except BaseException as raised:
            if raised is not error:
                raise
            # Without this it has the frames of the task as well, which say nothing of where it was raised.
            error.__traceback__ = trace

    async def _live(self) -> None:
        try:
            async with self._manager as value:
                self._entered.set_result(value)
                error = await asyncio.wrap_future(self._leaving)
                if error is not None:
                    raise error  # noqa: TRY301  (into the context manager)
        except BaseException as error:
            if self._entered.done():
                raise
            self._entered.set_exception(error)
