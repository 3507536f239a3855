"""The life of a worker process beside Dramatiq's threads: how it starts, hands jobs over, and stops."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog
from dramatiq import Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware
from dramatiq.worker import ConsumerThread, WorkerThread

from goqueue.db import schema
from goqueue.errors import DependencyError, GoQueueError
from goqueue.forks import end_children_with_this_process
from goqueue.jobs import AttemptOutcome, ShutdownReason
from goqueue.middleware.event_loop import CLEAN_UP_SECONDS
from goqueue.middleware.job_message import JobMessage
from goqueue.observability.tracing.export import start_tracing, stop_tracing
from goqueue.worker.drain_guard import END_SECONDS, DrainGuard
from goqueue.worker.health import WorkerHealth
from goqueue.worker.job_runner import JobRunner
from goqueue.worker.lease import Lease
from goqueue.worker.recycling import WorkerRecycling
from goqueue.worker.thread_watch import ThreadWatch

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker
    from goqueue.worker.claiming.consumer import JobConsumer

log = structlog.get_logger(__name__)


#: What a process exits with that cannot work like this, and has said why.
EXIT_UNUSABLE = 2

#: What a process exits with that ended because it lost a thread: whoever started it starts another.
EXIT_BROKEN = 1


#: So many objects are made, over those that have died, before the garbage collector looks among them.
GARBAGE_OBJECTS = 20_000


class _ConsumerThread:
    """The two methods of Dramatiq's ConsumerThread that are replaced on an instance."""

    handle_message: Callable[[MessageProxy], None]
    handle_delayed_messages: Callable[[], None]


class _WorkerThread:
    """The method of Dramatiq's WorkerThread that is replaced on an instance."""

    process_message: Callable[[MessageProxy], None]


