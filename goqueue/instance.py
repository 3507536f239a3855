"""`GoQueue`, the object in the middle: REST, dashboard and the functions of `goqueue` are skins over it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import dramatiq
from dramatiq.actor import Actor

from goqueue.access.key_ring import KeyRing
from goqueue.access.keys import Keys
from goqueue.access.namespaces import Namespaces
from goqueue.access.quota_door import QuotaDoor
from goqueue.bulk import operations as bulk_operations
from goqueue.bulk.actions import BulkAction
from goqueue.bulk.operations import BulkOperation, Preview
from goqueue.config.labels import LabelValue
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.config.settings import Settings, get_settings
from goqueue.db.callers_transaction import CallersTransaction
from goqueue.db.database import Database
from goqueue.engine import cancel, reports, retry
from goqueue.engine.chains import ChainStep, nodes_of_chain
from goqueue.engine.create import JobCreator
from goqueue.engine.edits import EditedVersion, Editor
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.new_job import listed_payloads, new_job, new_jobs, options_of_policy
from goqueue.engine.options.declare import ActorOptions, declare
from goqueue.engine.options.job_settings import JobSettings
from goqueue.engine.options.request_models import validate
from goqueue.engine.queue_directory import QueueDirectory
from goqueue.engine.queue_rows import Queue
from goqueue.engine.report_rows import LoggedLine, ProgressOfJob
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.cancel import Cancelled
from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.engine.workers.worker_rows import Worker, WorkerCommand
from goqueue.errors import ConfigurationError
from goqueue.events import listening
from goqueue.events.ended_jobs import EndedJobs
from goqueue.events.event import Event
from goqueue.events.event_filter import EventChoice, EventFilter, kinds_of
from goqueue.garbage import collections_paused
from goqueue.insight.autoscale import ASSUMED_RUN_SECONDS, WINDOW_SECONDS, Autoscale
from goqueue.insight.autoscaling import autoscale_queue
from goqueue.insight.explain import Explanation
from goqueue.insight.explain.explaining import explain_job
from goqueue.jobs import Job, RetryPolicy
from goqueue.limits.flow_control import FlowControl
from goqueue.limits.flow_settings import KeySettings, PauseSettings, QueueSettings, TypeSettings, validated
from goqueue.limits.settings import KeyLimits, QueueLimits
from goqueue.limits.type_setting_rows import LimitedType
from goqueue.observability import tracing
from goqueue.remote.declaration import TypeDeclaration
from goqueue.remote.remote_jobs import RemoteJobs
from goqueue.remote.type_declarations import MadeType, TypeDeclarations
from goqueue.schedules.declared import ScheduleOptions, declaration
from goqueue.schedules.rules import ScheduleDefinition
from goqueue.webhooks.webhooks import Webhooks
from goqueue.worker.broker import JobBroker
from goqueue.worker.sent_messages import follow_up_of_message, job_of_message

__all__ = ["GoQueue", "as_default", "default"]

#: Connections to the installation of a namespace, for its keys and quotas.
HOME_POOL_SIZE = 2

AnyActor = TypeVar("AnyActor", bound=Actor[Any, Any])
Handler = TypeVar("Handler", bound=Callable[..., Any])


# Its methods are the operations, which are more than fifteen; each calls the package of its subject.
class GoQueue:
    """A GoQueue: one database, one runway, the job types that are declared on it, and all operations on them.

    A process may have several, each with its own settings and types; nothing connects before the first use.
    The functions of `goqueue` are those of the process's own, which has the settings of its environment::

        with GoQueue(Settings(database_url=…, redis_url=…)) as reports:

            @reports.actor
            def build_report(customer: int) -> None: ...

            job_id = reports.create(build_report, {"customer": 7})
            print(reports.explain(job_id).summary)

    Args:
        settings: what it works with; those of the environment where none are given.
        namespace: the one that it works in: of the database (`goqueue namespaces create`), or of the
            installations of GOQUEUE_NAMESPACES_FILE; that of the settings where none is given.
        broker: with the declared job types, where another GoQueue of the process has them.
        database: connections of its own where none is given, and so are the two that follow.
        read_database: for reads that may be a moment old.
        runway: where ids of jobs wait for workers.
        default_types: queue → the type of its jobs that say none, where it is not its one declared type.
        home: the GoQueue of the installation, where this one is of a namespace inside of its database and the
            process has both: its connections are used to look keys and quotas up.

    Raises:
        ConfigurationError: the settings are not usable, or no namespace can have this name.

    Attributes:
        broker: the Dramatiq broker with the declared types.
        flow: changes how jobs are let in.
        queues: knows which queues exist.
        types: knows which job types there are, and declares some from outside of Python code.
        keys: makes, lists, revokes and rotates API keys of its namespace.
        key_ring: finds whose key a text is.
        namespace: what its keys call the namespace that it works in; `default`: the installation itself.
        home: the GoQueue of the installation, where it was given.
        quota_door: holds creates against the quotas of the namespace; None: it can have none.
        namespaces: makes, lists, changes and deletes the namespaces inside of the database.
        webhooks: makes and changes webhooks, and delivers again what they were told.
        schedules: those that were declared with `cron`, by name.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        namespace: str | None = None,
        broker: JobBroker | None = None,
        database: Database | None = None,
        read_database: Database | None = None,
        runway: Runway | None = None,
        default_types: Mapping[str, str] | None = None,
        home: GoQueue | None = None,
    ) -> None:
        settings = settings or get_settings()
        self.settings = settings if namespace is None else settings.of_namespace(namespace)
        self._owns_broker = broker is None
        self.broker = broker or JobBroker(self.settings, submit=self._accept)
        self.database = database or (self.broker.database if self._owns_broker else Database(self.settings))
        self.read_database = read_database or self.database
        for opened in (self.database, self.read_database):
            # What one declares is shown by all of its connections the same.
            opened.contents.redacted = self.broker.types.redacted
        self.runway = runway or (self.broker.runway if self._owns_broker else Runway(self.settings))
        self.default_types = default_types or {}
        self.types = TypeDeclarations(self.settings, self.database, self.broker)
        self.queues = QueueDirectory(self.database, self.broker.job_types, self.default_types)
        self.flow = FlowControl(
            self.database,
            self.runway,
            declared_queues=self.queues.declared,
            knows_type=self.types.knows,
            job_type=self.types.job_type,
        )
        self._open_home(home)
        self.webhooks = Webhooks(self.settings, self.database, self.flow)
        self.schedules: dict[str, ScheduleDefinition] = {}

    def _open_home(self, home: GoQueue | None) -> None:
        """Keys and namespaces are rows of the installation, whichever of its namespaces this one is."""
        settings, self.home = self.settings, home
        self.namespace = settings.database_namespace or DEFAULT_NAMESPACE
        self._own_home: Database | None = None
        self._door_database: Database | None = None
        self.namespaces: Namespaces
        self.key_ring: KeyRing
        if home is not None:
            self.namespaces, self.key_ring = home.namespaces, home.key_ring.within(self.namespace)
            database = home.database
        else:
            if settings.database_namespace is None:
                database = self.database
            else:
                database = self._own_home = Database(settings.within(None), pool_size=HOME_POOL_SIZE)
            self.namespaces = Namespaces(settings.within(None), database)
            self.key_ring = KeyRing(settings.api_keys, database, namespace=self.namespace)
        self.quota_door: QuotaDoor | None = None
        if settings.database_namespace is not None:
            # Connections of its own: who asks may hold one of the pool, in a transaction.
            self._door_database = Database(settings, pool_size=1)
            self.quota_door = QuotaDoor(self.namespaces, self.namespace, self._door_database)
        self.keys = Keys(database, namespace=self.namespace, schema=settings.schema_name)

    @cached_property
    def creator(self) -> JobCreator:
        """The one door by which jobs come into being."""
        # By the first use an application has set up its tracing.
        tracing.adopt()
        return JobCreator(
            self.settings, self.database, self.runway, door=self.quota_door, names_queues=self.home is None
        )

    @cached_property
    def ended_jobs(self) -> EndedJobs:
        """The thread that wakes those who wait for the end of a job."""
        return EndedJobs(self.database)

    @cached_property
    def editor(self) -> Editor:
        """The editor and replayer of jobs."""
        return Editor(self.database, self.types, self.creator)

    @cached_property
    def remote_jobs(self) -> RemoteJobs:
        """The service of workers outside of GoQueue: leases of jobs, and their ends."""
        return RemoteJobs(self.settings, self.database, self.runway, self.broker, self.types)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; what is used afterwards opens new ones."""
        self.runway.close()
        self.database.close()
        self.read_database.close()
        for further in (self._own_home, self._door_database):
            if further is not None:
                further.close()
        if self._owns_broker:
            self.broker.close()

    @overload
    def actor(self, function: Handler, /) -> Actor[..., Any]: ...

    @overload
    def actor(self, **options: Unpack[ActorOptions]) -> Callable[[Handler], Actor[..., Any]]: ...

    def actor(self, function: Any = None, **options: Any) -> Any:
        """Declare a job type: a Dramatiq actor whose jobs are rows with a validated payload.

        The payload's schema comes from the annotations: one parameter annotated with a pydantic model, a
        dataclass or a TypedDict is the payload; several annotated parameters are its fields.

        Args:
            function: the handler, sync or async.
            **options: see `ActorOptions`.

        Raises:
            TypeError: there is no such option.
            ValueError: an option is wrong, or the annotations are no schema of a payload; it says which.
        """
        return declare(self.broker, function, options)

    def lifespan(self, function: Handler) -> Handler:
        """Declare a context manager of each worker process: opened before its first fetch, closed at its end.

        Args:
            function: a generator function or an async one, which yields once. What it yields is given to
                handlers that ask for it: `Annotated[Pool, Depends(open_pool)]`, or by its class,
                `Annotated[Pool, Depends()]`. It may itself ask for what other lifespans yield.

        Raises:
            TypeError: it cannot be called.
            ValueError: it asks for what nobody gives it, or is declared twice.
        """
        return self.broker.dependencies.add_lifespan(function)

    def override_dependency(
        self, dependency: Callable[..., Any], replacement: Callable[..., Any]
    ) -> AbstractContextManager[None]:
        """Let another function stand for a dependency or a lifespan inside a `with` block, for tests.

        Args:
            dependency: what handlers ask for.
            replacement: what is called for them instead: a function, or a generator function.

        Raises:
            TypeError: the replacement cannot be called.
            ValueError: it asks for what nobody gives it.
        """
        return self.broker.dependencies.override(dependency, replacement)

    def cron(
        self,
        line: str,
        *,
        name: str | None = None,
        payload: Any = None,
        job: JobSettings | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[AnyActor], AnyActor]:
        """Declare that jobs of an actor are created by a cron line. The scheduler process sees to it.

        Args:
            line: five fields, or `@hourly` and its like.
            name: of the schedule; the actor's where it is not given.
            payload: of each job; empty where it is not given.
            job: what else is said of each job: `{"queue": …, "priority": …}`.
            **options: see `ScheduleOptions`.

        Raises:
            ConfigurationError: when it is applied: each thing that is wrong.
            TypeError: when it is applied to what is no actor.
        """

        def declare_schedule(actor: AnyActor) -> AnyActor:
            definition = declaration(
                self.broker, actor, line, name=name, payload=payload, job=job or {}, options=options
            )
            if self.schedules.setdefault(definition.name, definition) != definition:
                raise ConfigurationError([f"the schedule {definition.name!r} is declared twice"])
            return actor

        return declare_schedule

    def create(
        self,
        actor: Actor[Any, Any] | str,
        payload: Any,
        *,
        session: CallersTransaction | None = None,
        retry: RetryPolicy | None = None,
        **settings: Unpack[JobSettings],
    ) -> int:
        """Create a job of a declared actor, and return its id.

        Args:
            actor: what `actor` or `dramatiq.actor` made, or the name of a type.
            payload: the payload: a model, a dataclass or a mapping.
            session: the caller's own SQLAlchemy session or connection: the job is inserted in its
                transaction, and exists when that commits.
            retry: the whole retry policy, instead of the type's.
            **settings: see `JobSettings`.

        Raises:
            InvalidJobError: the payload does not fit the type, or a setting is wrong.
            TypeError: `actor` is neither an actor nor a name, or `session` nothing to insert with.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        job_type = self.types.type_of(actor)
        document = job_type.payload_of_call((payload,), {})
        options = None if retry is None else options_of_policy(retry)
        if retry is not None and settings.get("max_retries") is None:
            settings["max_retries"] = retry.max_retries
        job = new_job(self.types, job_type.name, document, options=options, **settings)
        if session is None:
            return self.creator.one(job).id
        return self.creator.create_within(session, [NewNode(job)])[0].id

    def create_many(
        self,
        actor: Actor[Any, Any] | str,
        payloads: Iterable[Any],
        *,
        session: CallersTransaction | None = None,
        retry: RetryPolicy | None = None,
        **settings: Unpack[JobSettings],
    ) -> list[int]:
        """Create a job of an actor for each payload, all or none; their ids, in the order of the payloads.

        Args:
            actor: as for `create`.
            payloads: one for each job; all are in memory while they are written.
            session: as for `create`.
            retry: as for `create`.
            **settings: those of every job; see `JobSettings`.

        Raises:
            InvalidJobError: a payload does not fit the type, or a setting is wrong; fields of a payload are
                named `payloads[3].to`.
            TypeError: as for `create`.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        job_type = self.types.type_of(actor)
        options = None if retry is None else options_of_policy(retry)
        if retry is not None and settings.get("max_retries") is None:
            settings["max_retries"] = retry.max_retries
        # Whatever makes the payloads may take its time, and is over before collections are paused.
        all_payloads = listed_payloads(payloads)
        with collections_paused:
            jobs = new_jobs(job_type, job_type.name, all_payloads, options=options, **settings)
            nodes = [NewNode(job) for job in jobs]
            if session is None:
                return [row.id for row in self.creator.create_many(nodes)]
            return [row.id for row in self.creator.create_within(session, nodes)]

    def create_chain(self, *steps: ChainStep, session: CallersTransaction | None = None) -> list[int]:
        """Create jobs of which each waits until the one before has completed; their ids, in their order.

        All are created or none. When one does not complete, what follows it fails, or what its
        `on_parent_failure` says. `goqueue.current_job().parent_results()` is what the one before returned.

        Args:
            steps: `(actor, payload)`, or `(actor, payload, {"priority": 5, …})` with any of the
                `JobSettings`; a `depends_on` is waited for as well.
            session: as for `create`.

        Raises:
            InvalidJobError: a payload does not fit its type, or a setting is wrong; a field is named
                `steps[1].payload`.
            TypeError: what should be an actor or a session is none.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        nodes = nodes_of_chain(self.types, steps)
        if session is None:
            return [row.id for row in self.creator.create_many(nodes)]
        return [row.id for row in self.creator.create_within(session, nodes)]

    def cancel(self, job_id: int) -> Job:
        """Cancel an unfinished job, and return it as it is now.

        A job that no worker runs is `cancelled` when this returns, and never starts. Of a running one its
        worker is asked to stop it: its `cancel_requested_at` is set. A cancelled job stays as it is.

        Raises:
            JobNotFoundError: there is no such job.
            IllegalTransitionError: it ended otherwise.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return cancel.cancel_job(self.database, job_id)

    def cancel_many(self, ids: Sequence[int]) -> Cancelled:
        """Cancel those of the jobs that have not ended, in one transaction.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return cancel.cancel_jobs(self.database, ids)

    def retry(
        self,
        job_id: int,
        *,
        payload: Any = None,
        priority: int | None = None,
        available_at: datetime | None = None,
        requires: Mapping[str, LabelValue] | None = None,
        slots: int | None = None,
        min_version: int | None = None,
        author: str | None = None,
    ) -> Job:
        """Queue a failed or cancelled job again, edited or as it is, with its attempts counted anew.

        Raises:
            InvalidJobError: the payload does not fit the type, or a value is wrong.
            JobNotFoundError: there is no such job.
            IllegalTransitionError: it has not failed, and is not cancelled.
            UniqueKeyHeldError: another job has its unique key.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self.editor.retry(
            job_id,
            payload=payload,
            priority=priority,
            available_at=available_at,
            requires=requires,
            slots=slots,
            min_version=min_version,
            author=author,
        )

    def retry_many(self, ids: Sequence[int]) -> int:
        """Queue those of the jobs again that failed or were cancelled, and return how many.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return retry.retry_jobs(self.database, self.creator, ids)

    def edit(
        self,
        job_id: int,
        *,
        payload: Any = None,
        priority: int | None = None,
        available_at: datetime | None = None,
        requires: Mapping[str, LabelValue] | None = None,
        slots: int | None = None,
        min_version: int | None = None,
        author: str | None = None,
    ) -> Job:
        """Edit a queued or blocked job, and return it as it is now; what is None stays as it is.

        Raises:
            InvalidJobError: nothing is to change, or the payload does not fit the type, or a value is wrong.
            JobNotFoundError: there is no such job.
            IllegalTransitionError: it waits no more; a worker's claim came first.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self.editor.edit(
            job_id,
            payload=payload,
            priority=priority,
            available_at=available_at,
            requires=requires,
            slots=slots,
            min_version=min_version,
            author=author,
        )

    def versions(self, job_id: int) -> list[EditedVersion]:
        """Return what a job was before each of its edits, the oldest first, and what it is now.

        Raises:
            JobNotFoundError: there is no such job.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self.editor.versions(job_id)

    def progress(self, job_id: int) -> ProgressOfJob:
        """Return how far the latest attempt of a job has come, by its own account.

        Raises:
            JobNotFoundError: there is no such job.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return reports.progress_of_job(self.database, job_id)

    def log(
        self, job_id: int, *, after: int = 0, fence: int | None = None, limit: int = 1000
    ) -> list[LoggedLine]:
        """Return what an attempt of a job logged, in order.

        Args:
            job_id: the job.
            after: only lines behind the one of this number.
            fence: of the attempt with this fence, instead of the latest.
            limit: the most lines.

        Raises:
            InvalidJobError: a number that no line, no fence or no limit can be.
            JobNotFoundError: there is no such job.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return reports.log_of_job(self.database, job_id, after=after, fence=fence, limit=limit)

    def wait(self, job_id: int, *, timeout_seconds: float | None = None) -> Job:
        """Return a job when it has ended, or as it is when the time is over.

        Whether it has ended is seen within some hundredths of a second; however many threads wait, PostgreSQL
        is asked once for all of them.

        Args:
            job_id: the job.
            timeout_seconds: the longest wait; None: until it ends, however long that takes.

        Raises:
            JobNotFoundError: there is no such job, or not any more.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self.ended_jobs.wait(job_id, timeout_seconds)

    def listen(
        self,
        *kinds: str,
        queue: str | None = None,
        type: str | None = None,  # noqa: A002  (what a job's is called everywhere)
        job_id: int | None = None,
        tag: str | None = None,
        after: str | None = None,
        seconds: float | None = None,
    ) -> Generator[Event]:
        """Return an iterator of what changes, which waits for the next event; it begins with this call.

        Each event comes once, and those of a job in their order. While somebody listens, changes are written
        down, which costs each a little; close the iterator, or let it go, when it is not needed any more.
        Whoever looks at it less often than every five minutes may find that events are gone.

        Args:
            *kinds: only events of these kinds: `job.completed`; `job.*` are all of jobs. None: all kinds.
            queue: only events of this queue, and of its jobs.
            type: only events of this type, and of its jobs.
            job_id: only events of this job.
            tag: only of jobs that have this tag.
            after: the `id` of an event: begin behind it, instead of now.
            seconds: the iterator ends after so long; None: it does not end.

        Raises:
            InvalidJobError: there are no events of such a kind, or with everything else that is wrong.
            EventCursorError: `after` is the id of no event.
            EventsGoneError: events behind it are not kept any more; also while it is iterated.
            DatabaseUnavailableError: PostgreSQL does not answer; also while it is iterated.
        """
        said = {
            "queue": queue,
            "type": type,
            "job_id": job_id,
            "tag": tag,
            "after": after,
            "seconds": seconds,
        }
        choice = validate(EventChoice, said)
        wanted = EventFilter(kinds_of(kinds), choice.queue, choice.type, choice.job_id, choice.tag)
        return listening.listen(self.database, wanted, after=choice.after, seconds=choice.seconds)

    def explain(self, job_id: int, *, with_errors: bool = True) -> Explanation:
        """Explain why a job does not run: what blocks it, with evidence, and when it is expected to start.

        For a running or a finished job the summary says that. It only reads, within some milliseconds. With
        `with_errors=False` it quotes no text of an error.

        Raises:
            JobNotFoundError: there is no such job.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return explain_job(
            self.database, self.settings, job_id, self.broker.types.batch_of, with_errors=with_errors
        )

    def autoscale(
        self,
        queue: str,
        *,
        window_seconds: float = WINDOW_SECONDS,
        assumed_run_seconds: float = ASSUMED_RUN_SECONDS,
        labels: Mapping[str, LabelValue] | None = None,
    ) -> Autoscale:
        """Compute how many worker threads a queue needs for its objective, with all that this follows from.

        Args:
            queue: its name.
            window_seconds: how far back, and ahead, arrivals are counted.
            assumed_run_seconds: the mean run of a job, where none has ended and none runs.
            labels: of a group of workers, of which alone is asked: what needs them, and how many there are.
                None: all workers, and all jobs; empty: workers without labels, for jobs that require none.

        Raises:
            QueueNotFoundError: there is no such queue.
            ValueError: a number of seconds is out of its range, or labels are none.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return autoscale_queue(
            self.database,
            self.settings,
            queue,
            declared_queues=self.queues.declared(),
            window_seconds=window_seconds,
            assumed_run_seconds=assumed_run_seconds,
            labels=labels,
        )

    def configure_queue(self, name: str, **settings: Any) -> QueueLimits:
        """Change limits of a queue, live, and return what they are then. See `QueueLimits` for the settings.

        Only what is given changes; None takes a setting back to its default.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: with every setting that is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
        """
        return self.flow.set_queue(name, validated(QueueSettings, settings))

    def configure_key(self, queue: str, key: str, **settings: Any) -> KeyLimits:
        """Change the `weight` or the `concurrency` of one key of a queue, live; return what they are then.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: with every setting that is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
        """
        return self.flow.set_key(queue, key, validated(KeySettings, settings))

    def configure_type(self, name: str, **settings: Any) -> LimitedType:
        """Change `concurrency`, `breaker` or `indexed` of a job type, live; return what its limits are then.

        `indexed` are paths of its payloads by which its jobs are looked for; the scheduler makes the indexes.

        Raises:
            TypeNotFoundError: there is no such type.
            InvalidJobError: with every setting that is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
        """
        return self.flow.set_type(name, validated(TypeSettings, settings))

    def declare_type(self, name: str, *, by: str = "python", **declaration: Any) -> MadeType:
        """Declare a job type whose jobs no Python process runs, in place of what was declared before.

        Args:
            name: of the type.
            by: who declares it.
            **declaration: the members of a `TypeDeclaration`: `schema`, `queue`, `max_retries`, …

        Raises:
            InvalidJobError: with everything that is wrong.
            TypeConflictError: Python code declares it, or there are too many.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not declared.
        """
        return self.types.declare(name, validate(TypeDeclaration, declaration), by=by)

    def rotate_type_secret(self, name: str, *, overlap_seconds: float = 86_400.0) -> MadeType:
        """Give a type that is sent to a URL another secret, and return it; it is not told again.

        Args:
            name: of the type.
            overlap_seconds: for how long calls are signed with the secret before as well.

        Raises:
            TypeNotFoundError: there is no such type.
            TypeConflictError: Python code declares it, or it has no URL.
            InvalidJobError: the overlap is negative, or longer than 90 days.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not changed.
        """
        return self.types.rotate_secret(name, overlap_seconds=overlap_seconds)

    def remove_type(self, name: str) -> None:
        """Remove a job type that was declared from outside of Python code.

        Raises:
            TypeNotFoundError: there is no such type.
            TypeConflictError: Python code declares it, jobs of it have not ended, or a schedule makes some.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not removed.
        """
        self.types.remove(name)

    def pause_queue(
        self,
        name: str,
        *,
        reason: str | None = None,
        author: str | None = None,
        until: datetime | None = None,
        seconds: float | None = None,
    ) -> Queue:
        """Start no more jobs of a queue until it is resumed or the given end is reached; running ones go on.

        Pausing a paused queue changes its end, and its reason and author where they are given.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: with every setting that is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
        """
        pause = {"reason": reason, "author": author, "until": until, "seconds": seconds}
        return self.flow.pause(name, validated(PauseSettings, pause))

    def resume_queue(self, name: str) -> Queue:
        """Let the jobs of a paused or slowed-down queue start again, along its ramp where it has one.

        Raises:
            QueueNotFoundError: there is no such queue.
            DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
        """
        return self.flow.resume(name)

    def start_bulk_operation(
        self,
        action: BulkAction | str,
        *,
        priority: int | None = None,
        rate: float | None = None,
        canary: int | None = None,
        author: str | None = None,
        **wanted: Any,
    ) -> BulkOperation:
        """Begin an operation over the jobs that a filter finds now; the scheduler does it, step by step.

        Args:
            action: retry, cancel, delete or set_priority.
            priority: the new one, of set_priority.
            rate: jobs per second; None: as fast as it goes.
            canary: of retry: so many jobs first, and the others only when all of these completed.
            author: who asks.
            **wanted: the filter, as of `JobFilter`: queue, type, status, created_after, created_before,
                fingerprint, ids, tag, payload, error; at least one besides the status.

        Raises:
            InvalidJobError: something about it is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not begun.
        """
        new = bulk_operations.new_operation(
            action, wanted, priority=priority, rate=rate, canary=canary, author=author
        )
        return bulk_operations.start(self.database, new)

    def preview_bulk_operation(
        self, action: BulkAction | str, *, priority: int | None = None, **wanted: Any
    ) -> Preview:
        """Return what `start_bulk_operation` would be done to now; nothing is changed.

        Raises:
            InvalidJobError: something about it is wrong.
        """
        new = bulk_operations.new_operation(action, wanted, priority=priority)
        return bulk_operations.preview(self.database, new)

    def retry_failures(
        self,
        fingerprint: str,
        *,
        rate: float | None = None,
        canary: int | None = None,
        author: str | None = None,
    ) -> BulkOperation:
        """Run the failed jobs of one group again: begin the bulk operation that does it.

        Raises:
            FailureNotFoundError: no failed job has this fingerprint.
            InvalidJobError: something else about it is wrong.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not begun.
        """
        bulk_operations.expect_failures(self.database, fingerprint)
        return self.start_bulk_operation(
            BulkAction.RETRY, rate=rate, canary=canary, author=author, fingerprint=fingerprint
        )

    def bulk_operation(self, operation_id: int) -> BulkOperation:
        """Return how far an operation has come.

        Raises:
            BulkOperationNotFoundError: there is none with this id.
        """
        return bulk_operations.get(self.database, operation_id)

    def abort_bulk_operation(self, operation_id: int) -> BulkOperation:
        """Stop an operation for good; what it has done stays done. An aborted one stays as it is.

        Raises:
            BulkOperationNotFoundError: there is none with this id.
            BulkOperationEndedError: it has ended otherwise.
        """
        return bulk_operations.abort(self.database, operation_id)

    def quiet_worker(self, worker_id: int) -> Worker:
        """Let a worker process fetch no more jobs: it finishes those it has, and stays until it is resumed.

        It learns that with its next heartbeat. Until then it may start jobs.

        Raises:
            WorkerNotFoundError: there is no such worker.
            WorkerConflictError: it is gone, or was told to stop before.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return tell_worker(self.database, self.settings, worker_id, WorkerCommand.QUIET)

    def resume_worker(self, worker_id: int) -> Worker:
        """Let a quiet worker process fetch jobs again. Raises as `quiet_worker`."""
        return tell_worker(self.database, self.settings, worker_id, None)

    def stop_worker(self, worker_id: int) -> Worker:
        """Let a worker process end as after SIGTERM: what it runs may finish within the grace period.

        `goqueue worker` starts no other in its place. Raises as `quiet_worker`.
        """
        return tell_worker(self.database, self.settings, worker_id, WorkerCommand.STOP)

    def _accept(
        self, broker: JobBroker, message: dramatiq.Message[Any], delay_ms: int | None
    ) -> dramatiq.Message[Any]:
        """Make a job of what `actor.send(…)` sends; from an after-hook, a follow-up of the job that ends."""
        if broker.concluding is not None:
            broker.concluding.follow_ups.append(follow_up_of_message(broker, message, delay_ms))
            return message
        row = self.creator.one(job_of_message(broker, message, delay_ms))
        return message.copy(options={"job_id": row.id})


class _Default:
    """What this process made at its first use."""

    goqueue: GoQueue | None = None


def default() -> GoQueue:
    """Return the process's own GoQueue, made from its environment at the first use.

    Its broker is Dramatiq's global one from then on.

    Raises:
        ConfigurationError: the settings are not usable.
    """
    if _Default.goqueue is None:
        _use(GoQueue())
    assert _Default.goqueue is not None
    return _Default.goqueue


@contextmanager
def as_default(goqueue: GoQueue | None) -> Iterator[None]:
    """Let the functions of `goqueue` work on another GoQueue inside the block; None: one that is made anew.

    For tests, and for processes that work on several GoQueues one after the other.
    """
    before = _Default.goqueue
    _use(goqueue)
    try:
        yield
    finally:
        _use(before)


def _use(goqueue: GoQueue | None) -> None:
    _Default.goqueue = goqueue
    # None is Dramatiq's own way back to none.
    dramatiq.set_broker(goqueue.broker if goqueue else None)  # type: ignore[arg-type]
