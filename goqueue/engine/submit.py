"""The one way in: how jobs become rows, and ids reach the runway.

`Submitter` inserts and pushes; `enqueue` creates a job from Python; and `actor.send()` of plain Dramatiq code
ends here too. A job exists when its row is committed. A push that fails is no error: the dispatcher pushes
what was not pushed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Unpack

import dramatiq
import orjson
from dramatiq.actor import Actor
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from goqueue import failpoints
from goqueue.config.bounds import MAX_DEPTH, is_nested_deeper, is_number
from goqueue.config.settings import Settings, get_settings
from goqueue.db.database import Database, joined
from goqueue.db.statements import TRACEPARENT
from goqueue.engine import creation_rows as creation_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.creation_rows import Created, CreatedNode
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.options.dramatiq_options import refuse_message
from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.options.job_settings import JobSettings, refuse_contradictions, refuse_wrong_policy
from goqueue.engine.options.job_type import UNSENDABLE, JobType, holds_nul, without_nul
from goqueue.engine.runway.pusher import Pusher
from goqueue.engine.runway.runway import Message, Runway
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, Job, JobStatus, NewJob, OnParentFailure, RetryPolicy
from goqueue.middleware.job_message import BACKOFF_OPTIONS
from goqueue.observability import metrics, tracing
from goqueue.observability.exception_reader import text_of
from goqueue.observability.tracing.context import current_traceparent
from goqueue.worker.broker import JobBroker

__all__ = [
    "Submitter",
    "current_broker",
    "current_submitter",
    "enqueue",
    "job_of_request",
    "new_job",
    "type_of",
]

#: Options of a Dramatiq message that are columns of the job, or its trace; the others are kept as they are.
_COLUMN_OPTIONS = frozenset({"max_retries", "time_limit", "eta", "delay", "job_id", TRACEPARENT})


class Submitter:
    """Creates jobs: one transaction for the rows, then the push.

    Args:
        database, runway: where the rows and the messages go.
    """

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        self._settings = settings
        self._database = database
        self._pusher = Pusher(runway)
        self._known_queues: set[str] = set()

    def one(self, job: NewJob) -> Job:
        """Create one job; it is committed when this returns. See `create`."""
        return self.create(job).job

    def create(self, job: NewJob) -> Created:
        """Create one job, or find the holder of its unique key; it is committed when this returns.

        Raises:
            DatabaseUnavailableError: nothing was created, or (its connection was lost at the commit) it is
                not known whether it was; an idempotency key makes asking again safe.
        """
        self._ensure_queues([job.queue])
        begin = self._database.autocommit if creation_store.is_simple(job) else self._database.transaction
        with begin() as connection:
            created = creation_store.create(connection, job, head_start_seconds=self._head_start)
        failpoints.hit("after_commit_before_push")
        row = created.job
        if created.deduplicated:
            metrics.JOBS_DEDUPLICATED.labels(job.queue).inc()
            return created
        if row.status is JobStatus.QUEUED and row.available_at <= row.created_at:
            self.push(row.queue, [Message(row.id, row.fence)])
        metrics.JOBS_CREATED.labels(row.queue).inc()
        return created

    def many(self, jobs: Sequence[NewJob]) -> list[int]:
        """Create jobs in one transaction, all or none; their ids, in their order. See `create_many`."""
        return [created.id for created in self.create_many([NewNode(job) for job in jobs])]

    def create_many(self, nodes: Sequence[NewNode]) -> list[CreatedNode]:
        """Create the jobs of a graph in one transaction, all or none; what became of each, in their order.

        Raises:
            DatabaseUnavailableError: as `create`.
        """
        jobs = [node.job for node in nodes]
        self._ensure_queues({job.queue for job in jobs})
        begin = self._database.autocommit if creation_store.are_simple(nodes) else self._database.transaction
        with begin() as connection:
            created = creation_store.create_many(connection, nodes, head_start_seconds=self._head_start)
        failpoints.hit("after_commit_before_push")
        self.announce(jobs, created)
        return created

    def within(self, connection: Connection, jobs: Sequence[NewJob]) -> list[int]:
        """Only insert, in the caller's transaction; the dispatcher picks the rows up after its commit."""
        return [row.id for row in self.create_many_within(connection, [NewNode(job) for job in jobs])]

    def create_many_within(self, connection: Connection, nodes: Sequence[NewNode]) -> list[CreatedNode]:
        """As `within`, for the jobs of a graph."""
        self._ensure_queues({node.job.queue for node in nodes})
        if not connection.in_transaction():
            # As SQLAlchemy does at a first statement. It does not see the store's, which run on the driver's
            # connection: without this the caller's commit would commit nothing.
            connection.begin()
        created = creation_store.create_many(connection, nodes, head_start_seconds=self._head_start)
        failpoints.hit("after_insert")
        return created

    def announce(self, jobs: Iterable[NewJob], created: Iterable[CreatedNode]) -> None:
        """Push and count what was just committed."""
        now = datetime.now(UTC)
        pairs = sorted(zip(jobs, created, strict=True), key=lambda pair: pair[0].queue)
        for queue, group in groupby(pairs, key=lambda pair: pair[0].queue):
            rows = list(group)
            new = [(job, row) for job, row in rows if not row.deduplicated]
            metrics.JOBS_CREATED.labels(queue).inc(len(new))
            metrics.JOBS_DEDUPLICATED.labels(queue).inc(len(rows) - len(new))
            ready = [
                Message(row.id, 0)
                for job, row in new
                if row.status is JobStatus.QUEUED
                and not job.delay_seconds
                and (job.available_at is None or job.available_at <= now)
            ]
            self.push(queue, ready)

    def push(self, queue: str, messages: list[Message]) -> None:
        """Push messages of committed rows; what cannot be pushed is left to the dispatcher."""
        if messages:
            self._pusher.put(queue, messages)

    def flush(self) -> None:
        """Wait until Redis has answered every push so far."""
        self._pusher.flush()

    @property
    def _head_start(self) -> float:
        return self._settings.priority_head_start_seconds

    def _ensure_queues(self, names: Iterable[str]) -> None:
        """Queues are rows; this process inserts each at most once."""
        new = set(names) - self._known_queues
        if new:
            with self._database.autocommit() as connection:
                queue_store.ensure(connection, new)
            self._known_queues |= new


