"""Dramatiq's callbacks and pipelines, asked only about jobs that have some: most have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Callbacks, Pipelines

from goqueue.contents.redaction import with_markers
from goqueue.jobs import NewJob
from goqueue.middleware.job_message import JobMessage


class JobCallbacks(Callbacks):
    """Callbacks, `on_success` and `on_failure`: the jobs that they send are inserted with the outcome."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send the callback that the message or its actor names."""
        if has_callback(message.options) or has_callback(broker.get_actor(message.actor_name).options):
            before = len(message.follow_ups) if isinstance(message, JobMessage) else 0
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's
            if isinstance(message, JobMessage) and (hidden := message.current.claimed.hidden):
                message.follow_ups[before:] = [_without(job, hidden) for job in message.follow_ups[before:]]


class JobPipelines(Pipelines):
    """Pipelines, `a.message() | b.message()`: the next job is inserted with the outcome of the first."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send the next message of the pipe."""
        if "pipe_target" in message.options:
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's


def _without(job: NewJob, hidden: Sequence[str]) -> NewJob:
    """The job of a callback without redacted values of the one that it is told of: its type may show them."""
    return replace(job, payload=orjson.dumps(with_markers(orjson.loads(job.payload), hidden)).decode())


def has_callback(options: Mapping[str, Any]) -> bool:
    """Tell whether options of a message or an actor name a callback."""
    return "on_success" in options or "on_failure" in options
