"""Lifespans of worker processes, which leave lines in a file of the test, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import goqueue
from tests.support.jobs.chaos_jobs import LOG_VARIABLE, QUEUE

#: What the lifespans are to do wrong: `open`, `close`, `hang`, or nothing.
FAULT_VARIABLE = "LIFESPAN_FAULT"

FAULT = os.environ.get(FAULT_VARIABLE, "")


class Connection:
    """What the outer lifespan yields."""


def _note(what: str) -> None:
    log = os.open(f"{os.environ[LOG_VARIABLE]}.lifespans", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, f"{what}\n".encode())
    os.close(log)


@goqueue.lifespan
def open_connection() -> Iterator[Connection]:
    """Open the outer lifespan."""
    _note("outer opens")
    yield Connection()
    _note("outer closes")


@goqueue.lifespan
async def open_inner(outer: Annotated[Connection, goqueue.Depends()]) -> AsyncIterator[str]:
    """Open the inner lifespan, on the event loop."""
    if FAULT == "open":
        raise OSError("the vault is sealed")
    _note("inner opens")
    yield f"inner of {type(outer).__name__}"
    if FAULT == "close":
        raise OSError("the vault is gone")
    if FAULT == "hang":
        time.sleep(600)  # noqa: ASYNC251  (that is what it is for)
    _note("inner closes")


@goqueue.actor(queue=QUEUE)
def uses_inner(token: str, seconds: float, inner: Annotated[str, goqueue.Depends(open_inner)]) -> str:
    """Note when it runs, and with what."""
    _note(f"runs with {inner}")
    time.sleep(seconds)
    _note("ends")
    return token
