"""What a worker process has besides Dramatiq's threads: how it starts, hands jobs over, and stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from dramatiq import Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware
from dramatiq.worker import ConsumerThread

from goqueue.broker.lease import Lease
from goqueue.broker.vitals import Vitals
from goqueue.broker.work_queue import WorkQueue
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.job_message import JobMessage
from goqueue.tracing.export import start_tracing, stop_tracing

if TYPE_CHECKING:
    from goqueue.broker.job_broker import JobBroker


class _ConsumerThread:
    """The two methods of Dramatiq's ConsumerThread that are replaced on an instance."""

    handle_message: Callable[[MessageProxy], None]
    handle_delayed_messages: Callable[[], None]


class WorkerProcess(Middleware):
    """Starts and stops what a worker process has besides Dramatiq's threads."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._vitals: Vitals | None = None

    def after_process_boot(self, broker: JobBroker) -> None:  # type: ignore[override]
        """In a process of Dramatiq's command: count together with the others of its group, and say so."""
        broker.orders.listen()
        if broker.settings.worker_metrics_port:
            self._vitals = Vitals(broker)
            self._vitals.start()

    def before_worker_boot(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # it is added by this broker alone
        """Take the lease before the first fetch."""
        worker.work_queue = WorkQueue()  # type: ignore[assignment]  # Dramatiq names a PriorityQueue, and asks for no more than this
        served = worker.consumer_whitelist or broker.get_declared_queues()
        broker.slots.threads = worker.worker_threads
        start_tracing(broker.settings, "worker")
        self._lease = Lease(
            broker.settings,
            broker.database,
            broker.holdings,
            broker.interrupts,
            broker.slots,
            broker.orders,
            sorted(served),
            lambda: broker.known_types,
        )
        broker.interrupts.start()
        broker.reporter.start()
        broker.recorder.start()
        self._lease.start()

    def after_consumer_thread_boot(self, broker: JobBroker, thread: ConsumerThread) -> None:  # type: ignore[override]
        """Hand claimed jobs straight to the worker threads.

        Dramatiq's own hand-over looks for messages whose time has not come, once a message; here none has an
        eta, and it cost each job a tenth of what its worker spends on it.
        """
        consumer = cast("_ConsumerThread", thread)
        consumer.handle_message = lambda message: hand_over(broker, thread, message)
        consumer.handle_delayed_messages = nothing

    def before_worker_shutdown(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # noqa: ARG002
        """Stop fetching; what runs may finish."""
        broker.draining.set()

    def after_worker_shutdown(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # noqa: ARG002
        """Give back what did not finish in time, record everything, end the lease."""
        release_unfinished(broker)
        broker.recorder.stop(broker.settings.database_connect_timeout_seconds + 2)
        broker.reporter.stop(broker.settings.database_connect_timeout_seconds + 2)
        broker.interrupts.stop()
        if self._lease is not None:
            self._lease.stop()
        if self._vitals is not None:
            self._vitals.stop()
        stop_tracing()


def hand_over(broker: JobBroker, thread: ConsumerThread, message: MessageProxy) -> None:
    """Put a claimed job on the work queue; one whose type this process does not know goes back, unspent.

    A claim asks for known types only: such a job is one whose type was taken from the broker meanwhile.
    """
    if message.actor_name in broker.actors or message.actor_name in broker.aliases:
        thread.work_queue.put(message)  # type: ignore[arg-type]  # a JobMessage is its own work item
        return
    thread.requeue_messages([message])


def nothing() -> None:
    """No message is ever delayed in a worker: a delay is a column of its job."""


def release_unfinished(broker: JobBroker) -> None:
    """Interrupt the handlers that outlived the grace period and give their jobs back, unspent.

    A handler that sits in a system call is not reached; its job goes back all the same, and the process ends
    right after. Its late result would be refused: the row is not held any more.
    """
    unfinished = broker.interrupts.running()
    for current in unfinished:
        broker.interrupts.interrupt(current, AttemptOutcome.INTERRUPTED)
    for current in broker.holdings.snapshot().values():
        if current in unfinished:
            message = JobMessage(current, throws=())
            message.release()
            broker.recorder.put(message)
