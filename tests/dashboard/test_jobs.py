"""The list of jobs and the operations over many, as a browser without scripts has them."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine.listing import preview_rows
from goqueue.engine.listing import walk_rows as job_walks
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import Job, JobStatus
from tests.support.dashboard.client import DashboardClient
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

JOBS = "/dashboard/jobs"
OPERATIONS = "/dashboard/operations"
HOSTILE = '<script>alert("x")</script>\u202e😀'


def shown(result: testing.Result) -> list[int]:
    """The ids of the rows of a page, from above."""
    assert result.status_code == 200, result.text
    return [int(found) for found in re.findall(r'<tr id="job-(\d+)"', result.text)]


def link(result: testing.Result, name: str) -> str | None:
    """Where a link to a page beside this one leads."""
    found = re.search(rf'id="{name}"[^>]* href="([^"]+)"', result.text)
    return html.unescape(found[1]) if found else None


def place(**said: Any) -> str:
    """The address of a list."""
    return f"{JOBS}?{urlencode(said)}"


def status_of(database: Database, job: Job) -> JobStatus:
    """The status of a job now."""
    with database.autocommit() as connection:
        return job_store.get(connection, job.id).status


def tag_all(database: Database) -> None:
    """Make the tags of all jobs known to searches."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO job_tags SELECT unnest(tags), id FROM jobs ON CONFLICT DO NOTHING"
        )


def test_without_jobs_it_says_what_to_do(dashboard: DashboardClient) -> None:
    """An empty list tells how to create a job; an empty search, what was searched for."""
    page = dashboard.get(JOBS)
    assert "No jobs yet" in page.text
    assert 'href="/dashboard/create"' in page.text
    assert "No job fits" in dashboard.get(place(queue="none")).text


def test_a_row_tells_a_job_in_short(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Its id leads to it; status, type, queue, payload, tags, attempts and error are there."""
    job = make_job(
        "failed",
        queue="mail",
        type="send",
        payload={"to": "ann"},
        tags=["red"],
        error="no route",
        attempts=4,
        priority=7,
    )
    text = dashboard.get(JOBS).text
    for part in (
        f"{JOBS}/{job.id}",
        "send",
        "mail",
        "priority 7",
        "&#34;ann&#34;",
        "tag=red",
        "no route",
        "4 of 4",
    ):
        assert part in text, part


def test_foreign_text_is_text(dashboard: DashboardClient, make_job: JobFactory, database: Database) -> None:
    """No name, payload, tag, error or address becomes markup."""
    make_job("failed", queue=HOSTILE, type=HOSTILE, payload={HOSTILE: HOSTILE}, tags=[HOSTILE], error=HOSTILE)
    tag_all(database)
    for path in (
        JOBS,
        place(q=HOSTILE),
        place(queue=HOSTILE),
        place(tag=HOSTILE),
        place(error=HOSTILE),
        place(payload=HOSTILE),
        place(status=HOSTILE),
        f"{OPERATIONS}/new?{urlencode({'queue': HOSTILE, 'author': HOSTILE})}",
        f"{OPERATIONS}/new?{urlencode({'action': HOSTILE})}",
    ):
        page = dashboard.get(path)
        assert page.status_code in {200, 302, 400}, path
        assert "<script>alert" not in page.text
    assert len(shown(dashboard.get(place(tag=HOSTILE)))) == 1


def test_every_filter_is_in_the_address(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Each alone, and all together, show exactly what fits."""
    wanted = make_job(
        "failed", queue="a", type="x", payload={"u": {"id": 4}}, tags=["red"], error="Timed out"
    )
    make_job("failed", queue="a", type="x", payload={"u": {"id": 44}}, error="no")
    make_job("completed", queue="b", type="y", tags=["blue"])
    tag_all(database)
    each = {"tag": "red", "payload": "u.id:4", "error": "timed OUT"}
    for name, value in each.items():
        assert shown(dashboard.get(place(**{name: value}))) == [wanted.id], name
    at = wanted.created_at.isoformat()
    together = {"queue": "a", "type": "x", "status": "failed", "created_after": at} | each
    assert shown(dashboard.get(place(**together))) == [wanted.id]
    assert shown(dashboard.get(place(created_before=at))) == []
    assert "No jobs" not in dashboard.get(place(created_after="2020-01-01T10:00")).text


def test_the_search_field_leads_to_an_address(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """What was said becomes parameters beside the filters; an id leads to its job."""
    job = make_job()
    assert dashboard.get(place(q=job.id)).headers["Location"] == f"{JOBS}/{job.id}"
    result = dashboard.get(place(q='payload.user_id:42 error:"timed out" tag:t', queue="a", status="failed"))
    assert result.status_code == 302
    expected = {"queue": "a", "status": "failed", "tag": "t", "payload": "user_id:42", "error": "timed out"}
    assert result.headers["Location"] == place(**expected)
    page = dashboard.get(result.headers["Location"])
    assert "payload.user_id:42 error:&#34;timed out&#34;" in page.text
    assert dashboard.get(place(q="", payload="a:b", queue="a")).headers["Location"] == place(queue="a")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"status": "lost"}, "status"),
        ({"created_after": "soon"}, "created after"),
        ({"queue": "x" * 201}, "queue"),
        ({"before": "x"}, "before"),
        ({"q": "payload.a:1 payload.b:2"}, "expected one payload"),
        ({"fingerprint": "a" * 16, "status": "queued"}, "only failed jobs"),
    ],
)
def test_a_wrong_filter_is_told_on_the_page(
    dashboard: DashboardClient, said: dict[str, str], told: str
) -> None:
    """The page stays, with what is wrong."""
    page = dashboard.get(place(**said))
    assert page.status_code == 400
    assert re.search(rf'class="wrong" role="alert">[^<]*{told}', page.text)


