"""The end of a run, by a worker thread or the event loop: what Dramatiq does of it, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.logging import get_logger
from dramatiq.middleware import SkipMessage

from goqueue.middleware.lifecycle import conclude, leave

if TYPE_CHECKING:
    from goqueue.middleware.job_message import JobMessage
    from goqueue.worker.broker import JobBroker
    from goqueue.worker.execution import JobFunction

__all__ = ["conclude_straight", "fail", "is_plain"]

#: The logger of Dramatiq's worker threads: what is said of a failed message is said in the same words.
_log = get_logger("dramatiq.worker", "WorkerThread")  # type: ignore[no-untyped-call]  # Dramatiq's


def is_plain(message: JobMessage, function: JobFunction) -> bool:
    """Tell whether nothing follows from what a job returns: only our own middleware has to know of it."""
    return message.current.claimed.options is None and not function.has_callback()


def conclude_straight(message: JobMessage) -> None:
    """Note the outcome of a plain job whose handler returned, as our own middleware would."""
    if message.current.control is None:
        message.complete()
    else:
        conclude(message, None)
    leave(message)


def fail(
    broker: JobBroker,
    message: JobMessage,
    function: JobFunction,
    error: BaseException,
    *,
    is_told: bool = False,
) -> None:
    """Do what Dramatiq does where a job raised, with the same lines in the log, unless they are there."""
    if isinstance(error, SkipMessage):
        if message.failed:
            message.stuff_exception(error)
        _log.warning("Message %s was skipped.", message)
        broker.emit_after("skip_message", message)
        return
    message.stuff_exception(error)
    if not is_told:
        _log_failure(message, message.throws or function.throws, error)
    broker.emit_after("process_message", message, exception=error)


def _log_failure(message: JobMessage, throws: tuple[type[BaseException], ...], error: BaseException) -> None:
    if isinstance(error, RateLimitExceeded):
        _log.debug("Rate limit exceeded in message %s: %s.", message, error)
    elif throws and isinstance(error, throws):
        kind = type(error).__name__
        _log.info("Failed to process message %s with expected exception %s.", message, kind)
    elif isinstance(error, Retry):
        return
    elif message.current.claimed.encrypted or message.current.claimed.hidden:
        # Handlers of records that are not GoQueue's would show what its text quotes.
        kind = type(error).__name__
        _log.error("Failed to process message %s with unhandled exception %s.", message, kind)
    else:
        _log.error("Failed to process message %s with unhandled exception.", message, exc_info=error)
