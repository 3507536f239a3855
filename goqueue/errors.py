"""Every error GoQueue raises, in one tree.

The class docstring is the default message. Data that a caller needs to react travels as attributes, never
only in the text. Driver errors (SQLAlchemy, redis) are translated into these at `db.py` and `broker/`.
"""

from __future__ import annotations


class GoQueueError(Exception):
    """Something went wrong in GoQueue."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


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


class QueueNotFoundError(GoQueueError):
    """There is no such queue."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name!r}")
        self.name = name


class IllegalTransitionError(GoQueueError):
    """The state machine does not allow this transition."""

    def __init__(self, job_id: int, current: str, wanted: str) -> None:
        super().__init__(f"job {job_id} is {current}: it cannot become {wanted}")
        self.job_id = job_id
        self.current = current
        self.wanted = wanted


class IdempotencyConflictError(GoQueueError):
    """The idempotency key was used before with another request."""


class UnavailableError(GoQueueError):
    """A server that GoQueue needs does not answer; nothing was changed by this request."""

    retry_after_seconds = 1


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer."""


class DatabaseRefusedError(GoQueueError):
    """PostgreSQL refused a statement: a constraint, or a value that it cannot keep."""


class RedisUnavailableError(UnavailableError):
    """Redis does not answer."""


class StartupError(GoQueueError):
    """A command cannot start; its text is the one line that the user reads."""


class JobControl(GoQueueError):  # noqa: N818  (these are raised as verdicts of a handler, not as errors)
    """A handler's own verdict about its job."""


class Snooze(JobControl):
    """Run this job again later; no attempt is spent.

    Args:
        seconds: how long to wait, from the moment the outcome is recorded.
    """

    def __init__(self, seconds: float) -> None:
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


class RetryAfter(JobControl):
    """This attempt failed; retry not before `seconds` from now, instead of after the usual backoff.

    Args:
        seconds: how long to wait, from the moment the outcome is recorded.
        reason: kept with the attempt as its error.
    """

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        super().__init__(reason or f"retry after {seconds} s")
        self.seconds = seconds
