"""Circuit breakers: what workers count, how the service moves them, and what the claim makes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

import goqueue
from goqueue.audit import audit_rows
from goqueue.audit.audit_rows import AuditFilter
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.new_job import new_job
from goqueue.instance import default
from goqueue.jobs import AttemptOutcome, JobStatus
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.breaker_rows import BreakerRow, End
from goqueue.limits.breaker_rules import BreakerChange
from goqueue.limits.breaker_service import Breakers
from goqueue.limits.settings import Breaker, BreakerState, TypeLimits
from goqueue.limits.type_setting_rows import LimitedType
from goqueue.worker.recording import outcomes
from goqueue.worker.recording.outcomes import OutcomeCounter
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

BREAKER = Breaker(failure_rate=0.5, minimum=4, window_seconds=60, cooldown_seconds=30, probes=2)


@pytest.fixture
def service(settings: Settings, database: Database) -> Breakers:
    """The service over one guarded type, `call`."""
    with database.transaction() as connection:
        type_settings.locked(connection, "call")
        type_settings.set_limits(connection, "call", TypeLimits(breaker=BREAKER))
    return Breakers(settings, database, lambda _: None, lambda: None)


def state_of(database: Database) -> LimitedType:
    """The type as it stands."""
    with database.autocommit() as connection:
        return next(found for found in type_settings.all_limited(connection) if found.name == "call")


def end(database: Database, *, completed: int = 0, failed: int = 0, started: str = "now()") -> None:
    """Count attempts of the type that ended now."""
    with database.autocommit() as connection:
        (started_at,) = connection.exec_driver_sql(f"SELECT {started}").one()
        ends = [End("call", started_at, failed=number < failed) for number in range(completed + failed)]
        breaker_store.count(connection, ends)


def row_of(database: Database) -> BreakerRow:
    """The breaker and its tally."""
    with database.autocommit() as connection:
        (row,) = breaker_store.tallies(connection)
    return row


def age(database: Database, seconds: float) -> None:
    """Let time pass since the last change of the breaker."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE types SET breaker_changed_at = breaker_changed_at - make_interval(secs => %(s)s)",
            {"s": seconds},
        )


def metric(name: str) -> float | None:
    """A metric of the type."""
    return REGISTRY.get_sample_value(name, {"type": "call"})


def test_a_breaker_opens_probes_and_closes(service: Breakers, database: Database) -> None:
    """By what is counted it opens, lets probes in after its cooldown, and closes when they complete."""
    opened = metric("breaker_opened_total") or 0
    end(database, failed=3)
    service.run_once()
    assert (state_of(database).limits.state, metric("breaker_state")) == ("closed", 0)
    end(database, failed=1)
    assert service.run_once()["opened"] == 1
    limited = state_of(database)
    assert limited.limits.state is BreakerState.OPEN
    assert limited.reason == "4 of 4 attempts failed in 60 s: 100%, and it opens at 50%"
    assert (metric("breaker_state"), metric("breaker_opened_total")) == (1, opened + 1)
    service.run_once()
    assert state_of(database).limits.state is BreakerState.OPEN
    age(database, 31)
    assert service.run_once()["probing"] == 1
    assert metric("breaker_state") == 2
    end(database, completed=2)
    assert service.run_once()["closed"] == 1
    assert (state_of(database).limits.state, metric("breaker_state")) == ("closed", 0)
    service.run_once()
    assert state_of(database).limits.state is BreakerState.CLOSED
    with database.autocommit() as connection:
        noted = audit_rows.page(connection, AuditFilter(action="type.breaker", target="type call"), limit=3)
    assert [(entry.before["breaker_state"], entry.after["breaker_state"]) for entry in noted] == [
        ("half_open", "closed"),
        ("open", "half_open"),
        ("closed", "open"),
    ]
    assert noted[-1].reason == limited.reason


def test_a_probe_that_fails_opens_it_again(service: Breakers, database: Database) -> None:
    """Half-open, one failure is enough, however many completed."""
    with database.transaction() as connection:
        breaker_store.moved_by_hand(connection, "call", BreakerChange(BreakerState.HALF_OPEN, "test"))
    end(database, completed=1, failed=1)
    assert service.run_once()["opened"] == 1
    assert state_of(database).reason == "a probe failed, after 1 that completed"


def test_what_began_before_the_change_says_nothing(service: Breakers, database: Database) -> None:
    """A long attempt that started before the breaker closed, and fails now, does not count against it."""
    end(database, failed=9)
    with database.transaction() as connection:
        breaker_store.moved_by_hand(connection, "call", BreakerChange(BreakerState.CLOSED, "test"))
    end(database, failed=9, started="now() - interval '1 minute'")
    service.run_once()
    assert row_of(database).tally.failed == 0
    assert state_of(database).limits.state is BreakerState.CLOSED
    end(database, completed=1, failed=2)
    assert (row_of(database).tally.completed, row_of(database).tally.failed) == (1, 2)


def test_the_window_slides(service: Breakers, database: Database) -> None:
    """Ends that are older than the window do not count, and are forgotten after a while."""
    end(database, failed=3)
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE type_outcomes SET second = second - interval '61 s'")
    end(database, failed=3)
    counts = service.run_once()
    assert row_of(database).tally.failed == 3
    assert (counts["opened"], counts["forgotten"]) == (0, 1)


def test_only_one_of_two_moves_a_breaker(service: Breakers, database: Database) -> None:
    """Whoever saw a state that is not there any more changes nothing."""
    seen = row_of(database)
    for expected in (True, False):
        with database.transaction() as connection:
            assert breaker_store.move(connection, seen, BreakerChange(BreakerState.OPEN, "test")) is expected
    assert service.run_once()["opened"] == 0


