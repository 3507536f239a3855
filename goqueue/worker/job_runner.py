"""The run of a claimed job in a worker thread: straight, where nobody looks on, or as Dramatiq does it.

Dramatiq's own way asks each middleware four times a job, logs as often and looks for the consumer of its
message: for a short job more than everything else that is done for it. Where only GoQueue's middleware looks
at runs, a job without callbacks goes straight: what that middleware would do is called by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from goqueue.middleware.job_batch import JobBatch
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import enter
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.worker.batches.run import run_in_thread
from goqueue.worker.claiming.consumer import end_attempt
from goqueue.worker.execution import JobFunction
from goqueue.worker.run_ends import conclude_straight, fail, is_plain

if TYPE_CHECKING:
    from dramatiq.broker import MessageProxy
    from dramatiq.worker import WorkerThread

    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)


class JobRunner:
    """Runs what one worker thread takes from the work queue, and keeps the thread alive meanwhile."""

    def __init__(self, broker: JobBroker, thread: WorkerThread) -> None:
        self._broker = broker
        self._work_queue = broker.claimed_ahead.queue
        self._run_by_dramatiq = thread.process_message

    def run(self, message: MessageProxy | JobBatch) -> None:
        """Run a job, or a batch, to its outcome, and hand that to the recorder. Never raises."""
        try:
            if isinstance(message, JobBatch):
                self._run_batch(message)
                return
            function = self._function_of(message) if self._broker.runs_straight else None
            if function is not None and isinstance(message, JobMessage):
                self._run_straight(message, function)
            else:
                self._run_by_dramatiq(message)
        except BaseException as error:  # noqa: BLE001  (what users' code raises has no bounds)
            log.critical("job_left_by_error", error=ExceptionReader(error).line)

    def _run_batch(self, batch: JobBatch) -> None:
        try:
            run_in_thread(self._broker, batch)
        finally:
            self._work_queue.task_done()

    def _function_of(self, message: MessageProxy) -> JobFunction | None:
        """The function of a job that may go straight: nothing follows from what it returns."""
        actor = self._broker.actors.get(message.actor_name)
        function = None if actor is None else actor.fn
        if not isinstance(message, JobMessage) or not isinstance(function, JobFunction):
            return None
        return function if is_plain(message, function) else None

    def _run_straight(self, message: JobMessage, function: JobFunction) -> None:
        try:
            enter(message)
            try:
                function.run(message.current)
            except BaseException as error:  # noqa: BLE001  (what users' code raises has no bounds)
                fail(self._broker, message, function, error)
            else:
                conclude_straight(message)
        finally:
            end_attempt(self._broker, message)
            self._work_queue.task_done()
            # The traceback holds the frames of the handler, and they what it worked on.
            message.clear_exception()
