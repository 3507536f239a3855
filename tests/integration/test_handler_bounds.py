"""What a handler says or returns is bounded: no job is lost, frozen, or made unreadable by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq.errors import Retry

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.new_job import new_job
from goqueue.errors import InvalidJobError
from goqueue.instance import default
from goqueue.jobs import RetryPolicy
from tests.support.engine import QUICK, Engine, process_of

runs: Counter[tuple[str, str]] = Counter()

#: Waits that nobody means, as a handler may come to them.
WAITS: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "epoch milliseconds": 1.7e12,
    "the largest double": 1e308,
    "no double at all": 10**400,
    "a text": "soon",
    "nothing": None,
}

RESULTS: dict[str, Any] = {
    "nested": [[]],
    "a long integer": {"number": 2**64},
}


class Late(Retry):
    """A retry of Dramatiq's own, whose delay is what its handler says."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick."""
    return QUICK


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine with types that ask for bad waits at their first run, and complete at the second."""
    runs.clear()
    with process_of(settings) as broker:

        @goqueue.actor(name="waits", queue="waits", max_retries=1, min_backoff_seconds=0.01)
        def waits(verdict: str, wait: str) -> str:
            runs[verdict, wait] += 1
            if runs[verdict, wait] > 1:
                return "done"
            if verdict == "raise":
                raise Late("later", delay=WAITS[wait])
            error = goqueue.RetryAfter(1) if verdict == "retry" else goqueue.Snooze(1)
            # As a subclass may do it, behind the back of the constructor.
            error.seconds = WAITS[wait]
            raise error

        @goqueue.actor(name="returns", queue="waits", max_retries=0)
        def returns(result: str, depth: int = 1) -> Any:
            value = RESULTS[result]
            for _ in range(depth):
                value = [value]
            return value

        with Engine(broker) as engine:
            yield engine


def create(engine: Engine, type_name: str, **payload: Any) -> int:
    """Create a job; its id."""
    return default().creator.one(new_job(engine.broker, type_name, payload)).id


@pytest.mark.parametrize("wait", [name for name in WAITS if name != "nothing"])
@pytest.mark.parametrize("verdict", ["retry", "snooze", "raise"])
def test_a_wait_that_nobody_means_is_a_failed_attempt(engine: Engine, verdict: str, wait: str) -> None:
    """The job runs again after its usual backoff, whatever its handler said, and its attempt is spent."""
    job_id = create(engine, "waits", verdict=verdict, wait=wait)
    job = engine.wait_for(job_id)
    assert (job.attempts, job.result) == (2, "done")
    (first, second) = engine.attempts(job_id)
    assert (first[1], second[1]) == ("failed", "completed")
    if verdict != "raise":
        assert "seconds: expected" in first[2]


@pytest.mark.parametrize("depth", [100, 253, 5_000])
def test_a_result_nested_too_deep_is_a_failed_attempt(engine: Engine, depth: int) -> None:
    """The job is a dead letter that says why, and every page can show it."""
    job = engine.wait_for(create(engine, "returns", result="nested", depth=depth), "failed")
    assert job.result is None
    assert "the result" in (job.error or "")


def test_a_result_at_the_bound_is_kept(engine: Engine) -> None:
    """A hundred levels are kept."""
    job = engine.wait_for(create(engine, "returns", result="nested", depth=98))
    assert str(job.result).count("[") == 100


def test_an_integer_beyond_64_bits_is_a_failed_attempt(engine: Engine) -> None:
    """It would be another number for whoever reads it, a child of the job as well."""
    job = engine.wait_for(create(engine, "returns", result="a long integer"), "failed")
    assert "64 bits" in (job.error or "")


@pytest.mark.parametrize("wait", ["NaN", "infinity", "the largest double", "no double at all", "a text"])
@pytest.mark.parametrize("option", ["delay", "min_backoff", "max_backoff", "time_limit"])
def test_options_of_plain_messages_are_bounded(engine: Engine, option: str, wait: str) -> None:
    """`send_with_options` refuses what no reader of the job could compute with, and names it."""
    actor = engine.broker.get_actor("waits")
    with pytest.raises(InvalidJobError) as raised:
        actor.send_with_options(kwargs={"verdict": "retry", "wait": "NaN"}, **{option: WAITS[wait]})
    names = [name.removeprefix("options.").removesuffix("_seconds") for name in raised.value.fields]
    assert names == [option]


@pytest.mark.parametrize("name", ["min_backoff_seconds", "max_backoff_seconds"])
@pytest.mark.parametrize("wait", ["NaN", "infinity", "no double at all", "a text"])
def test_a_retry_policy_is_bounded(engine: Engine, name: str, wait: str) -> None:
    """A policy whose backoff cannot be computed with is refused before the job exists."""
    policy = RetryPolicy(**{name: WAITS[wait]})
    with pytest.raises(InvalidJobError) as raised:
        goqueue.enqueue(engine.broker.get_actor("returns"), {"result": "nested"}, retry=policy)
    assert list(raised.value.fields) == [f"retry.{name}"]


@pytest.mark.parametrize("name", ["min_backoff_seconds", "max_backoff_seconds", "time_limit_seconds"])
@pytest.mark.parametrize("wait", ["NaN", "infinity", "epoch milliseconds", "no double at all", "a text"])
def test_a_declaration_is_bounded(engine: Engine, name: str, wait: str) -> None:
    """An actor whose retries or time limit no timer can hold is refused where it is declared."""
    with pytest.raises(ValueError, match=name.removesuffix("_seconds")):
        goqueue.actor(name="endless", **{name: WAITS[wait]})(lambda: None)
    assert "endless" not in engine.broker.job_types


def test_options_of_an_older_release_give_a_verdict(engine: Engine) -> None:
    """A job whose stored backoff is no number is retried by the backoff of its type."""
    job_id = create(engine, "waits", verdict="retry", wait="NaN")
    engine.rows(
        'UPDATE jobs SET options = \'{"min_backoff": "soon", "max_backoff": 1e300}\' WHERE id = %(id)s '
        "RETURNING id",
        id=job_id,
    )
    assert engine.wait_for(job_id).attempts == 2


def test_a_deep_payload_is_refused(engine: Engine) -> None:
    """A payload that pages could not show is refused before the job exists."""
    value: Any = []
    for _ in range(120):
        value = [value]
    with pytest.raises(InvalidJobError, match="nested deeper"):
        engine.broker.job_types["returns"].validated({"result": value})