def test_an_open_breaker_takes_back_what_was_let_in(
    service: Breakers,
    database: Database,
    make_job: JobFactory,
) -> None:
    """What was let in and has not started is held back: the claim refuses it, and nothing is spent."""
    job = make_job(type="call", admitted=True)
    end(database, failed=4)
    service.run_once()
    assert make_job.claim(job) == []
    with database.autocommit() as connection:
        row = connection.exec_driver_sql(
            "SELECT status, attempts, admitted FROM jobs WHERE id = %(id)s", {"id": job.id}
        ).one()
    assert tuple(row) == ("queued", 0, False)


def test_counts_of_many_processes_add_up(service: Breakers, database: Database) -> None:
    """Batches of several recorders at once lose nothing."""
    threads = [threading.Thread(target=end, args=(database,), kwargs={"completed": 10}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert row_of(database).tally.completed == 80
    assert service.run_once()["opened"] == 0


def test_a_removed_breaker_lets_everything_in(service: Breakers, database: Database) -> None:
    """Taking a breaker away closes it, and its metric goes."""
    end(database, failed=4)
    service.run_once()
    with database.transaction() as connection:
        type_settings.set_limits(connection, "call", TypeLimits(concurrency=1))
    service.run_once()
    assert state_of(database) == LimitedType("call", TypeLimits(1), None, None)
    assert metric("breaker_state") is None


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick."""
    return QUICK


@pytest.fixture
def engine(settings: Settings, service: Breakers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with a type that fails as its payload says; what has a breaker is read for each batch."""
    del service
    monkeypatch.setattr(outcomes, "TYPES_SECONDS", 0)
    with process_of(settings) as broker:

        @goqueue.actor(name="call", queue="calls", max_retries=0)
        def call(what: str) -> None:
            if what == "fail":
                raise ConnectionError
            if what == "discard":
                raise goqueue.Discard("no")
            if what == "snooze" and goqueue.current_job().fence == 1:
                raise goqueue.Snooze(0)

        with Engine(broker) as engine:
            yield engine


def test_workers_count_how_attempts_end(engine: Engine, database: Database) -> None:
    """Completed and failed attempts are counted, snoozes are not."""
    for what in ("fail", "discard", "snooze", "complete"):
        default().creator.one(new_job(engine.broker, "call", {"what": what}))
    wait_until(lambda: sum((row_of(database).tally.completed, row_of(database).tally.failed)) >= 4)
    tally = row_of(database).tally
    assert (tally.completed, tally.failed) == (2, 2)


def test_a_refused_outcome_is_not_counted(
    service: Breakers,
    database: Database,
    make_job: JobFactory,
) -> None:
    """What was not recorded, because the job was not held any more, does not count."""
    del service
    jobs = [make_job(type="call", admitted=True) for _ in range(2)]
    messages = make_job.messages(*jobs)
    for message in messages:
        message.conclude(JobStatus.FAILED, AttemptOutcome.FAILED, error="no")
    OutcomeCounter(database).count(messages, {(messages[0].current.id, messages[0].current.claimed.fence)})
    assert row_of(database).tally.failed == 1


def test_a_type_that_fails_is_stopped(engine: Engine, database: Database, settings: Settings) -> None:
    """Failures of real jobs open the breaker; what is created then waits, unspent, until it is closed."""
    for _ in range(4):
        default().creator.one(new_job(engine.broker, "call", {"what": "fail"}))
    service = Breakers(settings, database, lambda _: None, lambda: None)
    wait_until(lambda: service.run_once()["opened"])
    job = default().creator.one(new_job(engine.broker, "call", {"what": "complete"}))
    with database.autocommit() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
    held = engine.job(job.id)
    assert (held.status, held.attempts) == ("queued", 0)
    with database.transaction() as connection:
        breaker_store.moved_by_hand(connection, "call", BreakerChange(BreakerState.CLOSED, "test"))
    assert engine.wait_for(job.id).attempts == 1


def test_half_open_only_probes_start(engine: Engine, database: Database, settings: Settings) -> None:
    """While jobs wait for an open breaker, no more of them start than there are probes; those decide."""
    for _ in range(4):
        default().creator.one(new_job(engine.broker, "call", {"what": "fail"}))
    service = Breakers(settings, database, lambda _: None, lambda: None)
    wait_until(lambda: service.run_once()["opened"])
    default().creator.many([new_job(engine.broker, "call", {"what": "fail"})] * 20)
    probe(engine, database, service)
    assert state_of(database).limits.state is BreakerState.OPEN
    assert 5 <= engine.rows("SELECT count(*) FROM attempts")[0][0] <= 4 + BREAKER.probes
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET payload = '{\"what\": \"complete\"}' WHERE status = 'queued'"
        )
    probe(engine, database, service)
    assert state_of(database).limits.state is BreakerState.CLOSED
    wait_until(lambda: not engine.rows("SELECT FROM jobs WHERE finished_at IS NULL"))
    assert 18 <= engine.rows("SELECT count(*) FROM jobs WHERE status = 'completed'")[0][0] <= 19


def probe(engine: Engine, database: Database, service: Breakers) -> None:
    """Let the cooldown pass, and wait until the probes have decided and none of them is on its way."""
    age(database, 31)
    assert service.run_once()["probing"] == 1

    def is_decided() -> bool:
        service.run_once()
        return state_of(database).limits.state is not BreakerState.HALF_OPEN

    wait_until(is_decided, what="the probes")
    if state_of(database).limits.state is BreakerState.OPEN:
        wait_until(lambda: not engine.rows("SELECT FROM jobs WHERE status = 'running' OR admitted"))
