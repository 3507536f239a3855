"""Types whose jobs must not be repeated when their worker dies: `rerun_after_death=False`."""

from __future__ import annotations

import dramatiq
import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.transitions.begin import begin_unrepeatable
from goqueue.errors import DatabaseUnavailableError
from goqueue.worker.broker import JobBroker
from tests.support.engine import QUICK, Engine, process_of
from tests.support.waiting import wait_until


def noted(broker: JobBroker, job_id: int) -> tuple[int | None, int]:
    """The fence that was noted when the job began, and the one that it has."""
    with broker.database.autocommit() as connection:
        row = connection.exec_driver_sql(
            "SELECT unrepeatable_fence, fence FROM jobs WHERE id = %s", (job_id,)
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_the_begin_is_noted_before_the_first_line(settings: Settings, database: object) -> None:
    """Of a type that says so the row knows each attempt that begins; of others it never does."""
    del database
    with process_of(settings.model_copy(update=QUICK)) as broker:
        seen: list[tuple[int | None, int]] = []

        @goqueue.actor(rerun_after_death=False, max_retries=1, min_backoff_seconds=0.01)
        def charge() -> None:
            seen.append(noted(broker, goqueue.current_job().id))
            if len(seen) == 1:
                raise RuntimeError("the first attempt fails")

        @dramatiq.actor(rerun_after_death=False)
        def plain() -> None:
            seen.append(noted(broker, goqueue.current_job().id))

        @goqueue.actor
        def repeatable() -> None:
            seen.append(noted(broker, goqueue.current_job().id))

        with Engine(broker) as engine:
            engine.wait_for(goqueue.enqueue(charge, {}))
            plain.send()
            wait_until(lambda: len(seen) == 3, what="the plain one")
            engine.wait_for(goqueue.enqueue(repeatable, {}))
        assert seen == [(1, 1), (2, 2), (1, 1), (None, 1)]


def test_nothing_begins_that_cannot_be_noted(
    settings: Settings, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While PostgreSQL does not take the note the job goes back unspent, and runs when it does."""
    del database
    with process_of(settings.model_copy(update=QUICK)) as broker:
        runs: list[int] = []

        @goqueue.actor(rerun_after_death=False, max_retries=0)
        def charge() -> None:
            runs.append(goqueue.current_job().fence)

        note = begin_unrepeatable
        refused: list[int] = []

        def away(connection: object, job_id: int, fence: int, worker_id: int) -> bool:
            if len(refused) < 2:
                refused.append(fence)
                raise DatabaseUnavailableError("away")
            return note(connection, job_id, fence, worker_id)  # type: ignore[arg-type]  # the broker's own

        monkeypatch.setattr("goqueue.worker.broker.begin_unrepeatable", away)
        with Engine(broker) as engine:
            job = engine.wait_for(goqueue.enqueue(charge, {}))
        assert (refused, runs, job.attempts) == ([1, 2], [3], 1)


def test_nothing_begins_that_is_not_held(
    settings: Settings, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was taken back meanwhile does not begin, and the late outcome is refused."""
    del database
    with process_of(settings.model_copy(update=QUICK)) as broker:
        runs: list[int] = []

        @goqueue.actor(rerun_after_death=False)
        def charge() -> None:
            runs.append(goqueue.current_job().fence)

        asked: list[int] = []

        def not_held(_connection: object, _job_id: int, fence: int, _worker_id: int) -> bool:
            asked.append(fence)
            return len(asked) > 1

        monkeypatch.setattr("goqueue.worker.broker.begin_unrepeatable", not_held)
        with Engine(broker) as engine:
            engine.wait_for(goqueue.enqueue(charge, {}))
            wait_until(lambda: runs == [2], what="the second claim to run")
        assert asked == [1, 2]


@pytest.mark.parametrize("value", [0, "no", None], ids=str)
def test_the_option_is_true_or_false(settings: Settings, value: object) -> None:
    """Anything else is refused where the type is declared."""
    with process_of(settings), pytest.raises(ValueError, match="rerun_after_death: expected True or False"):

        @dramatiq.actor(rerun_after_death=value)
        def wrong() -> None:
            """Nothing."""