def new_job(
    broker: JobBroker,
    type_name: str,
    payload: Any,
    *,
    options: dict[str, Any] | None = None,
    **settings: Unpack[JobSettings],
) -> NewJob:
    """A validated job of a declared type.

    Raises:
        InvalidJobError: the type is unknown, the payload does not fit it, or a setting is wrong.
    """
    job_type = _declared_type(broker, type_name)
    refuse_wrong(settings)
    return _job_of_settings(job_type, type_name, payload, settings, options)


def job_of_request(broker: JobBroker, type_name: str, payload: Any, settings: JobSettings) -> NewJob:
    """A job of a declared type, whose settings `JobOptions` has read. Raises as `new_job`."""
    job_type = _declared_type(broker, type_name)
    refuse_contradictions(settings)
    return _job_of_settings(job_type, type_name, payload, settings, None)


def _declared_type(broker: JobBroker, type_name: Any) -> JobType:
    job_type = broker.job_type(type_name) if isinstance(type_name, str) else None
    if job_type is None:
        raise InvalidJobError({"type": f"unknown job type {type_name!r}"})
    return job_type


def _job_of_settings(
    job_type: JobType, type_name: str, payload: Any, settings: JobSettings, options: dict[str, Any] | None
) -> NewJob:
    said: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    said.setdefault("queue", job_type.queue)
    said.setdefault("max_retries", job_type.retry.max_retries)
    text = job_type.validated(payload)
    unique = said.pop("unique", job_type.unique)
    if unique is not None:
        said["unique"] = unique.rule(type_name, orjson.loads(text))
    for name in said.keys() & {"depends_on", "tags"}:
        said[name] = tuple(said[name])
    if "on_parent_failure" in said:
        said["on_parent_failure"] = OnParentFailure(said["on_parent_failure"])
    return NewJob(
        type=type_name,
        payload=text,
        options=_options_text(options) if options else None,
        **said,
    )


