"""The overview: what it shows of a service that was just started, that works, and that does not keep up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.db.statements import current_time
from goqueue.engine import queue_rows as queues
from goqueue.insight import overview_rows as overview
from goqueue.insight.roller import Roller
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of
from tests.support.database.plans import run_script
from tests.support.factories import JobFactory

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def moment(database: Database) -> datetime:
    """A while ago: what ended then is counted already."""
    with database.autocommit() as connection:
        return current_time(connection) - timedelta(seconds=120)


@pytest.fixture
def roll(settings: Settings, database: Database) -> Callable[[], None]:
    """Count everything that is due."""
    roller = Roller(settings, database, bool)

    def roll() -> None:
        while roller.run_once()["behind"]:
            pass

    return roll


def ended(make_job: JobFactory, at: datetime, **columns: Any) -> None:
    """A job that ended then, after it had waited 2 s and run 1 s."""
    values: dict[str, Any] = {"status": "completed", "attempts": 1, "fence": 1, "finished_at": at}
    times = {"started_at": at - timedelta(seconds=1), "available_at": at - timedelta(seconds=3)}
    make_job(**(values | times | columns))


def test_a_fresh_installation_says_what_to_do(dashboard: DashboardClient) -> None:
    """Without a job the page shows how to create one and how to run a worker, and no empty chart."""
    page = dashboard.get("/dashboard").text
    assert "No jobs yet" in page
    assert "/jobs/create" in page
    assert "goqueue worker" in page
    assert "data-chart" not in page


def test_figures_and_history_are_shown(
    dashboard: DashboardClient,
    make_job: JobFactory,
    moment: datetime,
    roll: Callable[[], None],
    database: Database,
) -> None:
    """Counts of now, totals of the range, and each point as a row that can be read without scripts."""
    make_job()
    make_job("running")
    ended(make_job, moment)
    ended(make_job, moment, status="failed")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, finished_at, run_seconds) "
            "SELECT id, 1, 1, status, started_at, finished_at, 1 FROM jobs WHERE finished_at IS NOT NULL"
        )
    roll()
    page = dashboard.get("/dashboard").text
    shown = elements_of(page)
    figures = shown.figures
    assert {figures[name] for name in ("Ready", "Running", "Failed", "Workers")} == {"1"}
    assert "1 completed, 1 failed" in shown.text
    assert "0.03/s" in [cell.text for cell in shown.all("td", data_name="Completed")]
    # 2 s are in the bucket from 1.45 s to 2.05 s, 1 s in that from 724 ms to 1.02 s.
    assert "1.7 s" in [cell.text for cell in shown.all("td", data_name="Wait p50")]
    assert "874 ms" in [cell.text for cell in shown.all("td", data_name="Run p50")]
    assert "No jobs yet" not in page
    assert "No scheduler has counted" not in page


@pytest.mark.parametrize("name", ["15m", "1h", "6h", "24h", "7d", "30d"])
def test_each_range_has_an_address_and_charts(
    dashboard: DashboardClient, make_job: JobFactory, moment: datetime, roll: Callable[[], None], name: str
) -> None:
    """A range is current on its page, and its charts show what ended in it, also if only a minute ago."""
    ended(make_job, moment - timedelta(seconds=60))
    roll()
    page = dashboard.get(f"/dashboard?range={name}").text
    assert f'range={name}" title' in page
    assert page.count('aria-current="page">' + name) == 1
    document = dashboard.get(f"/dashboard/overview.json?range={name}").json
    assert document["from"] < document["to"]
    assert [len(one["values"]) for one in document["series"]] == [len(document["x"])] * 3
    assert sum(document["series"][0]["values"]) > 0
    waits = dashboard.get(f"/dashboard/overview.json?range={name}&chart=wait").json
    assert [one["name"] for one in waits["series"]] == ["p50", "p95"]
    assert max(value for value in waits["series"][0]["values"] if value is not None) == pytest.approx(
        2, rel=0.5
    )
    assert len(document["x"]) <= 300


@pytest.mark.parametrize("query", ["range=5y", "chart=pie"])
def test_a_wrong_question_is_answered_as_such(dashboard: DashboardClient, query: str) -> None:
    """A range or chart that is not there is a 400 that names the parameter."""
    result = dashboard.get(f"/dashboard/overview.json?{query}")
    assert result.status_code == 400
    assert query.partition("=")[0] in result.text


def test_a_queue_that_empties_says_when(
    dashboard: DashboardClient,
    make_job: JobFactory,
    moment: datetime,
    roll: Callable[[], None],
    database: Database,
) -> None:
    """Ten ended in the last two minutes, twenty older ones wait: some minutes are left."""
    for second in range(10):
        ended(make_job, moment + timedelta(seconds=5 * second), queue="mail", created_at=moment)
    for _ in range(20):
        make_job(queue="mail", created_at=moment - timedelta(hours=1))
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = now() - interval '1 hour'")
    roll()
    page = dashboard.get("/dashboard").text
    assert 'href="/dashboard/queues/mail"' in page
    assert "empties in 3 min" in page or "empties in 4 min" in page


def test_a_queue_that_does_not_empty_says_so(
    dashboard: DashboardClient,
    make_job: JobFactory,
    moment: datetime,
    roll: Callable[[], None],
    database: Database,
) -> None:
    """One grows, one stands still, one is paused, and one is idle."""
    ended(make_job, moment, queue="growing")
    for _ in range(20):
        make_job(queue="growing")
    make_job(queue="standing")
    make_job(queue="closed")
    make_job("completed", queue="quiet")
    with database.autocommit() as connection:
        queues.pause(connection, "closed")
    roll()
    page = dashboard.get("/dashboard").text
    said = {
        name: page.partition(f'id="queue-{name}"')[2].partition("</tr>")[0]
        for name in ("growing", "standing", "closed", "quiet")
    }
    assert "grows" in said["growing"]
    assert "stands still" in said["standing"]
    assert "paused" in said["closed"]
    assert "idle" in said["quiet"]


def test_the_failures_of_the_last_hour_are_linked(
    dashboard: DashboardClient, make_job: JobFactory, moment: datetime
) -> None:
    """A group of now is there with its count, one of two hours ago is not."""
    for _ in range(3):
        make_job("failed", fingerprint="0123456789abcdef", error=HOSTILE, finished_at=moment)
    make_job("failed", fingerprint="fedcba9876543210", finished_at=moment - timedelta(hours=2))
    page = dashboard.get("/dashboard").text
    assert 'href="/dashboard/failures/0123456789abcdef?since=1h"' in page
    assert "3" in [cell.text for cell in elements_of(page).all("td", data_name="Jobs")]
    assert "fedcba9876543210" not in page
    assert HOSTILE not in page


def test_warnings_are_shown(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Jobs without a worker, and a service without a scheduler, are said in words."""
    make_job()
    page = dashboard.get("/dashboard").text
    assert "no worker takes them" in page
    assert "No scheduler has counted" in page


