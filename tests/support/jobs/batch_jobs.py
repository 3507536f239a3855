"""Batch types that tell which jobs ran together, and where; loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import BaseModel

import goqueue

BATCH_QUEUE = "batched"
PATIENT_QUEUE = "patient"


class Told(BaseModel):
    """A payload: the file that its runs are told to, and the one that is waited for."""

    number: int
    log: str
    gate: str = ""
    deadly: bool = False


def _tell(items: list[Told]) -> None:
    """Write a line: the process, and the jobs of the batch."""
    line = f"{os.getpid()} {','.join(str(job.id) for job in goqueue.current_batch())}\n"
    log = os.open(items[0].log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)


@goqueue.actor(queue=BATCH_QUEUE, batch=goqueue.Batch(size=10, wait_ms=100), max_retries=3)
def waits_together(items: list[Told]) -> list[int]:
    """Tell who runs, die where one is deadly, and wait until the gate is open."""
    _tell(items)
    if any(item.deadly for item in items):
        os._exit(1)
    while not Path(items[0].gate).exists():
        time.sleep(0.01)
    return [item.number for item in items]


@goqueue.actor(queue=PATIENT_QUEUE, batch=goqueue.Batch(size=10, wait_ms=10_000))
def waits_for_others(items: list[Told]) -> list[int]:
    """Tell who ran, after a batch that fills for long."""
    _tell(items)
    return [item.number for item in items]


@goqueue.actor(queue=BATCH_QUEUE, batch=goqueue.Batch(size=50, wait_ms=20), max_retries=3)
def runs_together(items: list[Told]) -> list[int]:
    """Tell who ran, and take a moment."""
    _tell(items)
    time.sleep(0.02)
    return [item.number for item in items]