def _options_text(options: dict[str, Any]) -> str:
    """Options as they are kept.

    Raises:
        InvalidJobError: they are not JSON, or JSON that not every reader reads back as it was.
    """
    try:
        text = orjson.dumps(options).decode()
    except TypeError as error:
        raise InvalidJobError({"options": f"they are not JSON: {error}"}) from None
    if holds_nul(text) or is_nested_deeper(text.encode(), MAX_DEPTH):
        raise InvalidJobError(
            {"options": f"expected no NUL character, and at most {MAX_DEPTH} levels of nesting"}
        )
    return text


def enqueue(
    declared: Actor[Any, Any],
    payload: Any,
    *,
    session: Session | scoped_session[Any] | Connection | None = None,
    retry: RetryPolicy | None = None,
    **settings: Unpack[JobSettings],
) -> int:
    """Create a job of a declared actor; its id.

    Args:
        declared: what `goqueue.actor` or `dramatiq.actor` made.
        payload: the payload: a model, a dataclass or a mapping.
        session: the caller's own SQLAlchemy session or connection: the job is inserted in its transaction,
            and exists when that commits.
        retry: the whole retry policy, instead of the type's.
        **settings: see `JobSettings`.

    Raises:
        InvalidJobError: the payload does not fit the type, or a setting is wrong.
        TypeError: `declared` is no actor, or `session` nothing that the job can be inserted with.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    job_type = type_of(declared)
    if retry is not None:
        refuse_wrong_policy(retry)
        if settings.get("max_retries") is None:
            settings["max_retries"] = retry.max_retries
    connection = None if session is None else joined(session)
    job = new_job(
        current_broker(),
        declared.actor_name,
        job_type.payload_of_call((payload,), {}),
        options=None if retry is None else _backoff_options(retry),
        **settings,
    )
    if connection is None:
        return current_submitter().one(job).id
    return current_submitter().within(connection, [job])[0]


def type_of(declared: Any) -> JobType:
    """The job type of an actor.

    Raises:
        TypeError: it is none, or one of another broker.
    """
    if not isinstance(declared, Actor):
        raise TypeError(f"expected an actor, as goqueue.actor makes it, got {type(declared).__qualname__}")
    job_type = current_broker().job_types.get(declared.actor_name)
    if job_type is None or declared.broker is not current_broker():
        raise TypeError(f"the actor {declared.actor_name!r} was declared on another broker")
    return job_type


def _backoff_options(retry: RetryPolicy) -> dict[str, Any]:
    """A policy's backoff as the options of a Dramatiq message, which `Retries` reads.

    Raises:
        InvalidJobError: a backoff is no number, or longer than ten years.
    """
    backoffs = {name: getattr(retry, name) for name in ("min_backoff_seconds", "max_backoff_seconds")}
    wrong = [name for name, seconds in backoffs.items() if not is_number(seconds, 0, MAX_DELAY_SECONDS)]
    if wrong:
        raise InvalidJobError(
            {f"retry.{name}": f"expected 0 to {MAX_DELAY_SECONDS:,} seconds" for name in wrong}
        )
    return {
        "min_backoff": max(1, round(retry.min_backoff_seconds * 1000)),
        "max_backoff": max(1, round(retry.max_backoff_seconds * 1000)),
        "jitter": retry.jitter,
    }


class _Process:
    """What this process made at its first use."""

    broker: JobBroker | None = None
    submitter: Submitter | None = None


_process = _Process()


def current_broker() -> JobBroker:
    """This process's broker, made from its settings at the first use, and Dramatiq's global one from then on.

    Raises:
        ConfigurationError: the settings are not usable.
    """
    if _process.broker is None:
        _process.broker = JobBroker(get_settings(), submit=_submit_message)
        dramatiq.set_broker(_process.broker)
    return _process.broker


def current_submitter() -> Submitter:
    """This process's submitter."""
    if _process.submitter is None:
        broker = current_broker()
        tracing.adopt()
        _process.submitter = Submitter(broker.settings, broker.database, broker.runway)
    return _process.submitter


