"""One attempt of an async job: a task of the event loop, from the hooks before its handler to its outcome.

What Dramatiq's worker thread does with a message, in the same order, around an `await`. Everything but the
handler is synchronous, so an interrupt, which cancels the task, can land in the handler and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import structlog
from dramatiq.middleware import Interrupt
from dramatiq.worker import ConsumerThread

from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.event_loop import EventLoopLostError
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import enter
from goqueue.observability import metrics
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.worker.async_jobs.function import AsyncJobFunction
from goqueue.worker.claiming.consumer import end_attempt
from goqueue.worker.run_ends import conclude_straight, fail, is_plain

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

#: A handler that has not ended so long after it was cancelled again is given up: its slot is free.
SECOND_GRACE_SECONDS = 1.0


class AsyncAttempt:
    """An attempt on the event loop. Its methods but `interrupt` run in the thread of the loop.

    Attributes:
        current, message: the job.
        is_over: its outcome is noted; what its handler still does changes nothing.
    """

    __slots__ = (
        "_begun",
        "_broker",
        "_consumer",
        "_context",
        "_function",
        "_interrupted_by",
        "_is_straight",
        "_loop",
        "_on_end",
        "_task",
        "current",
        "is_over",
        "message",
    )

    def __init__(
        self,
        broker: JobBroker,
        consumer: ConsumerThread,
        message: JobMessage,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[AsyncAttempt], object],
    ) -> None:
        self.current: JobAttempt = message.current
        self.is_over = False
        self._broker = broker
        self._consumer = consumer
        self.message = message
        self._loop = loop
        self._on_end = on_end
        self._function = cast("AsyncJobFunction", broker.get_actor(message.actor_name).fn)
        self._is_straight = broker.runs_straight and is_plain(message, self._function)
        self._context = contextvars.Context()
        self._begun = False
        self._interrupted_by: type[Interrupt] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Make the task of the attempt."""
        self._task = asyncio.Task(self._run(), loop=self._loop, context=self._context)
        # Whoever cancels all tasks may cancel one that has not taken its first step.
        self._task.add_done_callback(self._left_by_its_task, context=self._context)

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that it runs as, once it does."""
        return self._task

    def interrupt(self, exception: type[Interrupt]) -> None:
        """Cancel the handler, from any thread; what it raises then is taken for this exception."""
        self._interrupted_by = exception
        # A loop that was closed tells its end by itself.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel)

    def end_lost(self, error: BaseException) -> None:
        """Conclude without the task, which never takes another step: its loop is gone."""
        if self._task is not None:
            # Nobody need be told that it is destroyed while it waits.
            self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  (asyncio's own loops do so)
        self._context.run(self._conclude, None, error)

    async def _run(self) -> None:
        value, error = None, None
        try:
            value = await self._call()
        except BaseException as raised:  # noqa: BLE001  (what users' code raises has no bounds)
            error = raised
        self._conclude(value, error)

    async def _call(self) -> Any:
        """The hooks before the handler, and the handler."""
        if self._is_straight:
            enter(self.message)
        else:
            self._broker.emit_before("process_message", self.message)
        if self.message.failed:
            return None
        note = self._function.begin_unrepeatable
        if note is not None and not await self._loop.run_in_executor(None, note, self.current):
            self.current.control = (AttemptOutcome.INTERRUPTED, 0.0)
            return None
        self._begun = True
        return await self._function.begin(self.current, self.interrupt)

    def _cancel(self) -> None:
        """Cancel the handler; one that goes on is cancelled again, and then given up."""
        if self.is_over or self._task is None:
            return
        self._task.cancel()
        grace = self._broker.settings.worker_async_grace_seconds
        self._loop.call_later(grace, self._cancel_again, context=self._context)

    def _cancel_again(self) -> None:
        if not self.is_over and self._task is not None:
            self._task.cancel()
            self._loop.call_later(SECOND_GRACE_SECONDS, self._give_up, context=self._context)

    def _give_up(self) -> None:
        """Conclude for a handler that goes on although it was cancelled twice."""
        if self.is_over or self._interrupted_by is None:
            return
        metrics.ASYNC_HANDLERS_GIVEN_UP.labels(self.current.type).inc()
        log.error("async_handler_given_up", reason=self._interrupted_by.__name__)
        self._conclude(None, self._interrupted_by("the handler goes on although it was cancelled"))

    def _left_by_its_task(self, task: asyncio.Task[None]) -> None:
        """Conclude for a task that was cancelled before its first step."""
        if not self.is_over:
            self._conclude(None, asyncio.CancelledError() if task.cancelled() else task.exception())

    def _conclude(self, value: Any, error: BaseException | None) -> None:
        """Note the outcome: the first counts. As Dramatiq's worker thread does, and never raises."""
        if self.is_over:
            return
        self.is_over = True
        if error is not None and self._loop.is_closed() and not isinstance(error, EventLoopLostError):
            # Whatever is awaited on a loop that was closed raises.
            error = EventLoopLostError(str(error))
        try:
            self._tell_hooks(value, error)
        except BaseException as left:  # noqa: BLE001  (what users' code raises has no bounds)
            log.critical("job_left_by_error", error=ExceptionReader(left).line)
        finally:
            self._on_end(self)

    def _tell_hooks(self, value: Any, error: BaseException | None) -> None:
        message, broker = self.message, self._broker
        try:
            result = self._end(value, error)
            if not self._is_straight:
                broker.emit_after("process_message", message, result=result)
            else:
                conclude_straight(message)
        except BaseException as raised:  # noqa: BLE001  (the attempt failed, with whatever it is)
            fail(broker, message, self._function, raised)
        finally:
            if self._is_straight:
                end_attempt(broker, message)
            else:
                self._consumer.post_process_message(message)
            # An exception's traceback holds the frames of the handler.
            message.clear_exception()

    def _end(self, value: Any, error: BaseException | None) -> Any:
        """What the handler returned, where Dramatiq passes it on.

        Raises:
            BaseException: what the attempt failed with.
        """
        is_foreign = isinstance(error, asyncio.CancelledError) and self._is_cancelled_by_another()
        if self._begun or is_foreign:
            return self._function.end(self.current, value, error, self._interrupted_by, by_another=is_foreign)
        if error is not None:
            raise error
        return value

    def _is_cancelled_by_another(self) -> bool:
        task = self._task
        return (
            self._interrupted_by is None and task is not None and (task.cancelled() or task.cancelling() > 0)
        )
