"""Every error GoQueue raises, in one tree.

The class docstring is the default message. Data that a caller needs to react travels as attributes, never
only in the text. Driver errors (SQLAlchemy, redis) are translated into these in `db/` and `engine/runway/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsFloat


class GoQueueError(Exception):
    """GoQueue could not do what was asked; the base of all its errors."""

    def __init__(self, message: str | None = None) -> None:
        # Under `python -OO` there are no docstrings.
        summary = (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        super().__init__(message or summary)


class ConfigurationError(GoQueueError):
    """The configuration is not usable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class InvalidJobError(GoQueueError):
    """The job is not valid."""

    def __init__(self, fields: dict[str, str], message: str | None = None) -> None:
        super().__init__(message or "; ".join(f"{name}: {wrong}" for name, wrong in fields.items()))
        self.fields = fields


class JobNotFoundError(GoQueueError):
    """There is no such job."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


class FailureNotFoundError(GoQueueError):
    """No failed job has this fingerprint."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"no failed job has the fingerprint {fingerprint!r}")
        self.fingerprint = fingerprint


class BulkOperationNotFoundError(GoQueueError):
    """There is no such bulk operation."""

    def __init__(self, operation_id: int) -> None:
        super().__init__(f"there is no bulk operation {operation_id}")
        self.operation_id = operation_id


class BulkOperationEndedError(GoQueueError):
    """The bulk operation has ended: it cannot be aborted."""

    def __init__(self, operation_id: int, state: str) -> None:
        super().__init__(f"bulk operation {operation_id} is {state}: it cannot be aborted")
        self.operation_id = operation_id
        self.state = state


class QueueNotFoundError(GoQueueError):
    """There is no such queue."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name!r}")
        self.name = name


class TypeNotFoundError(GoQueueError):
    """There is no such job type."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no job type {name!r}")
        self.name = name


class TypeConflictError(GoQueueError):
    """The job type cannot be declared, or removed, as things are."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the job type {name!r} {why}")
        self.name = name


class KeyNotFoundError(GoQueueError):
    """The key of the queue has no settings of its own."""

    def __init__(self, queue: str, key: str) -> None:
        super().__init__(f"the key {key!r} of the queue {queue!r} has no settings of its own")
        self.queue = queue
        self.key = key


class ApiKeyNotFoundError(GoQueueError):
    """There is no such API key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no API key {key_id!r}")
        self.key_id = key_id


class ApiKeyConflictError(GoQueueError):
    """The API key is revoked or expired: it is not changed any more."""

    def __init__(self, key_id: str, state: str) -> None:
        super().__init__(f"the API key {key_id} is {state}: create another one")
        self.key_id = key_id
        self.state = state


class NamespaceNotFoundError(GoQueueError):
    """There is no such namespace."""

    def __init__(self, name: str) -> None:
        super().__init__("there is no namespace of this name")
        self.name = name


class NamespaceConflictError(GoQueueError):
    """The namespace exists already, or still has jobs that were not done."""


class QuotaExceededError(GoQueueError):
    """The namespace has a quota that leaves no room for this now.

    Attributes:
        quota: its name, as the settings of the namespace have it.
        limit: what it allows.
        remaining: how much of it is left.
        retry_after_seconds: when it may be asked again.
    """

    def __init__(
        self, message: str, *, quota: str, limit: float, remaining: float, retry_after: float
    ) -> None:
        super().__init__(message)
        self.quota = quota
        self.limit = limit
        self.remaining = remaining
        self.retry_after_seconds = retry_after


class ForbiddenError(GoQueueError):
    """The key that the request came with does not allow this."""


class SignInRefusedError(GoQueueError):
    """The sign-in at the provider was refused."""

    def __init__(self, message: str, reason: str, *, subject: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.subject = subject


class ProviderUnavailableError(GoQueueError):
    """The provider of OpenID Connect does not answer as it should."""


class NoBreakerError(GoQueueError):
    """The job type has no circuit breaker."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the job type {name!r} has no circuit breaker")
        self.name = name


class ScheduleNotFoundError(GoQueueError):
    """There is no such schedule."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}")
        self.name = name