def _submit_message(
    broker: JobBroker, message: dramatiq.Message[Any], delay_ms: int | None
) -> dramatiq.Message[Any]:
    """`actor.send(…)`: a message becomes a job; one that is sent from an after-hook, a follow-up."""
    if broker.concluding is not None:
        broker.concluding.follow_ups.append(_follow_up_of(broker, message, delay_ms))
        return message
    row = current_submitter().one(_job_of(broker, message, delay_ms))
    return message.copy(options={"job_id": row.id})


def _follow_up_of(broker: JobBroker, message: dramatiq.Message[Any], delay_ms: int | None) -> NewJob:
    """The job of a follow-up. One that does not fit its type, or whose type is not declared, is created too.

    It waits for a worker that can run it. Dramatiq swallows what a hook raises: the follow-up would vanish
    without a trace.
    """
    # It is inserted by a thread that works for many jobs.
    traceparent = current_traceparent()
    try:
        return replace(_job_of(broker, message, delay_ms), traceparent=traceparent)
    except Exception:  # noqa: BLE001  (what a user's values and models raise when they are written)
        text = _readable({"args": message.args, "kwargs": message.kwargs})
        return NewJob(message.queue_name, message.actor_name, without_nul(text), traceparent=traceparent)


def _moment_of(eta: float) -> datetime | None:
    """The moment that a message is put off to, in milliseconds since 1970; None where it has passed."""
    try:
        moment = datetime.fromtimestamp(eta / 1000, UTC)
        return moment if moment > datetime.now(UTC) else None
    except (ValueError, OverflowError, OSError):
        raise InvalidJobError({"options.eta": "expected milliseconds since 1970"}) from None


def _readable(called: dict[str, Any]) -> str:
    """The arguments of a call as JSON; or as a payload that no type takes, where they are none."""
    try:
        text = json.dumps(called, ensure_ascii=False, allow_nan=False)
    except Exception:  # noqa: BLE001  (what is no JSON, or has no end, or users' code)
        told = {name: text_of(value) for name, value in called["kwargs"].items() if isinstance(name, str)}
        shown = {"args": [text_of(value) for value in called["args"]], "kwargs": told}
        text = json.dumps({UNSENDABLE: shown}, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _job_of(broker: JobBroker, message: dramatiq.Message[Any], delay_ms: int | None) -> NewJob:
    options = message.options
    refuse_message(options)
    job_type = broker.job_type(message.actor_name)
    if job_type is None:
        raise InvalidJobError({"type": f"unknown job type {message.actor_name!r}"})
    delay, available_at = delay_ms or options.get("delay"), None
    if not delay and options.get("eta") is not None:
        available_at = _moment_of(options["eta"])
    return new_job(
        broker,
        message.actor_name,
        job_type.payload_of_call(message.args, message.kwargs),
        queue=message.queue_name,
        max_retries=options.get("max_retries"),
        delay_seconds=_seconds_of("delay", delay) or 0,
        available_at=available_at,
        time_limit_seconds=_seconds_of("time_limit", options.get("time_limit")),
        options=_options_of(options),
    )


def _seconds_of(name: str, milliseconds: Any) -> float | None:
    """An option of a Dramatiq message in milliseconds; its range is looked at with the job's settings.

    Raises:
        InvalidJobError: it is no number, or none that can be computed with.
    """
    if milliseconds is None:
        return None
    if isinstance(milliseconds, timedelta):
        milliseconds = milliseconds.total_seconds() * 1000
    if not is_number(milliseconds, 0, MAX_DELAY_SECONDS * 1000):
        raise InvalidJobError({name: f"expected 0 to {MAX_DELAY_SECONDS * 1000:,} milliseconds"})
    return float(milliseconds / 1000)


def _options_of(options: dict[str, Any]) -> dict[str, Any]:
    """What of the options of a Dramatiq message is kept with the job.

    Raises:
        InvalidJobError: a backoff is no number, or longer than ten years.
    """
    for name in BACKOFF_OPTIONS:
        _seconds_of(name, options.get(name))
    return {name: value for name, value in options.items() if name not in _COLUMN_OPTIONS}
