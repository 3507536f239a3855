"""JobBroker: Dramatiq's RedisBroker with PostgreSQL behind it.

What it keeps of the RedisBroker: actors, queues, middleware, workers. What it replaces: enqueueing makes a
row, consuming claims rows, and a retry's delay is a column.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import structlog
from dramatiq import Message
from dramatiq.actor import Actor
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import Middleware, MiddlewareError

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine.options.dramatiq_options import called_by_name, refuse_actor, refuse_middleware
from goqueue.engine.options.job_type import JobType, schema_of
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.options.uniqueness import Unique
from goqueue.engine.runway.runway import Runway
from goqueue.engine.runway.servers import connect
from goqueue.engine.transitions import attempts as attempt_store
from goqueue.errors import DatabaseUnavailableError, Discard, seconds_to_wait
from goqueue.jobs import QUARANTINE_QUEUE, RetryPolicy
from goqueue.middleware import job_middleware
from goqueue.middleware.follow_ups import has_callback
from goqueue.middleware.job_message import CurrentJob, JobMessage
from goqueue.observability.exception_reader import ExceptionReader, frames_of
from goqueue.worker.claimed_ahead import ClaimedAhead
from goqueue.worker.claims import ClaimedJobs, WorkerSlots
from goqueue.worker.consumer import JobConsumer
from goqueue.worker.execution import HarmfulFinalError, JobFunction
from goqueue.worker.health import Heartbeats
from goqueue.worker.interrupts import Interrupts
from goqueue.worker.process import WorkerProcess
from goqueue.worker.received_commands import ReceivedCommands
from goqueue.worker.recorder import Recorder
from goqueue.worker.reporter import Reporter

log = structlog.get_logger(__name__)

Throws = tuple[type[BaseException], ...]

#: Signals of the end of an attempt: whatever a hook raises, the end is recorded.
_ENDS = frozenset({"ack", "nack"})

#: Signals that threads of the worker give: whatever a hook raises, the thread goes on.
_IN_THREADS = _ENDS | {
    "process_message",
    "skip_message",
    "worker_thread_boot",
    "worker_thread_shutdown",
    "consumer_thread_boot",
    "consumer_thread_shutdown",
}


class JobBroker(RedisBroker):
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
            settings.worker_threads, ahead_seconds=settings.prefetch_seconds, ahead_max=settings.prefetch_max
        )
        #: What an operator wants of this worker process.
        self.received_commands = ReceivedCommands(settings)
        #: Set when the worker process shuts down: nothing is fetched any more.
        self.draining = threading.Event()
        #: What was claimed and has not begun.
        self.claimed_ahead = ClaimedAhead(self)
        #: When each consumer last turned.
        self.heartbeats = Heartbeats()
        self.job_types: dict[str, JobType] = {}
        #: Former names of types: alias → name.
        self.aliases: dict[str, str] = {}
        self._known_types: KnownTypes | None = None
        self._throws: dict[str, Throws] = {}
        self._submit = submit
        self._concluding = threading.local()
        self._hooks: dict[tuple[str, str], list[Callable[..., None]]] = {}
        #: A user has added some: its hooks are told the call and the result.
        self._has_own_middleware = False
        super().__init__(  # type: ignore[no-untyped-call]  # Dramatiq's
            client=connect(settings),
            middleware=[*job_middleware(settings), WorkerProcess()],
            namespace=settings.namespace,
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
        job_type = self._job_type_of(actor)
        self._learn_aliases(actor)
        self.job_types[actor.actor_name] = job_type
        self._known_types = None
        throws = _as_tuple(actor.options.get("throws"))
        self._throws[actor.actor_name] = (Discard, HarmfulFinalError, *throws)
        actor.fn = JobFunction(
            function,
            job_type,
            self.interrupts,
            result_max_bytes=self.settings.result_max_bytes,
            has_callback=lambda: self._has_own_middleware or has_callback(actor.options),
            throws=throws,
            begin_unrepeatable=None if job_type.rerun_after_death else self.begin_unrepeatable,
            unreadable_wait_seconds=self.settings.unreadable_payload_wait_seconds,
        )
        super().declare_actor(actor)

    def get_actor(self, actor_name: str) -> Actor[Any, Any]:
        """The actor of a type, by its name or an alias.

        Raises:
            ActorNotFound: there is none.
        """
        actor = self.actors.get(actor_name)
        return actor or super().get_actor(self.aliases.get(actor_name, actor_name))

    def job_type(self, name: str) -> JobType | None:
        """A type by its name; by an alias, the type under that name. None: it is not declared."""
        declared = self.job_types.get(self.aliases.get(name, name))
        return declared if declared is None or declared.name == name else replace(declared, name=name)

    def type_names(self) -> set[str]:
        """The names of all types, aliases included."""
        return {*self.job_types, *self.aliases}

    @property
    def known_types(self) -> KnownTypes:
        """What this process can run, aliases included."""
        if self._known_types is None:
            types = [self.job_type(name) for name in self.type_names()]
            self._known_types = KnownTypes({found.name: found.schema_hash() for found in types if found})
        return self._known_types

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
            message.retry_delay_ms = self._readable_delay(message, delay)
            return message
        self.emit_before("enqueue", message, delay)
        message = self._submit(self, message, delay)
        self.emit_after("enqueue", message, delay)
        return message

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """Add a middleware, at the end or beside another.

        Raises:
            ValueError: it would do what GoQueue does otherwise; or there is no such other.
        """
        refuse_middleware(middleware, self.middleware)
        super().add_middleware(middleware, before=before, after=after)
        self._hooks = {}
        self._has_own_middleware = any(map(_is_own, self.middleware))

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the before-hooks in order; hooks that nobody overrides are not called.

        Raises:
            Exception: what a hook raised before a job was to run. Dramatiq would log it and run the job all
                the same; here the attempt has failed, and `Retries` decides.
        """
        runs = self._has_own_middleware and signal == "process_message" and isinstance(args[0], JobMessage)
        if runs:
            args[0].show_call()
        for hook in self._hooks_of("before", signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError as error:
                if signal not in _ENDS:
                    raise
                self._tell_failed_hook("before", signal, hook, error)
            except BaseException as error:
                if signal not in _IN_THREADS and not isinstance(error, Exception):
                    raise
                self._tell_failed_hook("before", signal, hook, error)
                if signal == "process_message":
                    raise
        if runs:
            args[0].hide_call()

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the after-hooks in reverse; what they enqueue about a claimed job becomes its follow-up."""
        concludes = signal == "process_message" and isinstance(args[0], JobMessage)
        if concludes:
            self._concluding.message = args[0]
            if self._has_own_middleware:
                args[0].show_call()
        for hook in self._hooks_of("after", signal):
            try:
                hook(self, *args, **kwargs)
            except BaseException as error:
                if signal not in _IN_THREADS and not isinstance(error, Exception):
                    raise
                self._tell_failed_hook("after", signal, hook, error)
        if concludes:
            self._concluding.message = None

    def decide_by_count(self, message: JobMessage) -> None:
        """Retry a failed attempt, or fail its job, by the number of its attempts, where nobody decided.

        `Retries` gives no verdict when what it asks (a `retry_when`, an option of the message) raises.
        """
        claimed = message.current.claimed
        if message.failed or message.retry_delay_ms is not None or message.current.control is not None:
            return
        if claimed.attempts > claimed.max_retries:
            message.fail()
            return
        job_type = self.job_type(message.actor_name)
        policy = RetryPolicy() if job_type is None else job_type.retry
        message.retry_delay_ms = round(policy.backoff_seconds(claimed.attempts - 1) * 1000)

    @property
    def concluding(self) -> JobMessage | None:
        """The claimed job whose after-hooks the calling thread runs, if it does."""
        return cast("JobMessage | None", getattr(self._concluding, "message", None))

    def results_of_parents(self, job_id: int) -> dict[int, Any]:
        """What the completed parents of a job returned, by their ids.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        with self.database.autocommit() as connection:
            return dependency_lists.results_of_parents(connection, job_id)

    def begin_unrepeatable(self, current: CurrentJob) -> bool:
        """Note in the record that an attempt begins that must not be repeated when this process dies.

        False: it must not begin here; the job is not held any more, or PostgreSQL does not answer.
        """
        try:
            with self.database.autocommit() as connection:
                return attempt_store.begin_unrepeatable(
                    connection, current.id, current.fence, self.claimed_jobs.worker_id
                )
        except DatabaseUnavailableError:
            return False

    def throws_of(self, type_name: str) -> Throws:
        """Exceptions after which a job of this type is not retried."""
        return self._throws.get(self.aliases.get(type_name, type_name), (Discard,))

    def flush(self, queue_name: str) -> None:
        """Empty the queue's runway. Its jobs stay; the dispatcher pushes them again."""
        self.runway.close_gate(queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:  # noqa: ARG002  (the original's signature)
        """Not for a durable queue: jobs end in rows, not in Redis.

        Raises:
            QueueJoinTimeout: always.
        """
        raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's

    def close(self) -> None:
        """Close every connection."""
        self.runway.close()
        self.database.close()
        self.client.close()

    def _tell_failed_hook(
        self, moment: str, signal: str, hook: Callable[..., None], error: BaseException
    ) -> None:
        """Log what a hook raised; its middleware and the exception may be a user's."""
        reader = ExceptionReader(error)
        name = type(getattr(hook, "__self__", hook)).__name__
        frames = "" if reader.is_harmful else reader.traceback(frames_of(error))
        # A user's log handler may raise, too.
        with suppress(BaseException):
            self.logger.critical(
                "Unexpected failure in %s_%s of %s: %s\n%s", moment, signal, name, reader.line, frames
            )

    def _hooks_of(self, moment: str, signal: str) -> list[Callable[..., None]]:
        """The hooks of a signal that some middleware overrides, in the order in which they are called."""
        hooks = self._hooks.get((moment, signal))
        if hooks is None:
            name = f"{moment}_{signal}"
            hooks = [
                getattr(middleware, name)
                for middleware in self.middleware
                if getattr(type(middleware), name) is not getattr(Middleware, name)
            ]
            if moment == "after":
                hooks.reverse()
            self._hooks[moment, signal] = hooks
        return hooks

    def _job_type_of(self, actor: Actor[Any, Any]) -> JobType:
        function = getattr(actor.fn, "__wrapped__", actor.fn)
        schema, style = schema_of(cast("Callable[..., Any]", function))
        return JobType(
            name=actor.actor_name,
            queue=actor.queue_name,
            schema=schema,
            style=style,
            retry=self._retry_policy_of(actor.options),
            time_limit_seconds=actor.options.get("time_limit", self.settings.time_limit_seconds * 1000)
            / 1000,
            unique=_unique_of(actor),
            rerun_after_death=_rerun_after_death(actor),
            signature=inspect.signature(function) if style == "call" else None,
        )

    def _learn_aliases(self, actor: Actor[Any, Any]) -> None:
        name = actor.actor_name
        aliases = tuple(actor.options.get("aliases") or ())
        if name in self.aliases:
            raise ValueError(f"{name!r} is an alias of the type {self.aliases[name]!r}")
        for alias in aliases:
            taken = alias if alias in self.job_types else self.aliases.get(alias)
            if alias == name or taken not in {None, name}:
                raise ValueError(f"aliases of {name!r}: {alias!r} is not a free name")
        self.aliases |= dict.fromkeys(aliases, name)

    def _retry_policy_of(self, options: dict[str, Any]) -> RetryPolicy:
        defaults = RetryPolicy(
            max_retries=self.settings.max_retries,
            min_backoff_seconds=self.settings.min_backoff_seconds,
            max_backoff_seconds=self.settings.max_backoff_seconds,
        )
        return replace(
            defaults,
            **{name: options[name] for name in ("max_retries", "jitter") if name in options},
            **{
                f"{name}_seconds": options[name] / 1000
                for name in ("min_backoff", "max_backoff")
                if name in options
            },
        )

    def _readable_delay(self, message: JobMessage, delay_ms: Any) -> int:
        """The wait before a retry in milliseconds. It may be what an exception of the user's says: anything.

        What is no time to wait must not lose the retry: it gets the wait that the policy of its type has.
        """
        try:
            return self._retry_delay(message, round(1000 * seconds_to_wait((delay_ms or 0) / 1000)))
        except (TypeError, ValueError, OverflowError) as error:
            policy = self._policy_of(message)
            log.warning("retry_delay_refused", job_id=message.current.id, error=str(error))
            return round(policy.backoff_seconds(message.current.attempt - 1) * 1000)

    def _policy_of(self, message: JobMessage) -> RetryPolicy:
        return self.job_types[self.aliases.get(message.actor_name, message.actor_name)].retry

    def _retry_delay(self, message: JobMessage, delay_ms: int) -> int:
        """Dramatiq always spreads its backoff; a type or a job may want it exact."""
        policy = self._policy_of(message)
        options = message.options
        if options.get("jitter", policy.jitter) or message.retry_is_requested:
            return delay_ms
        exact = replace(
            policy,
            min_backoff_seconds=options.get("min_backoff", policy.min_backoff_seconds * 1000) / 1000,
            max_backoff_seconds=options.get("max_backoff", policy.max_backoff_seconds * 1000) / 1000,
            jitter=False,
        )
        return round(exact.backoff_seconds(message.current.attempt - 1) * 1000)


def _is_own(middleware: Middleware) -> bool:
    """Whether a middleware is a user's, and looks at messages that run."""
    kind = type(middleware)
    return not kind.__module__.startswith(("goqueue.", "dramatiq.")) and any(
        getattr(kind, hook) is not getattr(Middleware, hook)
        for hook in ("before_process_message", "after_process_message")
    )


def _rerun_after_death(actor: Actor[Any, Any]) -> bool:
    rerun = actor.options.get("rerun_after_death", True)
    if not isinstance(rerun, bool):
        raise ValueError(f"rerun_after_death: expected True or False, got {rerun!r}")  # noqa: TRY004  (as every option that is wrong)
    return rerun


def _unique_of(actor: Actor[Any, Any]) -> Unique | None:
    unique: Unique | None = actor.options.get("unique")
    wrong = [] if unique is None else [f"{name}: {expected}" for name, expected in unique.problems()]
    if wrong:
        raise ValueError("; ".join(wrong))
    return unique


def _as_tuple(throws: Any) -> Throws:
    if not throws:
        return ()
    return throws if isinstance(throws, tuple) else (throws,)
