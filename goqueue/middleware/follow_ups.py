"""Dramatiq's callbacks and pipelines, asked only about jobs that have some: most have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Callbacks, Pipelines


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
            super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]  # Dramatiq's


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


def has_callback(options: Mapping[str, Any]) -> bool:
    """Tell whether options of a message or an actor name a callback."""
    return "on_success" in options or "on_failure" in options