class ScheduleConflictError(GoQueueError):
    """The schedule exists already, or is declared in code and changed only there."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class WebhookNotFoundError(GoQueueError):
    """There is no such webhook."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no webhook {name!r}")
        self.name = name


class WebhookDeliveryNotFoundError(GoQueueError):
    """There is no such delivery of a webhook."""

    def __init__(self, name: str, delivery_id: int) -> None:
        super().__init__(f"the webhook {name!r} has no delivery {delivery_id}")
        self.name = name
        self.delivery_id = delivery_id


class WebhookConflictError(GoQueueError):
    """The webhook exists already, or is not in a state in which this can be done."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class WorkerNotFoundError(GoQueueError):
    """There is no such worker."""

    def __init__(self, worker_id: int) -> None:
        super().__init__(f"there is no worker {worker_id}")
        self.worker_id = worker_id


class WorkerConflictError(GoQueueError):
    """The worker cannot be told this any more."""

    def __init__(self, worker_id: int, why: str) -> None:
        super().__init__(f"worker {worker_id} {why}")
        self.worker_id = worker_id


class LeaseNotFoundError(GoQueueError):
    """There is no such lease: the service signed no such token for the client whose key this is."""


class LeaseLostError(GoQueueError):
    """The job is not held under this lease any more."""

    def __init__(
        self, job_id: int, status: str, reason: str = "it is not held under this lease any more"
    ) -> None:
        super().__init__(f"job {job_id} is {status}: {reason}")
        self.job_id = job_id
        self.job_status = status


class ResultTooLargeError(GoQueueError):
    """The result is larger than results may be; the job is still held."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"the result has {size} bytes; at most {most} are kept")
        self.size = size
        self.most = most


class IllegalTransitionError(GoQueueError):
    """The state machine does not allow this transition."""

    def __init__(self, job_id: int, current: str, wanted: str) -> None:
        super().__init__(f"job {job_id} is {current}: it cannot become {wanted}")
        self.job_id = job_id
        self.current = current
        self.wanted = wanted


class UniqueKeyHeldError(GoQueueError):
    """Another job has the unique key."""

    def __init__(self, holder_id: int, message: str | None = None) -> None:
        super().__init__(message or f"its unique key is held by job {holder_id}")
        self.holder_id = holder_id


class IdempotencyConflictError(GoQueueError):
    """The idempotency key was used before with another request."""


class UndecryptableError(GoQueueError):
    """The contents of a job cannot be decrypted in this process."""


class UnavailableError(GoQueueError):
    """A server that GoQueue needs does not answer; nothing was changed by this request."""

    retry_after_seconds = 1


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer.

    Attributes:
        may_be_the_statement: others may be answered meanwhile: it waited for a lock, took too long, or failed
            in a way of its own.
    """

    def __init__(self, message: str | None = None, *, may_be_the_statement: bool = False) -> None:
        super().__init__(message)
        self.may_be_the_statement = may_be_the_statement


class SchemaBehindError(UnavailableError):
    """The database's schema is behind this release: run `goqueue migrate`."""


class DatabaseRefusedError(GoQueueError):
    """PostgreSQL refused a statement: a constraint, or a value that it cannot keep."""


class RedisUnavailableError(UnavailableError):
    """Redis does not answer.

    Attributes:
        needs_a_person: it refuses for a reason that does not pass by itself: a login, a permission, a
            database that it does not have.
    """

    def __init__(self, message: str | None = None, *, needs_a_person: bool = False) -> None:
        super().__init__(message)
        self.needs_a_person = needs_a_person


class StartupError(GoQueueError):
    """A command cannot start; its text is the one line that the user reads."""


class EventCursorError(GoQueueError):
    """Expected the id of an event, as a stream has told it; this is no place among the events."""


class EventsGoneError(GoQueueError):
    """Events behind this place are not kept any more, or were never written: begin anew, without a place."""


class PartitionsRefusedError(GoQueueError):
    """The jobs cannot be put into partitions now."""


class DependencyError(GoQueueError):
    """A dependency of a handler, or a lifespan, gives no value."""


class Translated(Exception):  # noqa: N818  (a mark, which others inherit beside their own kind)
    """An error that stands, towards Dramatiq, for the one that a handler raised, which is its cause."""


