"""JobBroker: Dramatiq's RedisBroker with PostgreSQL behind it.

What it keeps of the RedisBroker: actors, queues, middleware, workers. What it replaces: enqueueing makes a
row, consuming claims rows, and a retry's delay is a column.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, cast

from dramatiq import Message
from dramatiq.actor import Actor
from dramatiq.asyncio import async_to_sync
from dramatiq.errors import QueueJoinTimeout

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine.options.dramatiq_options import called_by_name, refuse_actor
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Runway
from goqueue.engine.runway.servers import connect
from goqueue.engine.transitions.begin import begin_unrepeatable
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import QUARANTINE_QUEUE, RetryPolicy
from goqueue.middleware import job_middleware
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.follow_ups import has_callback
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.async_jobs.async_jobs import AsyncJobs
from goqueue.worker.async_jobs.function import AsyncJobFunction, is_async
from goqueue.worker.batches.collector import BatchCollector
from goqueue.worker.batches.function import AsyncBatchFunction, BatchFunction
from goqueue.worker.children.handlers import ProcessHandler
from goqueue.worker.children.pool import ChildPool
from goqueue.worker.claiming.claimed_ahead import ClaimedAhead
from goqueue.worker.claiming.claims import ClaimedJobs, WorkerSlots
from goqueue.worker.claiming.consumer import JobConsumer
from goqueue.worker.dependencies.dependencies import Dependencies
from goqueue.worker.execution import JobFunction
from goqueue.worker.health import Heartbeats
from goqueue.worker.hooked_broker import HookedBroker
from goqueue.worker.interrupts import Interrupts
from goqueue.worker.job_types import JobTypes, throws_of
from goqueue.worker.process import WorkerProcess
from goqueue.worker.push_types import PushCall, PushTypes
from goqueue.worker.received_commands import ReceivedCommands
from goqueue.worker.recording.recorder import Recorder
from goqueue.worker.recording.reporter import Reporter
from goqueue.worker.retry_delay import retry_delay


class JobBroker(HookedBroker):
    """A broker whose messages are rows. Nothing connects before the first use.

    Args:
        settings: this process's settings.
        submit: what makes a job of a Dramatiq message: `actor.send()` comes here. It returns the message as
            it was accepted.
    """

    def __init__(
        self, settings: Settings, *, submit: Callable[[JobBroker, Message[Any], int | None], Message[Any]]
    ) -> None:
        self.settings = settings
        self.database = Database(settings, application_name="goqueue")
        self.runway = Runway(settings)
        self.interrupts = Interrupts()
        self.claimed_jobs = ClaimedJobs()
        self.reporter = Reporter(settings, self.database)
        self.recorder = Recorder(
            settings, self.database, self.runway, self.claimed_jobs, flush_reports=self.reporter.flush
        )
        self.slots = WorkerSlots(
            settings.worker_threads,
            ahead_seconds=settings.prefetch_seconds,
            ahead_max=settings.prefetch_max,
            async_slots=settings.worker_async_slots,
        )
        #: What an operator wants of this worker process.
        self.received_commands = ReceivedCommands(settings)
        #: Set when the worker process shuts down: nothing is fetched any more.
        self.draining = threading.Event()
        #: What was claimed and has not begun.
        self.claimed_ahead = ClaimedAhead(self)
        #: What runs on the event loop.
        self.async_jobs = AsyncJobs(self)
        #: What is collected until it is a batch.
        self.batches = BatchCollector(self)
        #: When each consumer last turned.
        self.heartbeats = Heartbeats()
        #: What was declared here.
        self.types = JobTypes(settings)
        self.job_types, self.aliases = self.types.by_name, self.types.aliases
        self.database.contents.redacted = self.types.redacted
        #: What handlers are given besides their payloads.
        self.dependencies = Dependencies(settings)
        #: The processes in which handlers with `process=True` run.
        self.children = ChildPool(settings)
        #: Types that were declared from outside, and whose jobs this process sends to their URLs.
        self._pushed: dict[str, JobType] = {}
        #: Sends a job to the URL of its type, where this process can: set by `goqueue.actors`.
        self.push_call: PushCall | None = None
        self.push_types = PushTypes(self)
        self._submit = submit
        super().__init__(
            client=connect(settings),
            middleware=[*job_middleware(settings), WorkerProcess()],
            namespace=settings.key_prefix,
        )
        self.declare_queue(QUARANTINE_QUEUE)

    def declare_actor(self, actor: Actor[Any, Any]) -> None:
        """Declare an actor and with it a job type; its function is wrapped to run attempts.

        Raises:
            ValueError: an option is wrong or is not kept, or its annotations are no schema of a payload.
        """
        called_by_name(actor.options)
        refuse_actor(actor)
        function = actor.fn
        job_type = self.types.declare(actor, self._pushed.get(actor.actor_name))
        handler = self.dependencies.injected(job_type.name, function)
        in_child = None
        if actor.options.get("process"):
            handler = in_child = ProcessHandler(handler, job_type, self.children, self.dependencies)
        actor.fn = _function_class(job_type, is_async=is_async(handler))(
            handler,
            job_type,
            self.interrupts,
            result_max_bytes=self.settings.result_max_bytes,
            has_callback=lambda: self._has_own_middleware or has_callback(actor.options),
            throws=throws_of(actor),
            begin_unrepeatable=None if job_type.rerun_after_death else self.begin_unrepeatable,
            unreadable_wait_seconds=self.settings.unreadable_payload_wait_seconds,
        )
        if in_child is not None:
            in_child.declare(actor.fn)
        super().declare_actor(actor)

    def declare_pushed(self, job_type: JobType, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """Declare a type that was declared from outside, or declare it anew: this handler runs its jobs.

        Args:
            job_type: as its row says.
            handler: an async function of the payload, which runs on the event loop.
        """
        name, retry = job_type.name, job_type.retry
        self._pushed[name] = job_type
        options: dict[str, Any] = {
            "max_retries": retry.max_retries,
            "min_backoff": max(1, round(retry.min_backoff_seconds * 1000)),
            "max_backoff": max(1, round(retry.max_backoff_seconds * 1000)),
            "jitter": retry.jitter,
            "time_limit": round(job_type.time_limit_seconds * 1000),
        }
        if name not in self.actors:
            function = cast("Callable[..., Awaitable[Any]]", handler)
            queue = job_type.queue
            Actor(function, broker=self, actor_name=name, queue_name=queue, priority=0, options=options)
            return
        # In place of the one before, which a thread may be looking up.
        actor = copy(self.actors[name])
        actor.fn, actor.queue_name, actor.options = async_to_sync(handler), job_type.queue, options
        self.declare_actor(actor)

    def forget_pushed(self, name: str) -> None:
        """Run no more jobs of a type that was declared from outside."""
        if self._pushed.pop(name, None) is not None:
            # Its actor stays, for what was claimed a moment ago.
            self.types.forget(name)

    def get_actor(self, actor_name: str) -> Actor[Any, Any]:
        """The actor of a type, by its name or an alias.

        Raises:
            ActorNotFound: there is none.
        """
        actor = self.actors.get(actor_name)
        return actor or super().get_actor(self.aliases.get(actor_name, actor_name))

    def job_type(self, name: str) -> JobType | None:
        """A type by its name; by an alias, the type under that name. None: it is not declared."""
        return self.types.get(name)

    def type_of(self, declared: Any) -> JobType:
        """The job type of an actor that was declared on this broker.

        Raises:
            TypeError: it is no actor, or one of another broker.
        """
        if not isinstance(declared, Actor):
            kind = type(declared).__qualname__
            raise TypeError(f"expected an actor, as goqueue.actor makes it, got {kind}")
        job_type = self.job_types.get(declared.actor_name)
        if job_type is None or declared.broker is not self:
            raise TypeError(f"the actor {declared.actor_name!r} was declared on another broker")
        return job_type

    def type_names(self) -> set[str]:
        """The names of the types of Python code, aliases included."""
        return self.types.names() - self._pushed.keys()

    @property
    def known_types(self) -> KnownTypes:
        """Tell what this process can run: types, aliases included, labels, and its threads."""
        return self.types.known(self.slots.threads)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; it gets no delay queue: a delay is a column of its job."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> JobConsumer:  # noqa: ARG002  (room and time-outs are shared by all consumers of the process)
        """A consumer of one queue's runway."""
        return JobConsumer(self, queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Make a job of a message; or note a verdict, where `Retries` retries a claimed job.

        Raises:
            InvalidJobError: the message does not fit its type.
            DatabaseUnavailableError: no job was created.
        """
        if isinstance(message, JobMessage):
            message.retry_delay_ms = retry_delay(message, self.types.retry_policy(message.actor_name), delay)
            return message
        self.emit_before("enqueue", message, delay)
        message = self._submit(self, message, delay)
        self.emit_after("enqueue", message, delay)
        return message

    def decide_by_count(self, message: JobMessage, policy: RetryPolicy | None = None) -> None:
        """Retry a failed attempt, or fail its job, by the number of its attempts, where nobody decided.

        `Retries` gives no verdict when what it asks (a `retry_when`, an option of the message) raises. The
        policy is that of the type as this process declares it, where none is given.
        """
        claimed = message.current.claimed
        if message.failed or message.retry_delay_ms is not None or message.current.control is not None:
            return
        if claimed.attempts > claimed.max_retries:
            message.fail()
            return
        policy = policy or self.types.retry_policy(message.actor_name)
        message.retry_delay_ms = round(policy.backoff_seconds(claimed.attempts - 1) * 1000)

    def results_of_parents(self, job_id: int) -> dict[int, Any]:
        """Read what the completed parents of a job returned, by their ids.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self.database.autocommit() as connection:
            return dependency_lists.results_of_parents(connection, job_id)

    def begin_unrepeatable(self, current: JobAttempt) -> bool:
        """Note in the record that an attempt begins that must not be repeated when this process dies.

        False: it must not begin here; the job is not held any more, or PostgreSQL does not answer.
        """
        try:
            with self.database.autocommit() as connection:
                return begin_unrepeatable(connection, current.id, current.fence, self.claimed_jobs.worker_id)
        except DatabaseUnavailableError:
            return False

    def flush(self, queue_name: str) -> None:
        """Empty the queue's runway. Its jobs stay; the dispatcher pushes them again."""
        self.runway.close_gate(queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:  # noqa: ARG002  (the original's signature)
        """Refuse to wait for a durable queue: its jobs end in rows, not in Redis.

        Raises:
            QueueJoinTimeout: always.
        """
        raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's

    def close(self) -> None:
        """Close every connection of the broker."""
        self.runway.close()
        self.database.close()
        self.client.close()


def _function_class(job_type: JobType, *, is_async: bool) -> type[JobFunction]:
    """The class of the function of an actor."""
    if job_type.batch is not None:
        return AsyncBatchFunction if is_async else BatchFunction
    return AsyncJobFunction if is_async else JobFunction