class TestHeldHorizon:
    """A transaction of somebody that holds back vacuum."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        """Warn of any."""
        return {"horizon_warning_seconds": 0.001}

    def test_it_is_warned_of(self, dashboard: DashboardClient, database: Database) -> None:
        """The overview warns as /health does."""
        with database.transaction() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE held (); SELECT txid_current()")
            assert "has held back vacuum" in dashboard.get("/dashboard").text


def test_a_poll_gets_the_live_part_and_304_while_nothing_changes(
    dashboard: DashboardClient, make_job: JobFactory, roll: Callable[[], None]
) -> None:
    """The same bytes are not sent twice, though a job waits and its age grows."""
    make_job()
    roll()
    first = dashboard.live("/dashboard")
    assert "<html" not in first.text
    assert elements_of(first.text).figures["Ready"] == "1"
    again = dashboard.live("/dashboard", If_None_Match=first.headers["ETag"])
    assert again.status_code == 304


def test_hostile_names_are_text(dashboard: DashboardClient, make_job: JobFactory, moment: datetime) -> None:
    """A queue and a type may be called what they want."""
    make_job(queue=HOSTILE, type=HOSTILE)
    make_job("failed", queue="a/b", type=HOSTILE, finished_at=moment)
    page = dashboard.get("/dashboard").text
    assert HOSTILE not in page
    assert "/dashboard/queues/a%2Fb" in page


def test_fifty_polls_ask_postgresql_once(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is the same for everybody is read once for all that look at the same moment."""
    make_job()
    asked = []
    of_queues = overview.of_queues

    def counted(*args: Any) -> Any:
        asked.append(args)
        return of_queues(*args)

    monkeypatch.setattr(overview, "of_queues", counted)
    monkeypatch.setattr("goqueue.dashboard.shared_answers.COST_FACTOR", 1e6)
    results = [dashboard.live("/dashboard") for _ in range(50)]
    assert {result.status_code for result in results} == {200}
    assert len(asked) == 1


def test_counts_stop_at_their_bound(dashboard: DashboardClient, database: Database) -> None:
    """A backlog of more than a hundred thousand is told as such."""
    run_script(
        database,
        """
        INSERT INTO queues (name) VALUES ('full');
        INSERT INTO jobs (queue, type, payload, rank)
            SELECT 'full', 'noop', '{}', now() FROM generate_series(1, 100500)
        """,
    )
    page = dashboard.get("/dashboard").text
    assert elements_of(page).figures["Ready"] == "100,000+"


def test_the_root_leads_to_it(dashboard: DashboardClient) -> None:
    """The bare address goes to the dashboard."""
    result: testing.Result = dashboard.get("/")
    assert (result.status_code, result.headers["Location"]) == (302, "/dashboard")