class JobControl(GoQueueError):  # noqa: N818  (these are raised as verdicts of a handler, not as errors)
    """A handler's own verdict about its job."""


#: No job waits longer for its next attempt than ten years, as `goqueue.jobs` has it for new ones. Epoch
#: milliseconds are beyond it.
MAX_WAIT_SECONDS = 10 * 366 * 86_400


def seconds_to_wait(seconds: object, most: float = MAX_WAIT_SECONDS) -> float:
    """Read how many seconds a handler asks to wait; a time that has passed is no wait.

    Args:
        seconds: an int, a float, or another number.
        most: the longest wait.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, unless `most` is not either, or longer than `most`.
    """
    # A float, by far the most frequent, spares the look for the protocol, which costs more than all else.
    if isinstance(seconds, bool) or not isinstance(seconds, (float, SupportsFloat)):
        raise TypeError(f"seconds: expected a number of seconds to wait, got {seconds!r}")
    try:
        value = float(seconds)
    except OverflowError:
        value = math.inf
    if not -math.inf < value <= most:
        raise ValueError(f"seconds: expected a time to wait of at most {most:,} s, got {value:g}")
    return max(0.0, value)


class Snooze(JobControl):
    """Run this job again later; no attempt is spent.

    Args:
        seconds: how long to wait, from the moment the outcome is recorded; at most ten years, and 0 where it
            is negative.

    Raises:
        TypeError: that is no number.
        ValueError: that is no time: it is not finite, or too long (milliseconds, a moment). In a handler it
            is a failed attempt.
    """

    def __init__(self, seconds: float) -> None:
        seconds_to_wait(seconds)
        super().__init__(f"snoozed for {seconds} s")
        self.seconds = seconds


class Discard(JobControl):
    """Fail this job now; it is never retried automatically.

    Args:
        reason: kept with the job as its error.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UndecryptablePayload(Discard):
    """The job's payload cannot be decrypted by its worker: it has failed, and is not retried."""


class DeadlineExceeded(Discard):
    """The job's deadline passed before its handler ended: it has failed, and is not retried."""

    def __init__(self) -> None:
        super().__init__("the deadline of the job passed")


class RetryAfter(JobControl):
    """Run this job again after so long, or slow its whole queue down.

    Args:
        seconds: how long to wait, from the moment the outcome is recorded; at most ten years, and 0 where it
            is negative. For a queue at most a day, however much is asked for.
        reason: kept with the attempt as its error.
        scope: "job": this attempt failed; it is retried then, instead of after the usual backoff.
            "queue": the other side asks for less (a 429): nothing of the queue starts before, then more and
            more; no attempt is spent.

    Raises:
        TypeError: `seconds` is no number.
        ValueError: the scope is neither, or, for a job, `seconds` is no time, as for `Snooze`.
    """

    def __init__(
        self, seconds: float, reason: str | None = None, *, scope: Literal["job", "queue"] = "job"
    ) -> None:
        if scope not in {"job", "queue"}:
            raise ValueError(f'scope: expected "job" or "queue", got {scope!r}')
        if scope == "job":
            seconds_to_wait(seconds)
        super().__init__(reason or f"retry after {seconds} s")
        self.seconds = seconds
        self.scope = scope


class BatchFailed(JobControl):
    """Fail some jobs of a batch, each with an error of its own; the others completed.

    Args:
        errors: what each job failed with, by its place in the list that the handler was given, from 0. A
            `Snooze`, a `RetryAfter` or a `Discard` means for its job what it means where it is raised.
        results: the results of all of the batch, of which those of failed jobs are not kept; none where it is
            not given.

    Raises:
        TypeError: that is no mapping of places to exceptions.
    """

    def __init__(self, errors: Mapping[int, BaseException], results: Sequence[Any] | None = None) -> None:
        if not isinstance(errors, Mapping):
            raise TypeError(f"BatchFailed: expected a mapping of places to exceptions, got {errors!r}"[:200])
        super().__init__(f"{len(errors)} jobs of the batch failed")
        self.errors = dict(errors)
        self.results = results
