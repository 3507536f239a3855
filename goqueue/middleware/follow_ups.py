"""Dramatiq's callbacks and pipelines, asked only about jobs that have some: most have none."""

from __future__ import annotations

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Callbacks, Pipelines


class JobCallbacks(Callbacks):
    """`on_success` and `on_failure`; the jobs that they send are inserted when the outcome is recorded."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send the callback that the message or its actor names."""
        names = ("on_success", "on_failure")
        if not message.options.keys().isdisjoint(names) or not _options(broker, message).isdisjoint(names):
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's


class JobPipelines(Pipelines):
    """`a.message() | b.message()`; the next job is inserted when the outcome of the first is recorded."""

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


def _options(broker: Broker, message: MessageProxy) -> set[str]:
    actor = broker.actors.get(message.actor_name)
    return set(actor.options) if actor is not None else set()
