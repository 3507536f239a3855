"""The pages of failures: groups, one group, and the way to running it again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.fingerprints import kind_of
from goqueue.engine.runway.runway import Runway
from goqueue.insight import failure_group_rows as failure_groups
from goqueue.insight import failure_rows as failure_store
from goqueue.insight.failure_rows import FailureFilter
from goqueue.jobs import FailureKind
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of, text_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PLACE = "/dashboard/failures"

KIND = kind_of("noop", "ValueError", "no customer 17", "app.charge")
GROUP = f"{PLACE}/{KIND.fingerprint}"

TRACEBACK = """Traceback (most recent call last):
  File "/app/jobs.py", line 12, in charge
    raise ValueError(customer)
ValueError: no customer 17
"""


def groups_of(html: str) -> list[str]:
    """The fingerprints of the rows, in their order."""
    return re.findall(r'<tr id="failure-([0-9a-f]{16})"', html)


@pytest.fixture
def dead(make_job: JobFactory, database: Database) -> list[int]:
    """Three dead letters of one kind, the newest with an attempt; and a newer one of another."""
    jobs = [
        make_job(
            "failed",
            queue="noop",
            fingerprint=KIND.fingerprint,
            error=f"ValueError: no customer {n}",
            fence=1,
        )
        for n in range(3)
    ]
    make_job("failed", queue="email", type="send_email", reason="worker_died", error="the worker died")
    make_job("completed", queue="noop")
    with database.autocommit() as connection:
        failure_store.insert_kinds(connection, [KIND])
        connection.exec_driver_sql(
            "INSERT INTO attempts (job_id, fence, attempt, outcome, traceback, started_at, run_seconds) "
            "VALUES (%(id)s, 1, 1, 'failed', %(traceback)s, now(), 0.5)",
            {"id": jobs[-1].id, "traceback": TRACEBACK},
        )
    return [job.id for job in jobs]


def test_nothing_failed_is_good_news(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Without failures the page says so, and where jobs are that will be tried again."""
    make_job("completed")
    page = dashboard.get(PLACE).text
    assert "Nothing failed" in page
    assert 'href="/dashboard/jobs?status=queued"' in page


def test_failures_are_shown_in_groups(dashboard: DashboardClient, dead: list[int]) -> None:
    """Each group has its exception, message, frame, type, count and times, the latest first."""
    assert dead
    page = dashboard.get(PLACE).text
    killed, group = groups_of(page)
    assert group == KIND.fingerprint
    row = elements_of(page).one("tr", id=f"failure-{group}")
    assert all(word in row.text for word in ("ValueError", "no customer <n>", "app.charge", "noop"))
    assert GROUP in row.links
    assert row.cells["Jobs"] == "3"
    assert len(row.all("time")) == 2
    other = elements_of(page).one("tr", id=f"failure-{killed}")
    assert all(word in other.text for word in ("No exception", "worker died", "send_email"))