def test_pages_follow_each_other_both_ways(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Older to the end and newer to the start show every job once; jobs that come shift nothing."""
    made = [make_job().id for _ in range(120)]
    first = dashboard.get(JOBS)
    assert link(first, "newer") is None
    second = dashboard.get(link(first, "older") or "")
    make_job()
    third = dashboard.get(link(second, "older") or "")
    assert shown(first) + shown(second) + shown(third) == made[::-1]
    assert link(third, "older") is None
    back = dashboard.get(link(third, "newer") or "")
    assert shown(back) == shown(second)
    assert shown(dashboard.get(link(back, "newer") or "")) == shown(first)


def test_a_search_that_stopped_can_go_on(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page says how many jobs were looked at, and its link goes on there; it does not repeat itself."""
    wanted = make_job(payload={"n": 1}).id
    for _ in range(25):
        make_job()
    monkeypatch.setattr(job_walks, "LOOK_MAX", 20)
    page = dashboard.get(place(payload="n:1"))
    assert "Nothing found yet" in page.text
    assert "20 jobs were looked at" in page.text
    assert 'hx-get="/dashboard/jobs' not in page.text
    assert shown(dashboard.get(link(page, "older") or "")) == [wanted]


def test_tabs_count_up_to_a_bound(dashboard: DashboardClient, database: Database) -> None:
    """Counts are exact below the bound, and say where they stopped."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, finished_at) "
            "SELECT 'a', 'x', '{}', CASE WHEN n <= 3 THEN 'failed' ELSE 'completed' END, now() "
            "FROM generate_series(1, 1003) AS n"
        )
    text = dashboard.get(JOBS).text
    assert re.search(r'>failed <span class="quiet">3</span>', text)
    assert re.search(r'>completed <span class="quiet">1,000\+</span>', text)


def test_a_live_part_is_answered_only_when_it_changed(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll of the same rows is a 304."""
    monkeypatch.setattr("goqueue.dashboard.polls.GOOD_FOR_SECONDS", 0)
    job = make_job()
    first = dashboard.live(place(queue=job.queue))
    assert first.text.lstrip().startswith("<nav")
    assert dashboard.live(place(queue=job.queue), If_None_Match=first.headers["ETag"]).status_code == 304
    make_job(queue=job.queue)
    known = first.headers["ETag"]
    # An answer is given to all who ask for the same within a second.
    wait_until(lambda: dashboard.live(place(queue=job.queue), If_None_Match=known).status_code == 200)


@pytest.mark.parametrize(
    ("action", "status", "becomes"),
    [
        ("retry", "failed", "queued"),
        ("retry", "cancelled", "queued"),
        ("cancel", "queued", "cancelled"),
        ("cancel", "blocked", "cancelled"),
    ],
)
def test_selected_jobs_are_changed_at_once(
    dashboard: DashboardClient,
    make_job: JobFactory,
    database: Database,
    action: str,
    status: str,
    becomes: str,
) -> None:
    """Those in a state for it; the answer leads back to the list and says how many."""
    chosen, done, other = make_job(status), make_job("completed"), make_job(status)
    fields = {f"job-{job.id}": "1" for job in (chosen, done)}
    result = dashboard.post(f"{JOBS}/selected", action=action, place="queue=default", **fields)
    assert (result.status_code, result.headers["Location"]) == (303, place(queue="default"))
    assert [status_of(database, job) for job in (chosen, done, other)] == [becomes, "completed", status]
    assert "1 job was" in dashboard.get(place(queue="default")).text


def test_selected_jobs_are_deleted_or_moved(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Delete takes final jobs, a priority waiting ones."""
    final, waiting = make_job("failed"), make_job()
    fields = {f"job-{job.id}": "1" for job in (final, waiting)}
    dashboard.post(f"{JOBS}/selected", action="delete", **fields)
    assert shown(dashboard.get(JOBS)) == [waiting.id]
    dashboard.post(f"{JOBS}/selected", action="set_priority", priority="9", **fields)
    with database.autocommit() as connection:
        assert job_store.get(connection, waiting.id).priority == 9


@pytest.mark.parametrize("wrong", [{"action": "explode"}, {"action": "set_priority", "priority": "101"}])
def test_a_wrong_action_changes_nothing(
    dashboard: DashboardClient, make_job: JobFactory, wrong: dict[str, str]
) -> None:
    """It is a 400; nothing selected is told."""
    job = make_job()
    assert dashboard.post(f"{JOBS}/selected", **wrong, **{f"job-{job.id}": "1"}).status_code == 400
    no_job = {f"job-{2**63}": "1", "job-0": "1", "job-x": "1"}
    assert dashboard.post(f"{JOBS}/selected", action="cancel", **no_job).status_code == 303
    assert "No job was selected" in dashboard.get(JOBS).text


def test_all_that_match_are_shown_then_changed_and_watched(
    settings: Settings, dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A dry run with its count and first rows, the start, its page, and the end; nothing else changes."""
    for number in range(25):
        make_job("failed", queue="a", payload={"n": number % 2})
    other = make_job("failed", queue="b")
    page = dashboard.get(f"{OPERATIONS}/new?queue=a&status=failed")
    assert re.search(r'id="matching">25<', page.text)
    assert len(shown(page)) == 20
    assert "No operations yet" in dashboard.get(OPERATIONS).text
    begun = dashboard.post(
        OPERATIONS, action="retry", queue="a", status="failed", rate="", canary="", author="ann"
    )
    assert begun.status_code == 303, begun.text
    watched = dashboard.get(begun.headers["Location"])
    assert "Abort" in watched.text
    assert "ann" in watched.text
    operator = BulkOperator(settings, database, lambda _seconds: None)
    while operator.run_once()["operations"]:
        pass
    ended = dashboard.live(begun.headers["Location"])
    assert 'value="1.0000"' in ended.text
    assert "25 of 25" in ended.text
    assert "Abort" not in ended.text
    assert status_of(database, other) is JobStatus.FAILED
    assert begun.headers["Location"] in dashboard.get(OPERATIONS).text


def test_a_dry_run_of_very_many_shows_an_estimate(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the number is about so many, and why; the operation is of all of them."""
    monkeypatch.setattr(preview_rows, "INDEXED_MAX", 3)
    for _ in range(5):
        make_job("failed", queue="a")
    page = dashboard.get(f"{OPERATIONS}/new?queue=a&status=failed").text
    assert re.search(r'About <span id="matching">', page)
    assert "it is an estimate" in page
    assert "all of them" in page


def test_canaries_that_wait_are_shown_with_why(
    settings: Settings, dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """The page of an operation links its canaries, counts those that run and that wait, and says for what."""
    jobs = [make_job("failed", queue="noop") for _ in range(5)]
    assert dashboard.post("/dashboard/queues/noop", action="pause", reason="a deploy").status_code == 303
    begun = dashboard.post(OPERATIONS, action="retry", queue="noop", status="failed", canary="3")
    place = begun.headers["Location"]
    assert "The first 3 jobs are about to be queued" in dashboard.get(place).text
    BulkOperator(settings, database, lambda _seconds: None).run_once()
    waiting = dashboard.get(place)
    assert shown(waiting) == [job.id for job in jobs[:3]]
    assert "3 of the 3 canaries wait." in waiting.text
    assert "jobs run" not in waiting.text
    assert f"Job {jobs[0].id}</a> waits: the queue &#39;noop&#39; is paused" in waiting.text
    worker = make_job.worker(queues=["noop"])
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'running', worker_id = %(worker)s, started_at = now(), "
            "begun_at = now(), rank = NULL WHERE id = %(id)s",
            {"id": jobs[0].id, "worker": worker},
        )
    some = dashboard.live(place).text
    assert "1 of the 3 canaries runs, 2 of the 3 wait." in " ".join(some.split())


@pytest.mark.parametrize("status", ["failed", ""])
def test_all_that_failed_are_led_to_a_dry_run(
    dashboard: DashboardClient, make_job: JobFactory, status: str
) -> None:
    """Without a filter they are counted and shown, said to be all that there are, and then retried."""
    for _ in range(3):
        make_job("failed", queue="a")
    make_job("completed", queue="a")
    page = dashboard.get(f"{OPERATIONS}/new?status={status}&action=retry")
    assert page.status_code == 200
    assert re.search(r'id="matching">3<', page.text)
    assert "all jobs of the service that are failed" in page.text
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    begun = dashboard.post(OPERATIONS, **form)
    assert begun.status_code == 303, begun.text
    assert "of 3" in dashboard.get(begun.headers["Location"]).text


def test_fewer_jobs_than_canaries_are_all_canaries(
    settings: Settings, dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Where no job is left for later, nothing is said to follow, and as many are to complete as there are."""
    for _ in range(2):
        make_job("failed", queue="noop")
    begun = dashboard.post(OPERATIONS, action="retry", queue="noop", status="failed", canary="3")
    operator = BulkOperator(settings, database, lambda _seconds: None)
    for _ in range(3):
        operator.run_once()
    page = dashboard.get(begun.headers["Location"]).text
    assert "0 of 2 completed" in page
    assert "2 of the 2 canaries wait." in page
    assert "other jobs follow" not in page


def test_an_operation_is_aborted(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Its page says so."""
    make_job("failed", queue="a")
    begun = dashboard.post(OPERATIONS, action="retry", queue="a", status="failed", rate="0.5", canary="1")
    aborted = dashboard.post(f"{begun.headers['Location']}/abort")
    assert aborted.headers["Location"] == begun.headers["Location"]
    page = dashboard.get(begun.headers["Location"]).text
    assert "aborted" in page
    assert "0.5" in page


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"action": "retry", "queue": "a", "status": "failed", "rate": "fast"}, "expected a number"),
        ({"action": "retry", "queue": "a", "status": "failed", "rate": "-1"}, "jobs a second"),
        ({"action": "retry", "queue": "a", "status": "failed", "canary": "0"}, "expected 1 to 1000 jobs"),
        ({"action": "set_priority", "queue": "a", "status": "queued", "priority": ""}, "expected a number"),
        ({"action": "retry", "status": "failed"}, "a status alone"),
        ({"action": "delete", "queue": "a"}, "expected one of"),
    ],
)
def test_a_wrong_operation_is_told_in_its_form(
    dashboard: DashboardClient, said: dict[str, str], told: str
) -> None:
    """The form stays as it was filled, and nothing is begun."""
    page = dashboard.post(OPERATIONS, **said)
    assert page.status_code == 400
    assert told in html.unescape(page.text)
    assert "No operations yet" in dashboard.get(OPERATIONS).text


def test_the_action_follows_from_the_status(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Of waiting jobs it is a cancel; a status that does not fit an action is replaced by one that does."""
    make_job(queue="a")
    assert "Cancel all jobs that match" in dashboard.get(f"{OPERATIONS}/new?queue=a&status=queued").text
    page = dashboard.get(f"{OPERATIONS}/new?queue=a&status=queued&action=retry").text
    assert "Retry all jobs that match" in page
    assert '<option value="failed" selected>' in page


def test_read_only_shows_and_changes_nothing(
    settings: Settings, database: Database, runway: Runway, make_job: JobFactory
) -> None:
    """No form that changes something is shown, and none is accepted."""
    make_job("failed", queue="a")
    frozen = settings.model_copy(update={"dashboard_read_only": True})
    app = create_app(frozen, database=database, runway=runway, site=DASHBOARD)
    dashboard = DashboardClient(testing.TestClient(app))
    page = dashboard.get(JOBS)
    assert len(shown(page)) == 1
    assert 'method="post"' not in page.text
    assert "checkbox" not in page.text
    assert dashboard.get(f"{OPERATIONS}/new?queue=a").status_code == 403
    assert dashboard.post(OPERATIONS, action="retry", queue="a", status="failed").status_code == 403


def test_an_unknown_operation_is_not_found(dashboard: DashboardClient) -> None:
    """A page says so."""
    assert dashboard.get(f"{OPERATIONS}/4711").status_code == 404
