"""The leadership: a lease that another takes, and what a former leader can still do: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.errors import DatabaseUnavailableError
from goqueue.migrations.upgrade import upgrade
from goqueue.scheduler import leadership_rows as leadership
from goqueue.scheduler.leader import Leader, LeaderDatabase
from goqueue.scheduler.loop_watch import LoopWatch
from goqueue.scheduler.watchdog import Watchdog
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until


@pytest.fixture
def overrides() -> dict[str, Any]:
    """A lease that is soon over, and is looked at often."""
    return {"leader_lease_seconds": 1.0, "leader_check_seconds": 0.1}


@pytest.fixture
def leaders(settings: Settings) -> Iterator[tuple[Leader, Leader]]:
    """Two that want to lead, each with connections of its own."""
    first, second = Leader(settings), Leader(settings)
    yield first, second
    for leader in (first, second):
        leader.close()


def execute(database: Database, sql: str) -> None:
    """Run a statement."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(sql)


def test_one_leads_and_stays(leaders: tuple[Leader, Leader], database: Database) -> None:
    """Of two exactly one leads, however often both try, and others see that somebody does."""
    first, second = leaders
    for _ in range(3):
        assert first.try_to_lead()
        assert not second.try_to_lead()
    assert (first.leads, second.leads) == (True, False)
    with database.autocommit() as connection:
        assert leadership.is_led(connection)


def test_the_other_takes_over_when_one_resigns(leaders: tuple[Leader, Leader]) -> None:
    """Resigning lets the other lead at once; resigning again does nothing."""
    first, second = leaders
    assert first.try_to_lead()
    first.resign()
    first.resign()
    assert second.try_to_lead()
    assert not first.try_to_lead()


def test_the_other_takes_over_when_the_sessions_are_gone(
    leaders: tuple[Leader, Leader], database: Database
) -> None:
    """A leader without a session does not lead: the other does at once, the first notices, and may again."""
    first, second = leaders
    assert first.try_to_lead()
    execute(
        database,
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
        f"WHERE application_name = '{first.name}'",
    )
    assert second.try_to_lead()
    assert not first.try_to_lead()
    second.resign()
    wait_until(first.try_to_lead, what="the first to lead again")


def test_a_leader_that_does_not_renew_is_followed_and_can_change_nothing(
    settings: Settings, leaders: tuple[Leader, Leader], database: Database
) -> None:
    """Its open transaction ends when another takes over; it gets no connection any more, old or new."""
    first, second = leaders
    assert first.try_to_lead()
    services = LeaderDatabase(settings, first)
    with pytest.raises(DatabaseUnavailableError):
        insert_while_another_takes_over(services, second)
    assert not first.leads
    with pytest.raises(DatabaseUnavailableError, match="lease"), services.autocommit():
        pass
    first._renewed_at += 3600  # noqa: SLF001  (as a machine whose clock stood still believes)
    with pytest.raises(DatabaseUnavailableError, match="somebody else leads"), services.autocommit():
        pass
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT FROM queues WHERE name = 'late'").rowcount == 0
    assert not first.try_to_lead()
    services.close()


def insert_while_another_takes_over(services: Database, other: Leader) -> None:
    """A transaction in whose middle this process is stopped for longer than its lease."""
    with services.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('late')")
        wait_until(other.try_to_lead, 10, "the other to lead", poll_seconds=0.1)


@pytest.mark.parametrize("step", ["+ interval '1 hour'", "- interval '1 hour'"])
def test_a_step_of_the_clock_changes_no_leader(
    leaders: tuple[Leader, Leader], database: Database, step: str
) -> None:
    """One that renews leads on, whatever PostgreSQL's clock says; one that does not is followed."""
    first, second = leaders
    assert first.try_to_lead()
    for _ in range(8):
        execute(database, f"UPDATE leadership SET expires_at = expires_at {step}")
        assert not second.try_to_lead()
        assert first.try_to_lead()
    execute(database, f"UPDATE leadership SET expires_at = expires_at {step}")
    wait_until(second.try_to_lead, 10, "the other to lead", poll_seconds=0.1)


def test_a_leader_that_is_cut_off_is_followed(
    settings: Settings, postgres: EmbeddedPostgres, leaders: tuple[Leader, Leader]
) -> None:
    """Where a link swallows everything, the session lives on; the other leads all the same."""
    _, second = leaders
    proxy = TcpProxy(postgres.port)
    url = settings.database_url.get_secret_value().replace(f":{postgres.port}/", f":{proxy.port}/")
    cut_off = Leader(settings.model_copy(update={"database_url": SecretStr(url)}))
    assert cut_off.try_to_lead()
    proxy.black_hole()
    assert not second.try_to_lead()
    wait_until(second.try_to_lead, 10, "the other to lead", poll_seconds=0.1)
    assert not cut_off.leads
    proxy.close()
    cut_off.close()


def test_nobody_leads_without_postgresql(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A leader that loses PostgreSQL leads until its lease is over, and again when PostgreSQL is back."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("own")) as server:
        own = settings.model_copy(update={"database_url": SecretStr(server.url)})
        database = Database(own)
        upgrade(database)
        database.close()
        leader = Leader(own)
        assert leader.try_to_lead()
        server.stop()
        wait_until(lambda: not leader.try_to_lead(), 10, "the end of the lease")
        server.start()
        wait_until(leader.try_to_lead, what="leading again")
        leader.close()


def watchdog(leader: Leader, watch: LoopWatch) -> tuple[Watchdog, list[str]]:
    """A watchdog that only tells."""
    told: list[str] = []
    return Watchdog(leader, watch, told.append), told


@pytest.mark.parametrize(("slept", "leads", "ends"), [(0.9, True, 0), (1.1, True, 1), (99.0, False, 0)])
def test_the_watchdog_ends_a_leader_that_was_stopped(
    settings: Settings, leaders: tuple[Leader, Leader], slept: float, ends: int, *, leads: bool
) -> None:
    """A leader that was stopped for longer than its lease ends; a standby goes on."""
    dog, told = watchdog(leaders[0], LoopWatch(settings))
    dog.look(slept, leads=leads)
    assert len(told) == ends


def test_the_watchdog_ends_a_process_whose_round_hangs(
    settings: Settings, leaders: tuple[Leader, Leader]
) -> None:
    """A loop that does not end its round ends the process, some time after the liveness says so."""
    quick = settings.model_copy(update={"liveness_seconds": 0.01, "database_statement_timeout_seconds": 0.01})
    watch = LoopWatch(quick)
    dog, told = watchdog(leaders[0], watch)
    watch.begin("dispatcher")
    wait_until(watch.stuck, what="the liveness to fail")
    dog.look(0.0, leads=True)
    assert told == []
    watch._steps["dispatcher"] = type(watch._steps["dispatcher"])(began_at=-1e6, rests=False)  # noqa: SLF001  (a clock that went on)
    dog.look(0.0, leads=True)
    assert "dispatcher" in told[0]