@pytest.mark.parametrize(
    ("query", "counts"),
    [
        pytest.param("", ["1", "3"], id="the latest first"),
        pytest.param("order=count", ["3", "1"], id="the largest first"),
        pytest.param("queue=email", ["1"], id="queue"),
        pytest.param("type=noop", ["3"], id="type"),
        pytest.param("type=noop&queue=email", [], id="neither"),
        pytest.param("since=15m", ["1", "2"], id="a quarter of an hour"),
        pytest.param("since=24h&order=count", ["3", "1"], id="a day, the largest first"),
        pytest.param("since=2100-01-01T00:00:00Z", [], id="since a time to come"),
        pytest.param("since=2020-01-01T00:00:00%2B01:00", ["1", "3"], id="since long ago"),
        pytest.param("queue=&type=&since=&order=", ["1", "3"], id="empty fields"),
    ],
)
def test_groups_are_chosen(
    dashboard: DashboardClient, dead: list[int], database: Database, query: str, counts: list[str]
) -> None:
    """The parameters of the address choose and order the groups, and the form shows them."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = now() - interval '1 hour' WHERE id = %(id)s", {"id": dead[0]}
        )
    page = dashboard.get(f"{PLACE}?{query}").text
    assert [cell.text for cell in elements_of(page).all("td", data_name="Jobs")] == counts
    if query == "queue=email":
        assert 'name="queue" value="email"' in page
    if not counts:
        assert "Nothing failed here" in page


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("since=yesterday", "since", id="no time"),
        pytest.param("since=2020-01-01T00:00:00", "since", id="no zone"),
        pytest.param("order=name", "order", id="order"),
        pytest.param("queue=a%00", "queue", id="NUL"),
        pytest.param(f"type={'x' * 201}", "type", id="a long type"),
    ],
)
@pytest.mark.usefixtures("dead")
def test_a_wrong_address_is_told_beside_the_field(dashboard: DashboardClient, query: str, field: str) -> None:
    """A question that is wrong is a 400 that says which field."""
    answer = dashboard.get(f"{PLACE}?{query}")
    assert answer.status_code == 400
    assert re.findall(r'id="(\w+)-wrong"', answer.text) == [field]
    assert groups_of(answer.text) == []


def test_the_bounded_look_agrees_with_the_count_of_all(make_job: JobFactory, database: Database) -> None:
    """The groups are those of REST, whatever is asked for."""
    for number in range(40):
        kind = kind_of("noop", f"Error{number % 7}", "text", None)
        make_job("failed", queue=f"q{number % 3}", fingerprint=kind.fingerprint)
        if number % 5 == 0:
            make_job("failed", queue="q0", reason=f"reason_{number % 4}")
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    for order in ("last_seen", "count"):
        for wanted in (
            FailureFilter(),
            FailureFilter(queue="q1"),
            FailureFilter(since=long_ago, type="noop"),
        ):
            with database.autocommit() as connection:
                exact = failure_store.groups(connection, wanted, order=order, limit=100)
                shown = failure_groups.shown(connection, wanted, order=order, limit=100)
            facts = [
                (group.fingerprint, group.count, group.last_seen, group.sample_job_id) for group in exact
            ]
            assert sorted(facts) == sorted(
                (group.fingerprint, group.count, group.last_seen, group.newest_job_id) for group in shown
            )
            counted = [group.count if order == "count" else group.last_seen for group in shown]
            assert counted == sorted(counted, reverse=True)
            assert not any(group.is_least for group in shown)


def test_a_large_group_says_that_there_are_more(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Of a group, some hundreds are counted; the page of the group says so as well."""
    make_job("failed", queue="noop", fingerprint=KIND.fingerprint, error="ValueError: x")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, status, payload, finished_at, fingerprint) "
            "SELECT 'noop', 'noop', 'failed', '{}', now(), %(f)s FROM generate_series(1, 300)",
            {"f": KIND.fingerprint},
        )
    (count,) = elements_of(dashboard.get(PLACE).text).all("td", data_name="Jobs")
    assert count.text == "250 +"
    assert "250 or more" in dashboard.get(GROUP).text


def test_a_group_shows_what_failed_and_where(dashboard: DashboardClient, dead: list[int]) -> None:
    """The page of a group has its sample with the traceback's own frames in front, and its newest jobs."""
    page = dashboard.get(GROUP).text
    said = text_of(page)
    assert "ValueError" in said
    assert "no customer <n>" in said
    assert "raised in jobs.py:12, in charge" in said
    assert '<pre class="own">' in page
    assert f'href="/dashboard/jobs/{dead[-1]}">job {dead[-1]}</a>' in page
    assert re.findall(r'<tr id="job-(\d+)"', page) == [str(job_id) for job_id in reversed(dead)]
    assert f'href="/dashboard/jobs?fingerprint={KIND.fingerprint}"' in page


