"""Jobs made from messages that were sent with Dramatiq's own words (`actor.send()`)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dramatiq import Message

from goqueue.config.bounds import is_number
from goqueue.db.statements import TRACEPARENT
from goqueue.engine.new_job import DeclaredTypes, new_job
from goqueue.engine.options.dramatiq_options import refuse_message
from goqueue.engine.options.job_type import UNSENDABLE, without_nul
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, NewJob
from goqueue.middleware.job_message import BACKOFF_OPTIONS
from goqueue.observability.exception_reader import text_of
from goqueue.observability.tracing.context import current_traceparent

__all__ = ["follow_up_of_message", "job_of_message"]

#: Options of a Dramatiq message that are columns of the job, or its trace; the others are kept as they are.
_COLUMN_OPTIONS = frozenset({"max_retries", "time_limit", "eta", "delay", "job_id", TRACEPARENT})


def job_of_message(types: DeclaredTypes, message: Message[Any], delay_ms: int | None) -> NewJob:
    """Make the job of a message, after `delay_ms` where that is given.

    Raises:
        InvalidJobError: the message does not fit its type, or says what a job cannot be.
    """
    options = message.options
    refuse_message(options)
    job_type = types.job_type(message.actor_name)
    if job_type is None:
        raise InvalidJobError({"type": f"unknown job type {message.actor_name!r}"})
    delay, available_at = delay_ms or options.get("delay"), None
    if not delay and options.get("eta") is not None:
        available_at = _moment_of(options["eta"])
    return new_job(
        types,
        message.actor_name,
        job_type.payload_of_call(message.args, message.kwargs),
        queue=message.queue_name,
        max_retries=options.get("max_retries"),
        delay_seconds=_seconds_of("delay", delay) or 0,
        available_at=available_at,
        time_limit_seconds=_seconds_of("time_limit", options.get("time_limit")),
        options=_options_of(options),
    )


def follow_up_of_message(types: DeclaredTypes, message: Message[Any], delay_ms: int | None) -> NewJob:
    """Make the job of a message that was sent about a job that ends.

    One that does not fit its type, or whose type is not declared, is created too: it waits for a worker that
    can run it. Dramatiq swallows what a hook raises: the follow-up would vanish without a trace.
    """
    # It is inserted by a thread that works for many jobs.
    traceparent = current_traceparent()
    try:
        return replace(job_of_message(types, message, delay_ms), traceparent=traceparent)
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