class WorkerProcess(Middleware):
    """Starts and stops what a worker process has besides Dramatiq's threads."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._health: WorkerHealth | None = None
        self._recycling: WorkerRecycling | None = None
        #: Only in a process of Dramatiq's command: what a program of somebody's own waits for is its affair.
        self._drain_guard: DrainGuard | None = None

    def after_process_boot(self, broker: JobBroker) -> None:  # type: ignore[override]
        """Prepare a process of Dramatiq's command: its ending, and its part in the group.

        Raises:
            SystemExit: the database has no schema for this release.
        """
        broker.received_commands.listen()
        end_children_with_this_process()
        refuse_foreign_schema(broker)
        self._drain_guard = DrainGuard(
            broker.settings.shutdown_grace_seconds,
            partial(release_unfinished, broker),
            partial(self._finish, broker),
        )
        if broker.settings.worker_metrics_port:
            self._health = WorkerHealth(broker)
            self._health.start()
        # What the imports made lives as long as the process. Each full collection would walk all of it, while
        # the consumer keeps claimed jobs in hand: 0.17 s within a drain of 20,000 jobs.
        gc.collect()
        gc.freeze()
        # A job dies by its last reference; at the default of 700 objects a collection came every 40 jobs.
        gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])

    def before_worker_boot(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # it is added by this broker alone
        """Open the lifespans, then take the lease, before the first fetch.

        Raises:
            SystemExit: a lifespan cannot be opened.
        """
        worker.work_queue = broker.claimed_ahead.queue  # type: ignore[assignment]  # Dramatiq names a PriorityQueue, and asks for no more than this
        served = worker.consumer_whitelist or broker.get_declared_queues()
        broker.slots.threads = worker.worker_threads
        warn_of_wide_types(broker, served)
        start_tracing(broker.settings, "worker")
        open_lifespans(broker)
        broker.push_types.start()
        self._lease = Lease(
            broker.settings,
            broker.database,
            broker.claimed_jobs,
            broker.interrupts,
            broker.slots,
            broker.received_commands,
            lambda: sorted(worker.consumer_whitelist or broker.get_declared_queues()),
            known_types=lambda: broker.known_types,
            slots_in=lambda queue: broker.types.slots_in(queue, broker.slots.threads),
        )
        broker.interrupts.start()
        broker.reporter.start()
        broker.recorder.start()
        broker.claimed_ahead.start()
        broker.async_jobs.start()
        self._lease.start()

    def after_worker_boot(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]
        """Look after the threads from now on."""
        assert self._lease is not None
        ThreadWatch(broker, worker, self._lease, partial(self._end_broken, broker)).start()
        if self._drain_guard is not None:
            self._recycling = WorkerRecycling(broker)
            self._recycling.start()

    def after_consumer_thread_boot(self, broker: JobBroker, thread: ConsumerThread) -> None:  # type: ignore[override]
        """Hand claimed jobs straight to the worker threads.

        Dramatiq's own hand-over looks for messages whose time has not come, once a message; here none has an
        eta, and it cost each job a tenth of what its worker spends on it.
        """
        consumer = cast("_ConsumerThread", thread)
        consumer.handle_message = lambda message: hand_over(broker, thread, message)
        consumer.handle_delayed_messages = nothing

    def after_worker_thread_boot(self, broker: JobBroker, thread: WorkerThread) -> None:  # type: ignore[override]
        """Keep the thread alive, whatever is raised around a handler: its place would be lost with it."""
        cast("_WorkerThread", thread).process_message = JobRunner(broker, thread).run

    def before_worker_shutdown(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # noqa: ARG002
        """Stop fetching; what runs may finish, and what has not begun goes back at once."""
        recycled_for = None if self._recycling is None else self._recycling.reason
        broker.received_commands.note_shutdown(recycled_for or ShutdownReason.SIGNAL)
        broker.draining.set()
        broker.batches.drain()
        broker.claimed_ahead.drain()
        if self._drain_guard is not None:
            self._drain_guard.start()

    def after_worker_shutdown(self, broker: JobBroker, worker: Worker) -> None:  # type: ignore[override]  # noqa: ARG002
        """Give back what did not finish in time, record everything, end the lease.

        Raises:
            SystemExit: the process ends because it lost a thread.
        """
        # The guard interrupts what does not end by itself.
        more_seconds = 0.0 if self._drain_guard is None else END_SECONDS
        broker.async_jobs.wait_until_none_runs(broker.settings.shutdown_grace_seconds + more_seconds)
        if self._drain_guard is None:
            self._finish(broker)
            return
        self._drain_guard.finish()
        if self._drain_guard.exit_code:
            raise SystemExit(self._drain_guard.exit_code)

    def _end_broken(self, broker: JobBroker) -> None:
        """Make the process end in order, and with an error; one that is not ours to end is only reported."""
        if self._drain_guard is not None:
            self._drain_guard.exit_code = EXIT_BROKEN
            broker.received_commands.note_shutdown(ShutdownReason.BROKEN)
        broker.received_commands.end_process()

    def _finish(self, broker: JobBroker) -> None:
        release_unfinished(broker)
        # What was interrupted just now may clean up, before the lifespans that it uses are closed.
        broker.async_jobs.wait_until_none_runs(CLEAN_UP_SECONDS)
        broker.push_types.stop()
        broker.batches.stop()
        broker.async_jobs.stop()
        broker.claimed_ahead.stop(broker.settings.database_connect_timeout_seconds + 2)
        broker.recorder.stop(broker.settings.database_connect_timeout_seconds + 2)
        broker.reporter.stop(broker.settings.database_connect_timeout_seconds + 2)
        broker.interrupts.stop()
        broker.children.stop()
        if self._lease is not None:
            self._lease.stop()
        broker.dependencies.close()
        if self._health is not None:
            self._health.stop()
        stop_tracing()


def warn_of_wide_types(broker: JobBroker, queues: Collection[str]) -> None:
    """Say whose jobs this process does not run, because they take more slots than it has."""
    threads, async_slots = broker.slots.threads, broker.slots.asynchronous.size
    for name, slots in sorted(broker.types.too_wide(threads).items()):
        if broker.job_types[name].queue in queues:
            log.warning("worker_too_small", type=name, slots=slots, threads=threads, async_slots=async_slots)


def refuse_foreign_schema(broker: JobBroker) -> None:
    """End this process where PostgreSQL answers and has no schema, or an older one; else wait for it as ever.

    Raises:
        SystemExit: after one line that says what to do.
    """
    try:
        with broker.database.autocommit() as connection:
            problem = schema.problem_of(connection)
    except GoQueueError:
        return
    if problem is not None:
        # One write: each is a message to Dramatiq's main process, which may write its own line in between.
        sys.stderr.write(f"goqueue: {problem}\n")
        sys.stderr.flush()
        raise SystemExit(EXIT_UNUSABLE)


def open_lifespans(broker: JobBroker) -> None:
    """Open the lifespans before the first fetch; end this process where one cannot be opened.

    Raises:
        SystemExit: after one line that says which, and why.
    """
    try:
        broker.dependencies.open()
    except DependencyError as error:
        sys.stderr.write(f"goqueue: {error}\n")
        sys.stderr.flush()
        raise SystemExit(EXIT_UNUSABLE) from None


def hand_over(broker: JobBroker, thread: ConsumerThread, message: MessageProxy) -> None:
    """Put a claimed job on the work queue, and with it all others that its consumer has claimed.

    One whose type this process does not know goes back, unspent. A claim asks for known types only: such a
    job is one whose type was taken from the broker meanwhile.
    """
    messages = [message, *cast("JobConsumer", thread.consumer).take_claimed()]
    unknown = [
        one for one in messages if not (one.actor_name in broker.actors or one.actor_name in broker.aliases)
    ]
    if unknown:
        thread.requeue_messages(unknown)
        messages = [one for one in messages if one not in unknown]
    claimed = cast("list[JobMessage]", messages)
    if broker.types.has_batches:
        claimed = broker.batches.put_some(thread, claimed)
    if broker.types.has_async:
        claimed = broker.async_jobs.put_some(thread, claimed)
    broker.claimed_ahead.queue.put_many(claimed)


def nothing() -> None:
    """Delay no message in a worker: a delay is a column of its job."""


def release_unfinished(broker: JobBroker) -> None:
    """Interrupt the handlers that outlived the grace period and give their jobs back, unspent.

    A handler that sits in a system call is not reached; its job goes back all the same, and the process ends
    right after. Its late result would be refused: the row is not held any more.
    """
    unfinished = broker.interrupts.running()
    for current in unfinished:
        broker.interrupts.interrupt(current, AttemptOutcome.INTERRUPTED)
    for current in broker.claimed_jobs.snapshot().values():
        if current in unfinished:
            message = JobMessage(current, throws=())
            message.release()
            broker.recorder.put(message)
