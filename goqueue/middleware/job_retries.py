"""Dramatiq's `Retries`, without a second traceback of what an attempt has read already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Retries

from goqueue.middleware.job_message import JobMessage
from goqueue.observability.exception_reader import frames_of
from goqueue.observability.job_context import known_error

__all__ = ["JobRetries"]


class JobRetries(Retries):
    """Decides about failed attempts as `Retries` does: its verdict, its backoff, its log lines.

    `Retries` formats the traceback of each failure into the message, which costs as much as a short job; here
    the message has the one that is kept of the attempt.
    """

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Give the verdict about a failed attempt."""
        failure = message.failure if isinstance(message, JobMessage) else None
        if exception is None or failure is None or self._is_asked(broker, message):
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's
            return
        with _known_as(failure.error), _without_frames(exception):
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's
        message.options["traceback"] = failure.traceback

    def _is_asked(self, broker: Broker, message: MessageProxy) -> bool:
        """Whether a user's code decides, which is shown the exception as it is."""
        options = broker.get_actor(message.actor_name).options
        return options.get("retry_when", self.retry_when) is not None


@contextmanager
def _known_as(error: str) -> Iterator[None]:
    token = known_error.set(error)
    try:
        yield
    finally:
        known_error.reset(token)


@contextmanager
def _without_frames(exception: BaseException) -> Iterator[None]:
    frames = frames_of(exception)
    traceback_of: Any = BaseException.__dict__["__traceback__"]
    traceback_of.__set__(exception, None)
    try:
        yield
    finally:
        traceback_of.__set__(exception, frames)