def test_a_group_without_an_exception_says_so(dashboard: DashboardClient, dead: list[int]) -> None:
    """What died without an exception has no traceback, and its jobs all the same."""
    killed = groups_of(dashboard.get(f"{PLACE}?queue=email").text)[0]
    page = dashboard.get(f"{PLACE}/{killed}").text
    assert "There is no traceback" in page
    assert "reason: worker died" in page
    assert re.findall(r'<tr id="job-(\d+)"', page) == [str(dead[-1] + 1)]


def test_a_group_is_retried_after_a_dry_run(
    dashboard: DashboardClient, dead: list[int], settings: Settings, database: Database
) -> None:
    """Its form goes to a dry run with count and jobs, and that one begins the watched operation."""
    page = dashboard.get(GROUP).text
    form = re.search(r'<form method="get" action="(/dashboard/operations/new)".*?</form>', page, re.DOTALL)
    assert form
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w*)"', form[0]))
    assert set(re.findall(r'type="number" name="(\w+)"', form[0])) == {"canary", "rate"}
    query = "&".join(f"{name}={value}" for name, value in (hidden | {"canary": "1", "rate": "50"}).items())
    dry = dashboard.get(f"{form[1]}?{query}")
    assert dry.status_code == 200
    assert '<span id="matching">3</span>' in dry.text
    assert all(f'id="job-{job_id}"' in dry.text for job_id in dead)
    assert 'name="canary" value="1"' in dry.text
    answer = dashboard.post("/dashboard/operations", **hidden, status="failed", canary="1", rate="50")
    assert answer.status_code == 303
    assert re.fullmatch(r"/dashboard/operations/\d+", answer.headers["location"])
    assert dashboard.get(answer.headers["location"]).status_code == 200
    operator = BulkOperator(settings, database, lambda _seconds: None)
    operator.run_once()
    with database.autocommit() as connection:
        found = connection.exec_driver_sql("SELECT requested_by, canary, rate FROM bulk_operations").all()
        queued = connection.exec_driver_sql("SELECT id FROM jobs WHERE status = 'queued'").scalars().all()
    assert [tuple(row) for row in found] == [("dashboard", 1, 50.0)]
    assert list(queued) == [dead[0]]


def test_what_failed_before_is_good_news(
    dashboard: DashboardClient, dead: list[int], database: Database
) -> None:
    """A group whose jobs ran again says so, and still what it was."""
    assert dead
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE queue = 'noop'")
    page = dashboard.get(GROUP)
    assert page.status_code == 200
    assert "No job is failed like this any more" in page.text
    assert "app.charge" in page.text
    assert "operations/new" not in page.text


