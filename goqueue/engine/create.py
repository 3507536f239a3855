"""The one door by which jobs come into being: rows, then the push, then the count.

A job exists when its row is committed. A push that fails is no error: the dispatcher pushes what was not
pushed. Whoever inserts within a transaction of its own counts what it made when that has committed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Connection

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.callers_transaction import CallersTransaction, at_commit, joined
from goqueue.db.database import Database
from goqueue.db.schemas import in_schema
from goqueue.engine import creation_rows as creation_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.combined_creates import CombinedCreates
from goqueue.engine.creation_rows import Created, CreatedNode
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.new_job_rows import STATEMENT_MAX
from goqueue.engine.runway.pusher import Pusher
from goqueue.engine.runway.runway import Message, Runway
from goqueue.jobs import Job, JobStatus, NewJob
from goqueue.observability import metrics
from goqueue.observability.job_context import job_context

__all__ = ["CreateDoor", "JobCreator", "count", "insert", "insert_one"]


class CreateDoor(Protocol):
    """A door before every create, which may refuse it."""

    def admit(self, jobs: Sequence[NewJob]) -> None:
        """Let jobs be created, or raise a GoQueueError."""


class JobCreator:
    """Creates jobs: one transaction for the rows, then the push and the count.

    Args:
        settings: the settings of this GoQueue.
        database: where the rows go.
        runway: where the messages go.
        door: may refuse a create; None: nothing does.
        names_queues: whether the metrics of this process name the queues; not, where it creates jobs of
            several namespaces, and whoever reads its metrics is told of none of another.

    Attributes:
        combined: joins plain creates of several threads that meet.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        *,
        door: CreateDoor | None = None,
        names_queues: bool = True,
    ) -> None:
        self._door = door
        self._names_queues = names_queues
        self._settings = settings
        self._database = database
        self._pusher = Pusher(runway)
        self.combined = CombinedCreates(self._insert_plain, self._announce_rows)
        self._known_queues: set[str] = set()

    def admit(self, jobs: Sequence[NewJob]) -> None:
        """Let jobs be created in a transaction of the caller's; `create` and its like ask by themselves.

        Raises:
            QuotaExceededError: the namespace has no room for them now.
            InvalidJobError: a payload is larger than the namespace may have.
        """
        if self._door is not None:
            self._door.admit(jobs)

    def one(self, job: NewJob) -> Job:
        """Create one job; it is committed when this returns. See `create`."""
        return self.create(job).job

    def create(self, job: NewJob) -> Created:
        """Create one job, or find the holder of its unique key; it is committed when this returns.

        Raises:
            DatabaseUnavailableError: nothing was created, or (its connection was lost at the commit) it is
                not known whether it was; an idempotency key makes asking again safe.
            QuotaExceededError, InvalidJobError: as `admit`.
        """
        self.admit([job])
        if job.queue not in self._known_queues:
            self._ensure_queues([job.queue])
        # A thread that runs a handler may be interrupted; the jobs of others must not be in its hands then.
        if creation_store.is_plain(job) and job_context.get() is None:
            return Created(self.combined.create(job))
        begin = self._database.autocommit if creation_store.is_simple(job) else self._database.transaction
        with begin() as connection:
            created = creation_store.create(connection, job)
        failpoints.hit("after_commit_before_push")
        row = created.job
        if not created.deduplicated and row.status is JobStatus.QUEUED and row.available_at <= row.created_at:
            self.start(row)
        self._count([(job, created.node)])
        return created

    def _insert_plain(self, jobs: Sequence[NewJob]) -> list[Job]:
        with self._database.autocommit() as connection:
            return creation_store.create_plain(connection, jobs)

    def _announce_rows(self, rows: Sequence[Job]) -> None:
        """Push and count rows of plain jobs that were just committed."""
        failpoints.hit("after_commit_before_push")
        queues = defaultdict[str, list[Message]](list)
        for row in rows:
            queues[row.queue].append(Message(row.id, row.fence))
        for queue, messages in queues.items():
            self.push(queue, messages)
            metrics.JOBS_CREATED.labels(queue if self._names_queues else metrics.OTHER).inc(len(messages))

    def many(self, jobs: Sequence[NewJob]) -> list[int]:
        """Create jobs in one transaction, all or none; their ids, in their order. See `create_many`."""
        return [created.id for created in self.create_many([NewNode(job) for job in jobs])]

    def create_many(self, nodes: Sequence[NewNode]) -> list[CreatedNode]:
        """Create the jobs of a graph in one transaction, all or none; what became of each, in their order.

        Raises:
            DatabaseUnavailableError, QuotaExceededError, InvalidJobError: as `create`.
        """
        jobs = [node.job for node in nodes]
        self.admit(jobs)
        self._ensure_queues({job.queue for job in jobs})
        is_one_statement = creation_store.are_simple(nodes) and len(nodes) <= STATEMENT_MAX
        begin = self._database.autocommit if is_one_statement else self._database.transaction
        with begin() as connection:
            created = creation_store.create_many(connection, nodes)
        failpoints.hit("after_commit_before_push")
        self.announce(jobs, created)
        return created

    def create_within(self, transaction: CallersTransaction, nodes: Sequence[NewNode]) -> list[CreatedNode]:
        """Only insert, in the caller's own transaction: the jobs exist, and are counted, when it commits.

        The dispatcher picks them up then.

        Raises:
            TypeError: `transaction` is nothing that a job can be inserted with.
            DatabaseUnavailableError: PostgreSQL does not answer.
            QuotaExceededError, InvalidJobError: as `create`.
        """
        self.admit([node.job for node in nodes])
        connection = joined(transaction, self._settings, self._database.contents)
        self._ensure_queues({node.job.queue for node in nodes})
        if not connection.in_transaction():
            # As SQLAlchemy does at a first statement. It does not see the store's, which run on the driver's
            # connection: without this the caller's commit would commit nothing.
            connection.begin()
        # The caller's transaction is in a schema of its own, and stays there.
        with in_schema(connection, self._settings.schema_name):
            created = creation_store.create_many(connection, nodes)
        failpoints.hit("after_insert")
        at_commit(transaction, lambda: self._count(zip((node.job for node in nodes), created, strict=True)))
        return created

    def announce(self, jobs: Sequence[NewJob], created: Sequence[CreatedNode]) -> None:
        """Push and count what was just committed."""
        now = datetime.now(UTC)
        ready = defaultdict[str, list[Message]](list)
        for job, row in zip(jobs, created, strict=True):
            if _is_ready(job, row, now):
                if job.needs_fitting_worker:
                    self._pusher.wake_dispatcher()
                else:
                    ready[job.queue].append(Message(row.id, 0))
        for queue, messages in ready.items():
            self.push(queue, messages)
        self._count(zip(jobs, created, strict=True))

    def start(self, job: Job) -> None:
        """Push a committed job that may start; what not every worker can run is left to the dispatcher."""
        if job.needs_fitting_worker:
            self._pusher.wake_dispatcher()
        else:
            self.push(job.queue, [Message(job.id, job.fence)])

    def push(self, queue: str, messages: list[Message]) -> None:
        """Push messages of committed rows; what cannot be pushed is left to the dispatcher."""
        if messages:
            self._pusher.put(queue, messages)

    def _count(self, created: Iterable[tuple[NewJob, CreatedNode]]) -> None:
        count(created, names_queues=self._names_queues)

    def flush(self) -> None:
        """Wait until Redis has answered every push so far."""
        self._pusher.flush()

    def _ensure_queues(self, names: Iterable[str]) -> None:
        """Queues are rows; this process inserts each at most once."""
        new = set(names) - self._known_queues
        if new:
            with self._database.autocommit() as connection:
                queue_store.ensure(connection, new)
            self._known_queues |= new


