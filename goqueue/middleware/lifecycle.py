"""The translation of Dramatiq's verdict into an outcome. No I/O: Dramatiq swallows what a hook raises."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Protocol, cast

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Interrupt

from goqueue.engine import fingerprints
from goqueue.errors import DeadlineExceeded, Discard, Translated, UndecryptablePayload
from goqueue.jobs import AttemptOutcome, FailureKind, JobStatus
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import tracing
from goqueue.observability.exception_reader import ExceptionReader, frames_of
from goqueue.observability.job_context import job_context

#: Kept of an error's text and of its traceback.
ERROR_MAX_CHARACTERS = 4_000
TRACEBACK_MAX_CHARACTERS = 32_000

#: The reason of an attempt whose handler asked to slow its queue down.
THROTTLED = "throttled"

#: The reason of an attempt whose worker could not read the payload.
UNREADABLE = "unreadable_payload"

#: Modules that stand between the worker and a handler, a coroutine's too.
_FOREIGN_FRAMES = ("dramatiq.", "goqueue.worker.", "goqueue.middleware.", "concurrent.futures.")


#: The reasons of jobs that GoQueue itself discards.
_REASONS = {DeadlineExceeded: "deadline", UndecryptablePayload: "undecryptable"}


class Failure(NamedTuple):
    """The facts of an exception that are kept.

    Attributes:
        is_harmful: the exception's own code raised while it was read: nobody else should look at it.
    """

    error: str
    traceback: str | None = None
    kind: FailureKind | None = None
    is_harmful: bool = False


class DecidesByCount(Protocol):
    """Decides where nobody gave a verdict: the broker of the job."""

    def decide_by_count(self, message: JobMessage) -> None:
        """Retry a failed attempt, or fail its job, by the number of its attempts."""


class Lifecycle(Middleware):
    """Binds the log context and the trace of a job, and turns the end of its attempt into an outcome.

    It stands before `Retries` in the list, so that its after-hook runs after the verdict: `message.failed`
    is then True exactly on the last attempt, and `retry_delay_ms` is set exactly when a retry was decided.
    """

    @property
    def actor_options(self) -> set[str]:
        """The options of plain Dramatiq actors that GoQueue understands itself."""
        return {
            "time_limit",
            "jitter",
            "unique",
            "rerun_after_death",
            "aliases",
            "process",
            "requires",
            "min_version",
            "slots",
            "batch",
            "encrypt",
            "redact",
        }

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002  (Dramatiq's signature)
        """Bind what every log line of this job carries."""
        if isinstance(message, JobMessage):
            enter(message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002  (Dramatiq's signature)
        exception: BaseException | None = None,
    ) -> None:
        """Note the outcome that the recorder will write."""
        if isinstance(message, JobMessage):
            if exception is not None:
                cast("DecidesByCount", broker).decide_by_count(message)
            conclude(message, exception)
            leave(message)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002  (Dramatiq's signature)
        """Fail a job that a middleware refused to run, and say so in its error."""
        if isinstance(message, JobMessage):
            message.conclude(
                JobStatus.FAILED, AttemptOutcome.FAILED, error="skipped by a middleware", reason="skipped"
            )
            leave(message)


def enter(message: JobMessage) -> None:
    """Let the log lines and the spans of the calling thread be those of this job."""
    claimed = message.current.claimed
    job_context.set(claimed)
    if claimed.traceparent is not None or tracing.is_on():
        message.current.trace = tracing.begin_attempt(claimed)


def leave(message: JobMessage) -> None:
    """Let the calling thread work for another job next."""
    job_context.set(None)
    if message.current.trace is not None:
        message.current.trace.end(message.outcome)
        message.current.trace = None


def conclude(message: JobMessage, exception: BaseException | None) -> None:
    """Decide what an attempt has come to, from what was noted on its message and what it raised."""
    current = message.current
    if current.control is not None:
        attempt_outcome, delay_seconds = current.control
        # Nothing succeeded: what the hooks took for a result without a value leads to nothing.
        message.follow_ups.clear()
        if attempt_outcome is AttemptOutcome.CANCELLED:
            message.conclude(JobStatus.CANCELLED, attempt_outcome, reason="cancelled")
        elif current.unreadable is not None:
            error = storable(current.unreadable.error[:ERROR_MAX_CHARACTERS])
            message.conclude(JobStatus.QUEUED, attempt_outcome, error=error, reason=UNREADABLE)
        else:
            message.conclude(
                JobStatus.QUEUED,
                attempt_outcome,
                delay_seconds=delay_seconds,
                error=current.slow_down,
                reason=None if current.slow_down is None else THROTTLED,
            )
    elif exception is None and not message.failed:
        message.conclude(JobStatus.COMPLETED, AttemptOutcome.COMPLETED)
    else:
        conclude_failure(message, exception)


def conclude_failure(message: JobMessage, exception: BaseException | None) -> None:
    """Conclude a failed attempt: queued again when a retry was decided, else the dead letter."""
    error, trace, kind, _ = _failure_of(message, exception)
    if message.retry_delay_ms is not None and not message.failed:
        message.conclude(
            JobStatus.QUEUED,
            AttemptOutcome.FAILED,
            error=error,
            traceback=trace,
            reason="retry",
            delay_seconds=message.retry_delay_ms / 1000,
            failure_kind=kind,
        )
        return
    reason = "failed"
    if isinstance(exception, Discard):
        reason = _REASONS.get(type(exception), "discarded")
    message.conclude(
        JobStatus.FAILED,
        AttemptOutcome.FAILED,
        error=error,
        traceback=trace,
        reason=reason,
        failure_kind=kind,
    )


def _failure_of(message: JobMessage, exception: BaseException | None) -> Failure:
    """What the attempt itself read of its exception; else, what is read now."""
    noted, message.current.failure = message.current.failure, None
    if noted is not None and exception is not None and noted[0] in {id(exception), id(_cause_of(exception))}:
        return noted[1]
    return look_at(message.current.type, exception)


def look_at(
    job_type: str, exception: BaseException | None, *, let_through: tuple[type[BaseException], ...] = ()
) -> Failure:
    """Read what is kept of an exception, once. Never raises but what is let through."""
    if exception is None:
        return Failure("the attempt was rejected")
    cause = _cause_of(exception)
    reader = ExceptionReader(cause, let_through)
    error, trace = describe(cause, reader)
    return Failure(error, trace, failure_kind(job_type, cause, reader), reader.is_harmful)


def describe(cause: BaseException, reader: ExceptionReader) -> tuple[str, str]:
    """An exception as the texts that are kept: its message, and the traceback without Dramatiq's frames."""
    error = reader.line
    if len(error) > ERROR_MAX_CHARACTERS:
        error = error[:ERROR_MAX_CHARACTERS] + " …"
    frames = reader.traceback(_own_frames(cause))
    if len(frames) > TRACEBACK_MAX_CHARACTERS:
        half = TRACEBACK_MAX_CHARACTERS // 2
        frames = f"{frames[:half]}\n…\n{frames[-half:]}"
    return storable(error), storable(frames)


def failure_kind(job_type: str, cause: BaseException, reader: ExceptionReader) -> FailureKind:
    """Tell which kind of failure an exception is."""
    # A time limit strikes anywhere in the handler; that is no difference.
    is_interrupt = issubclass(type(cause), Interrupt)
    frame_of = fingerprints.handler_frame if is_interrupt else fingerprints.own_frame
    frame = frame_of(frames_of(cause))
    return fingerprints.kind_of(job_type, storable(reader.qualified_name), storable(reader.text), frame)


def _cause_of(exception: BaseException) -> BaseException:
    """What the handler raised, where it was translated for Dramatiq."""
    if issubclass(type(exception), Translated) and exception.__cause__ is not None:
        return exception.__cause__
    return exception


def storable(text: str) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")


def _own_frames(exception: BaseException) -> TracebackType | None:
    """The traceback from the handler on: what Dramatiq and the broker do around it explains nothing."""
    first = frame = frames_of(exception)
    while frame is not None:
        module = frame.tb_frame.f_globals.get("__name__", "")
        if not f"{module}.".startswith(_FOREIGN_FRAMES):
            return frame
        frame = frame.tb_next
    return first