@pytest.mark.parametrize(
    ("query", "told"),
    [("since=1h", "in the last hour"), ("queue=noop&since=24h", "in queue noop"), ("", None)],
)
def test_what_was_chosen_in_the_list_stays_chosen_on_the_page_of_a_group(
    dashboard: DashboardClient, dead: list[int], database: Database, query: str, told: str | None
) -> None:
    """A row leads to its group with the time and the queue of the list, and the page says which are shown."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = now() - interval '2 days', created_at = now() - interval '2 days' "
            "WHERE id = %(id)s",
            {"id": dead[0]},
        )
    listed = dashboard.get(f"{PLACE}?{query}" if query else PLACE).text
    (place,) = re.findall(rf'href="({GROUP}[^"]*)"', listed)
    assert set(place.partition("?")[2].split("&amp;")) == set(query.split("&"))
    page = dashboard.get(place.replace("&amp;", "&")).text
    shown = {int(found) for found in re.findall(r'href="/dashboard/jobs/(\d+)"', page)}
    assert shown == set(dead if told is None else dead[1:])
    assert (told or "Shown are") in text_of(page) or told is None
    assert ("Show all of this kind" in page) == (told is not None)
    assert f"<dd>{len(shown)}" in page or f">{len(shown)}</a>" in page


def test_a_group_of_which_none_failed_lately_says_so(
    dashboard: DashboardClient, dead: list[int], database: Database
) -> None:
    """Its page is there, and leads to those that failed before."""
    assert dead
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = now() - interval '2 days', created_at = now() - interval '2 days'"
        )
    page = dashboard.get(f"{GROUP}?since=1h").text
    assert "None of these is failed now" in page
    assert dashboard.get(f"{GROUP}?since=yesterday").status_code == 400


@pytest.mark.parametrize("message", ["'customer'", '"a key"', "0x7f", "42"])
@pytest.mark.parametrize("place", [PLACE, "/dashboard", "/dashboard/types/noop", "group"])
def test_a_kind_without_a_word_is_told_by_its_newest_error(
    dashboard: DashboardClient, make_job: JobFactory, database: Database, place: str, message: str
) -> None:
    """A KeyError says the key that is missing: no page shows a placeholder alone."""
    kind = kind_of("noop", "KeyError", message, "app.charge")
    make_job("failed", queue="noop", fingerprint=kind.fingerprint, error=f"KeyError: {message}", fence=1)
    with database.autocommit() as connection:
        failure_store.insert_kinds(connection, [kind])
    page = unescape(dashboard.get(f"{PLACE}/{kind.fingerprint}" if place == "group" else place).text)
    assert message in page
    assert kind.message not in page


@pytest.mark.parametrize("fingerprint", ["0" * 16, "x", "%00", "A" * 16, "a" * 17])
@pytest.mark.usefixtures("dead")
def test_an_unknown_group_is_404(dashboard: DashboardClient, fingerprint: str) -> None:
    """What no job has failed like, or what cannot be a fingerprint, is a page that says so."""
    answer = dashboard.get(f"{PLACE}/{fingerprint}")
    assert answer.status_code == 404
    assert "<html" in answer.text


def test_hostile_text_stays_text(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Exception, message, frame, type, error and traceback are shown, and never are markup."""
    hostile = "<script>alert(1)</script>"
    kind = FailureKind("0123456789abcdef", hostile, hostile, hostile + "x" * 5000, hostile)
    job = make_job(
        "failed",
        queue=hostile,
        type=hostile,
        error=hostile,
        reason=hostile,
        fingerprint=kind.fingerprint,
        fence=1,
    )
    with database.autocommit() as connection:
        failure_store.insert_kinds(connection, [kind])
        connection.exec_driver_sql(
            "INSERT INTO attempts (job_id, fence, attempt, outcome, traceback, started_at, run_seconds) "
            "VALUES (%(id)s, 1, 1, 'failed', %(traceback)s, now(), 0.5)",
            {"id": job.id, "traceback": TRACEBACK + hostile},
        )
    for place in (PLACE, f"{PLACE}/{kind.fingerprint}", f"{PLACE}?queue=%3Cscript%3Ealert(1)%3C/script%3E"):
        page = dashboard.get(place)
        assert page.status_code == 200
        assert hostile not in page.text
        assert "&lt;script&gt;alert(1)" in page.text


@pytest.mark.usefixtures("dead")
def test_a_read_only_dashboard_has_no_retry(settings: Settings, database: Database, runway: Runway) -> None:
    """It shows the groups and begins nothing."""
    app = create_app(
        settings.model_copy(update={"dashboard_read_only": True}),
        database=database,
        runway=runway,
        site=DASHBOARD,
    )
    page = DashboardClient(testing.TestClient(app)).get(GROUP).text
    assert "app.charge" in page
    assert "operations/new" not in page


@pytest.mark.usefixtures("dead")
def test_the_live_parts_are_known_when_nothing_changed(dashboard: DashboardClient) -> None:
    """A poll gets the part alone, and 304 for the part that it has."""
    for place in (PLACE, GROUP):
        part = dashboard.live(place)
        assert "<html" not in part.text
        assert "ValueError" in part.text
        assert dashboard.live(place, If_None_Match=part.headers["etag"]).status_code == 304
