"""One run of a batch of async jobs: a task of the event loop, with one slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import structlog

from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_batch import JobBatch
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.worker.async_jobs.attempt import AsyncAttempt
from goqueue.worker.batches.function import AsyncBatchFunction, Errors
from goqueue.worker.batches.run import BatchRun

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["AsyncBatchAttempt"]

log = structlog.get_logger(__name__)


class AsyncBatchAttempt(AsyncAttempt):
    """A batch on the event loop: an attempt at each of its jobs, by one call of their handler."""

    __slots__ = ("_batch", "_errors", "_jobs", "_run_of_batch")

    def __init__(
        self,
        broker: JobBroker,
        batch: JobBatch,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[AsyncAttempt], object],
    ) -> None:
        super().__init__(broker, batch.consumer, batch.messages[0], loop, on_end)
        self._batch = batch
        self._run_of_batch = BatchRun(broker, batch)
        self._jobs: list[JobAttempt] = []
        self._errors: Errors = {}

    async def _call(self) -> Any:
        """The hooks before the handler, and the handler."""
        self._jobs = self._run_of_batch.begin()
        function = cast("AsyncBatchFunction", self._function)
        if function.begin_unrepeatable is not None:
            left = await self._loop.run_in_executor(None, function.unbegun, self._jobs)
            self._jobs = [current for current in self._jobs if current not in left]
        self._begun = bool(self._jobs)
        if not self._begun:
            return None
        called = function.begin_together(self._jobs, self._errors, self.interrupt)
        return None if called is None else await called

    def _tell_hooks(self, value: Any, error: BaseException | None) -> None:
        try:
            self._run_of_batch.conclude(self._ends_of(value, error))
        except BaseException as left:  # noqa: BLE001  (what users' code raises has no bounds)
            log.critical("batch_left_by_error", error=ExceptionReader(left).line)
        finally:
            self._run_of_batch.end()

    def _ends_of(self, value: Any, error: BaseException | None) -> Errors:
        """What each job failed with that began, or was about to."""
        is_foreign = isinstance(error, asyncio.CancelledError) and self._is_cancelled_by_another()
        if not self._begun and error is not None:
            # It was cancelled before its first step, or while it was noted that it begins.
            self._jobs = self._jobs or self._run_of_batch.begin()
        if not self._jobs:
            return {}
        function = cast("AsyncBatchFunction", self._function)
        return function.end_together(
            self._jobs, value, error, self._errors, self._interrupted_by, by_another=is_foreign
        )
