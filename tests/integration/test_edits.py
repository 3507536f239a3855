"""Edits beside a running engine: a claim or an edit comes first, and the start follows the row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.runway.runway import Message
from goqueue.errors import IllegalTransitionError, InvalidJobError, UniqueKeyHeldError
from goqueue.jobs import JobStatus
from tests.support.engine import QUICK, Engine, process_of

LATER = timedelta(hours=1)


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing takes longer than it must."""
    return QUICK


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine whose job type `tell` returns what it was given; not started yet."""
    with process_of(settings) as broker:

        @goqueue.actor(name="tell", queue="tell", max_retries=0)
        def tell(number: int) -> int:
            if number < 0:
                raise ValueError("negative")
            return number

        yield Engine(broker)


def tell(engine: Engine) -> Any:
    """The declared actor."""
    return engine.broker.get_actor("tell")


def test_edits_and_claims_race(engine: Engine) -> None:
    """An edit that was answered is what ran; one that came too late is refused, and changed nothing."""
    with engine:
        for _ in range(5):
            ids = [goqueue.enqueue(tell(engine), {"number": 1}) for _ in range(20)]

            def edit(job_id: int) -> int:
                try:
                    goqueue.edit_job(job_id, payload={"number": 2}, author="race")
                except IllegalTransitionError:
                    return 1
                return 2

            with ThreadPoolExecutor(4) as threads:
                expected = list(threads.map(edit, ids))
            assert [engine.wait_for(job_id).result for job_id in ids] == expected


def test_the_race_has_both_ends(engine: Engine) -> None:
    """An edit before the start is what runs; after the end it is refused."""
    job_id = goqueue.enqueue(tell(engine), {"number": 1})
    goqueue.edit_job(job_id, payload={"number": 2})
    with engine:
        assert engine.wait_for(job_id).result == 2
        with pytest.raises(IllegalTransitionError, match="is completed"):
            goqueue.edit_job(job_id, payload={"number": 3})
    assert [version.payload for version, _ in goqueue.job_versions(job_id)] == [{"number": 1}, {"number": 2}]


def test_a_pushed_job_that_is_put_off_starts_at_its_new_time(engine: Engine) -> None:
    """Its message on the runway starts nothing; an edit back to now does, at once."""
    job_id = goqueue.enqueue(tell(engine), {"number": 1})
    put_off = goqueue.edit_job(job_id, available_at=datetime.now(UTC) + LATER)
    other = goqueue.enqueue(tell(engine), {"number": 2})
    with engine:
        engine.wait_for(other)
        assert engine.job(job_id).status == JobStatus.QUEUED
        start = put_off.available_at - LATER
        goqueue.edit_job(job_id, available_at=start)
        assert engine.wait_for(job_id).result == 1
        assert engine.job(job_id).attempts == 1


def test_the_dispatcher_follows_an_edited_priority(settings: Settings) -> None:
    """Of a backlog the job whose priority was raised starts first, and the lowered one last."""
    slow = settings.model_copy(update={"worker_threads": 1, "runway_min": 1, "runway_max": 1})
    with process_of(slow) as broker:
        order: list[int] = []
        started = threading.Event()
        going_on = threading.Event()

        @goqueue.actor(name="note", queue="note")
        def note(number: int) -> None:
            order.append(number)
            started.set()
            going_on.wait(10)

        ids = [goqueue.enqueue(note, {"number": number}) for number in range(12)]
        broker.runway.close_gate("note")
        goqueue.edit_job(ids[9], priority=50)
        goqueue.edit_job(ids[3], priority=-50)
        with Engine(broker) as engine:
            assert started.wait(10)
            going_on.set()
            for job_id in ids:
                engine.wait_for(job_id)
    assert order.index(9) < order.index(0)
    assert order[-1] == 3


def test_python_edits_and_retries(engine: Engine) -> None:
    """The functions of the package do what the API does."""
    job_id = goqueue.enqueue(tell(engine), {"number": -1}, unique=goqueue.Unique(key="one"))
    with engine:
        engine.wait_for(job_id, JobStatus.FAILED)
        holder = goqueue.enqueue(
            tell(engine), {"number": 5}, unique=goqueue.Unique(key="one"), delay_seconds=1000
        )
        with pytest.raises(UniqueKeyHeldError) as caught:
            goqueue.retry_job(job_id, payload={"number": 3})
        assert caught.value.holder_id == holder
        assert engine.job(job_id).payload == {"number": -1}
        goqueue.edit_job(holder, available_at=datetime.now(UTC))
        engine.wait_for(holder)
        goqueue.retry_job(job_id, payload={"number": 3}, author="ada")
        assert engine.wait_for(job_id).result == 3
    (_, edited) = goqueue.job_versions(job_id)
    assert edited.version.author == "ada"
    assert edited.changes is not None
    assert edited.changes[-1][:2] == ("/payload/number", -1)
    wrong: dict[str, Any]
    for wrong in ({"payload": {"number": "x"}}, {"priority": 101}, {"author": "\n"}, {}):
        with pytest.raises(InvalidJobError):
            goqueue.edit_job(job_id, **wrong)


def test_a_message_of_before_the_edit_leads_to_one_run(engine: Engine) -> None:
    """An edit that makes a pushed job ready pushes it again: it runs once."""
    job_id = goqueue.enqueue(tell(engine), {"number": 1})
    edited = goqueue.edit_job(job_id, payload={"number": 2})
    engine.broker.runway.dispatch("tell", [Message(job_id, edited.fence)], limit=10, closed=False)
    with engine:
        assert engine.wait_for(job_id).result == 2
        last = goqueue.enqueue(tell(engine), {"number": 3})
        engine.wait_for(last)
        assert len(engine.attempts(job_id)) == 1
