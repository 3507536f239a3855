"""Batch types: one call of the handler for many jobs, each of which keeps all that a job has."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import default
from tests.support.engine import Engine, running_engine

THREADS = 2

#: The payloads of each call, by the type.
calls: dict[str, list[list[Any]]] = {}
runs: Counter[str] = Counter()
gate = threading.Event()


class Item(BaseModel):
    """One payload."""

    number: int
    name: str = ""


def declare() -> None:
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(queue="doubled", batch=goqueue.Batch(size=10, wait_ms=300))
    def doubles(items: list[Item]) -> list[int]:
        calls.setdefault("doubles", []).append([item.number for item in items])
        return [item.number * 2 for item in items]


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine whose jobs run in batches, on a few threads."""
    with running_engine(postgres, valkey, "batches", declare, worker_threads=THREADS) as running:
        yield running


@pytest.fixture(autouse=True)
def from_the_start() -> Iterator[None]:
    """Nothing was called, and the gate is closed."""
    calls.clear()
    runs.clear()
    gate.clear()
    yield
    gate.set()


def make(name: str, payloads: list[Any], **settings: Any) -> list[int]:
    """Create jobs of a type by one call; their ids."""
    return goqueue.enqueue_many(default().broker.get_actor(name), payloads, **settings)


def numbers(count: int) -> list[dict[str, int]]:
    """So many payloads, numbered."""
    return [{"number": number} for number in range(count)]


def test_a_batch_is_one_call_and_each_job_has_its_result(engine: Engine) -> None:
    """Ten jobs that were created together run by one call of the handler, in their order."""
    ids = make("doubles", numbers(10))
    results = [engine.wait_for(job_id).result for job_id in ids]
    assert results == [2 * number for number in range(10)]
    assert calls["doubles"] == [list(range(10))]