def insert_one(connection: Connection, job: NewJob) -> Created:
    """Insert one job as `insert` does many, and return its row, or that of the holder of its unique key."""
    queue_store.ensure(connection, [job.queue])
    return creation_store.create(connection, job)


def insert(connection: Connection, nodes: Sequence[NewNode]) -> list[CreatedNode]:
    """Insert jobs, and their queues where these are new, in an open transaction of GoQueue's own.

    After its commit they are announced (`JobCreator.announce`), or, where the push is left to the dispatcher,
    counted (`count`): ticks of schedules, and follow-ups of outcomes.
    """
    queue_store.ensure(connection, {node.job.queue for node in nodes})
    return creation_store.create_many(connection, nodes)


def count(created: Iterable[tuple[NewJob, CreatedNode]], *, names_queues: bool = True) -> None:
    """Count jobs in the metrics, by queue: as created, or as suppressed or collected by who has their key."""
    queues = Counter((job.queue if names_queues else metrics.OTHER, _counter_of(row)) for job, row in created)
    for (queue, counter), number in queues.items():
        counter.labels(queue).inc(number)


def _counter_of(row: CreatedNode) -> metrics.Counter:
    if row.collected:
        return metrics.PAYLOADS_COLLECTED
    return metrics.JOBS_DEDUPLICATED if row.deduplicated else metrics.JOBS_CREATED


def _is_ready(job: NewJob, row: CreatedNode, now: datetime) -> bool:
    return (
        not row.deduplicated
        and row.status is JobStatus.QUEUED
        and (job.unique is None or job.unique.collect is None)
        and not job.delay_seconds
        and (job.available_at is None or job.available_at <= now)
    )
