"""The run of a batch, from the hooks before its handler to the outcome of each of its jobs.

What Dramatiq does of a message is done of each job, in their order: its hooks before the handler and after,
its lines in the log. Where only GoQueue's middleware looks at runs, what that would do is called by name.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, cast

import structlog

from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_batch import JobBatch
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import enter
from goqueue.observability import metrics, tracing
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.job_context import job_context
from goqueue.worker.batches.function import BatchFunction, Errors
from goqueue.worker.claiming.consumer import end_attempt
from goqueue.worker.run_ends import conclude_straight, fail

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["BatchRun", "run_in_thread"]

log = structlog.get_logger(__name__)


class BatchRun:
    """One run of a batch. Its methods are called in the context that the handler runs in.

    Attributes:
        function: of the type.
    """

    def __init__(self, broker: JobBroker, batch: JobBatch) -> None:
        self.function = cast("BatchFunction", broker.get_actor(batch.actor_name).fn)
        self._broker = broker
        self._batch = batch
        self._is_straight = broker.runs_straight and not self.function.has_callback()
        self._begun: list[JobMessage] = []
        self._told: BaseException | None = None
        self._trace = tracing.BatchTrace(None)

    def begin(self) -> list[JobAttempt]:
        """Tell the hooks that the jobs begin; those that no hook refused."""
        self._trace = tracing.begin_batch([message.current.claimed for message in self._batch.messages])
        metrics.BATCH_SIZE.labels(self._batch.actor_name).observe(len(self._batch.messages))
        for message in self._batch.messages:
            try:
                if self._goes_straight(message):
                    enter(message)
                else:
                    self._broker.emit_before("process_message", message)
            except BaseException as error:  # noqa: BLE001  (the job has failed, and no other)
                fail(self._broker, message, self.function, error)
                continue
            if message.failed:
                self._conclude(message, None)
            else:
                self._begun.append(message)
        self._trace.enter()
        return [message.current for message in self._begun]

    def conclude(self, errors: Errors) -> None:
        """Note the outcome of each job that began, and tell the hooks."""
        for message in self._begun:
            job_context.set(message.current.claimed)
            if message.current.trace is not None:
                message.current.trace.resume()
            try:
                self._conclude(message, errors.get(message.current))
            except BaseException as left:  # noqa: BLE001  (what users' code raises has no bounds)
                log.critical("job_left_by_error", error=ExceptionReader(left).line)

    def end(self) -> None:
        """Hand the outcomes over to the recorder, and give back the place of the batch. Never blocks."""
        for message in self._batch.messages:
            if self._goes_straight(message):
                end_attempt(self._broker, message)
            else:
                self._batch.consumer.post_process_message(message)
            # The traceback holds the frames of the handler, and they what it worked on.
            message.clear_exception()
        outcomes = [message.outcome for message in self._batch.messages]
        failed = AttemptOutcome.FAILED
        self._trace.end(failed=sum(one is not None and one.attempt_outcome is failed for one in outcomes))
        first = self._batch.current
        slots, jobs = self._broker.slots, len(self._batch.messages)
        if self._batch.has_async_slot:
            slots.give_back_async(suspect=first.suspect, run_seconds=first.run_seconds, jobs=jobs)
        else:
            slots.end_run(first.run_seconds, suspect=first.suspect, jobs=jobs)

    def _goes_straight(self, message: JobMessage) -> bool:
        return self._is_straight and message.current.claimed.options is None

    def _conclude(self, message: JobMessage, error: BaseException | None) -> None:
        if error is None and self._goes_straight(message):
            conclude_straight(message)
            return
        if error is None:
            try:
                result = None if message.failed else self.function.returned(message.current)
                self._broker.emit_after("process_message", message, result=result)
            except BaseException as raised:  # noqa: BLE001  (the attempt failed, with whatever it is)
                error = raised
        if error is not None:
            # What all of them failed with is in the log once.
            fail(self._broker, message, self.function, error, is_told=error is self._told)
            self._told = error


def run_in_thread(broker: JobBroker, batch: JobBatch) -> None:
    """Run a batch in the calling worker thread, to the outcome of each of its jobs. Never raises."""
    # Contexts of traces end in another order than they began: what is left over ends with this one.
    contextvars.copy_context().run(_run, broker, batch)


def _run(broker: JobBroker, batch: JobBatch) -> None:
    run = BatchRun(broker, batch)
    try:
        jobs = run.begin()
        left = run.function.unbegun(jobs)
        jobs = [current for current in jobs if current not in left] if left else jobs
        errors = run.function.run_together(jobs) if jobs else {}
        run.conclude(errors)
    finally:
        run.end()
