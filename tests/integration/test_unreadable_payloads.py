"""What counts as a payload that a worker cannot read, and what is a handler's own failure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.instance import default
from goqueue.jobs import NewJob
from tests.support.engine import QUICK, Engine, process_of


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing takes long."""
    return QUICK


def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of a user's that gives the handler a further argument."""

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        return function("session", *args)

    return called


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """A worker whose actors take one argument."""
    with process_of(settings) as broker:
        # Plain Dramatiq code: without annotations there is no schema.
        @dramatiq.actor(max_retries=1, min_backoff=10)
        def plain(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return order + "!"

        @dramatiq.actor(max_retries=1, min_backoff=10)
        async def plain_async(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return order + "!"

        @dramatiq.actor(max_retries=1, min_backoff=10)
        @with_session
        def decorated(session, order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return order + session

        @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
        def typed(order: int) -> Any:
            return order + "!"  # type: ignore[operator]  # a mistake, on purpose

        with Engine(broker) as engine:
            yield engine


def outcomes(engine: Engine, type_name: str, payload: str) -> list[tuple[int, str]]:
    """Run a job to its end; the (attempt, outcome) of each of its attempt rows."""
    (job_id,) = default().creator.many([NewJob("default", type_name, payload, max_retries=1)])
    engine.wait_for(job_id, "failed")
    return [(row[0], row[1]) for row in engine.attempts(job_id)]


@pytest.mark.parametrize(
    ("type_name", "payload"),
    [
        pytest.param("plain", '{"args": ["a", "b"]}', id="an argument too many"),
        pytest.param("plain", '{"kwargs": {"order": "a", "currency": "EUR"}}', id="an unknown keyword"),
        pytest.param("plain", '{"args": []}', id="an argument too few"),
        pytest.param("plain_async", '{"args": ["a", "b"]}', id="an async handler"),
        pytest.param("typed", '{"order": 1, "currency": "EUR"}', id="a further field"),
        pytest.param("typed", "{}", id="a missing field"),
        pytest.param("typed", "[]", id="no object"),
    ],
)
def test_a_payload_that_does_not_fit_goes_back_once(engine: Engine, type_name: str, payload: str) -> None:
    """No attempt is spent on the way back; when its time is over it fails at once, without a retry."""
    assert outcomes(engine, type_name, payload) == [(1, "interrupted"), (1, "failed")]


@pytest.mark.parametrize(
    ("type_name", "payload"),
    [
        pytest.param("plain", '{"args": [7]}', id="a TypeError of the handler"),
        pytest.param("plain_async", '{"args": [7]}', id="of an async handler"),
        pytest.param("decorated", '{"args": [7]}', id="of a handler that is given further arguments"),
        pytest.param("typed", '{"order": 7}', id="of a typed handler"),
    ],
)
def test_a_handlers_own_type_error_is_a_failed_attempt(engine: Engine, type_name: str, payload: str) -> None:
    """What the handler did may be done: it is retried as any failure, and never given back unspent."""
    assert outcomes(engine, type_name, payload) == [(1, "failed"), (2, "failed")]


class TestWithoutWaiting:
    """`unreadable_payload_wait_seconds=0`."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        """Nothing waits for another version."""
        return QUICK | {"unreadable_payload_wait_seconds": 0.0}

    def test_a_payload_that_does_not_fit_fails_at_once(self, engine: Engine) -> None:
        """The first worker that cannot read it fails it."""
        assert outcomes(engine, "typed", "{}") == [(1, "failed")]
