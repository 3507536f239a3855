# ruff: noqa: ANN001, ANN202  (plain Dramatiq code has no annotations)
"""Job types that fail in every way, for the test that no payload reaches a log.

Each holds its payload in a local variable and lets something go wrong. None repeats it in an exception.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import dramatiq
from pydantic import BaseModel

import goqueue


class Secret(BaseModel):
    """A payload that is secret."""

    text: str


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the types on the present broker."""

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
    def raises(secret: Secret) -> None:
        held = secret.text
        raise ValueError(len(held))

    @goqueue.actor(max_retries=0)
    async def raises_async(secret: Secret) -> None:
        await asyncio.sleep(0)
        raise ValueError(len(secret.text))

    @goqueue.actor(max_retries=0, time_limit_seconds=0.05)
    def too_long(secret: Secret) -> None:
        until = time.monotonic() + 30 + len(secret.text)
        while time.monotonic() < until:
            pass

    @goqueue.actor(max_retries=0)
    def bad_result(secret: Secret) -> Any:
        return {secret.text: {1}}

    @goqueue.actor(max_retries=0)
    def nul_result(secret: Secret) -> Any:
        return f"{secret.text}\0"

    @goqueue.actor(max_retries=0)
    def exits(secret: Secret) -> None:
        raise SystemExit(len(secret.text))

    @goqueue.actor(max_retries=0)
    def discards(secret: Secret) -> None:
        raise goqueue.Discard(f"{len(secret.text)}")

    @goqueue.actor(max_retries=0)
    def changed(secret: Secret, number: int) -> None:
        """The payload of its job lacks the number."""

    @goqueue.actor(max_retries=0)
    def endless(secret: Secret) -> None:
        raise goqueue.Snooze(1e300 * len(secret.text))

    @dramatiq.actor(max_retries=0)
    def plain_failure(text):  # type: ignore[no-untyped-def]  # plain Dramatiq code
        raise KeyError(len(text))

    @dramatiq.actor(max_retries=0, on_success="plain_failure")
    def success(text):  # type: ignore[no-untyped-def]
        return text
