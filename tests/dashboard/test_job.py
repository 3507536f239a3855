"""The page of a job, and what can be done on it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.pages.job import ATTEMPTS_SHOWN, LINKS_SHOWN
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Connection, Database
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as reports
from goqueue.engine.create import insert_one
from goqueue.engine.report_rows import Line, Progress, Report
from goqueue.engine.runway.runway import Runway
from goqueue.insight import job_history_rows as job_history
from goqueue.jobs import CollectRule, Job, JobStatus, NewJob, UniqueMode, UniqueRule
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of
from tests.support.factories import JobFactory

Create = Callable[..., dict[str, Any]]

HOSTILE = "<script>alert(1)</script>' \" & \N{RIGHT-TO-LEFT OVERRIDE}\N{PILE OF POO} " + "w" * 300


def text_of(result: testing.Result) -> str:
    """What is written on a page, in one line a word apart."""
    assert result.status_code in {200, 400, 409, 404}, result.text
    return elements_of(result.text).text


def page(dashboard: DashboardClient, job_id: int) -> str:
    """What is written on the page of a job."""
    return text_of(dashboard.get(f"/dashboard/jobs/{job_id}"))


def row(database: Database, job_id: int) -> Job:
    """A job as it is."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id)


def attempt(database: Database, job_id: int, fence: int, outcome: str, **columns: Any) -> None:
    """Write an attempt that has ended."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "fence": fence,
        "attempt": fence,
        "outcome": outcome,
        "run_seconds": 2.0,
        "started_at": datetime.now(UTC) - timedelta(seconds=5),
        "finished_at": datetime.now(UTC) - timedelta(seconds=3),
    } | columns
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"INSERT INTO attempts ({names}) VALUES ({places})", values)


def say(database: Database, job_id: int, fence: int, *lines: str, progress: float) -> None:
    """Write what an attempt said."""
    said = [Line(number, line, 0.0) for number, line in enumerate(lines, 1)]
    report = Report(job_id, fence, Progress(progress, "half of it", 0.0), said)
    with database.autocommit() as connection:
        reports.write_progress(connection, [report])
        reports.write_lines(connection, [report])


# What is shown


def test_the_head_names_the_job(dashboard: DashboardClient, create: Create) -> None:
    """Type, id, state, queue, attempts, priority and key are on the page, with links to queue and type."""
    job = create(priority=7, concurrency_key="tenant-1", max_retries=2)
    result = dashboard.get(f"/dashboard/jobs/{job['id']}")
    written = text_of(result)
    assert f"noop job {job['id']} queued" in written
    assert "Attempts 0 of 3 Priority 7" in written
    assert "Key tenant-1" in written
    assert 'href="/dashboard/queues/noop"' in result.text
    assert 'href="/dashboard/types/noop"' in result.text


def test_a_job_that_is_not_there_has_a_page_that_says_so(dashboard: DashboardClient) -> None:
    """Its page, its files and its actions are a 404."""
    results = [
        dashboard.get("/dashboard/jobs/999"),
        dashboard.get("/dashboard/jobs/999/edit"),
        dashboard.get("/dashboard/jobs/999/files/payload.json"),
        dashboard.post("/dashboard/jobs/999/retry"),
        dashboard.post("/dashboard/jobs/999/cancel"),
        dashboard.post("/dashboard/jobs/999/clone"),
        dashboard.post("/dashboard/jobs/999/delete"),
    ]
    assert [result.status_code for result in results] == [404] * 7
    assert "there is no job 999" in text_of(results[0])


def test_a_waiting_job_says_why_it_does_not_run(
    dashboard: DashboardClient, create: Create, client: testing.TestClient
) -> None:
    """The blocker is told in words, with its evidence."""
    client.simulate_post("/queues/noop/pause", json={"reason": "the bank is closed"})
    written = page(dashboard, create()["id"])
    assert "Why is it not running?" in written
    assert "The queue 'noop' is paused" in written
    assert "the bank is closed" in written
    assert "No live worker listens to the queue 'noop'" in written


def test_a_job_that_collects_says_what_it_has(
    dashboard: DashboardClient, create: Create, database: Database
) -> None:
    """How many payloads it has and takes, until when; another job says nothing of that."""
    bounds = CollectRule("mails", seconds=600, max_payloads=1000, max_bytes=100_000)
    rule = UniqueRule("k", (JobStatus.QUEUED,), 600, mode=UniqueMode.COLLECT, collect=bounds)
    for _ in range(7):
        with database.transaction() as connection:
            job = insert_one(connection, NewJob("noop", "noop", '{"mails":[{}]}', unique=rule)).job
    written = page(dashboard, job.id)
    assert "Collected 7 of at most 1,000 payloads, until" in written
    assert "it collects payloads, and has 7 of at most 1,000" in written
    assert "Collected" not in page(dashboard, create(delay_seconds=600)["id"])


def test_a_job_that_its_key_blocks_has_a_page(
    dashboard: DashboardClient, create: Create, client: testing.TestClient
) -> None:
    """Whatever keeps the older job of its key, its page tells it, with a link to that job."""
    client.simulate_put("/queues/noop", json={"fifo": True})
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    older, younger = create(concurrency_key="a", available_at=later), create(concurrency_key="a")
    result = dashboard.get(f"/dashboard/jobs/{younger['id']}")
    assert result.status_code == 200
    assert "key blocked" in text_of(result)
    assert f'<a href="/dashboard/jobs/{older["id"]}">job {older["id"]}</a>' in result.text
    assert "it was created for then" in text_of(result)


def test_the_life_of_a_job_is_one_list(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Creation, attempts, waits and the end stand in the order of time."""
    job = make_job(
        "failed",
        attempts=2,
        fence=2,
        reason="failed",
        error="ValueError: no",
        max_retries=1,
        created_at=datetime.now(UTC) - timedelta(seconds=10),
    )
    now = datetime.now(UTC)
    attempt(
        database,
        job.id,
        1,
        "failed",
        error="OSError: first",
        started_at=now - timedelta(seconds=9),
        finished_at=now - timedelta(seconds=7),
    )
    attempt(
        database,
        job.id,
        2,
        "failed",
        error="ValueError: no",
        started_at=now - timedelta(seconds=4),
        finished_at=now,
    )
    written = page(dashboard, job.id)
    marks = ["Created", "Waited to start", "Attempt 1 failed", "OSError: first", "Waited to run again"]
    marks += ["Attempt 2 failed", "ValueError: no", "Failed no attempt is left"]
    life = written[written.index("Timeline") :]
    places = [life.index(mark) for mark in marks]
    assert places == sorted(places)


def test_progress_and_log_of_a_running_job(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """The live part has what the attempt has said so far."""
    job = make_job("running")
    say(database, job.id, 1, "first line", HOSTILE, progress=0.5)
    result = dashboard.live(f"/dashboard/jobs/{job.id}")
    written = text_of(result)
    assert "50 % half of it" in written
    assert "first line" in written
    assert HOSTILE in written
    assert "<script" not in result.text
    assert "<html" not in result.text
    assert "Why is it not running?" not in written


def test_the_live_part_is_known_while_nothing_happens(
    dashboard: DashboardClient, make_job: JobFactory
) -> None:
    """A poll of a job that has ended is answered with 304."""
    job = make_job("completed", result=json.dumps({"sent": 3}))
    place = f"/dashboard/jobs/{job.id}"
    first = dashboard.live(place)
    assert dashboard.live(place, If_None_Match=first.headers["ETag"]).status_code == 304
    assert "sent" in text_of(first)


def test_an_earlier_attempt_can_be_looked_at(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Each attempt has its own error, traceback and log; the latest is shown where none is named."""
    job = make_job("queued", attempts=2, fence=2)
    frame = '  File "/srv/app/jobs.py", line 3, in send\n    go()'
    trace = f"Traceback (most recent call last):\n{frame}\nOSError: one"
    attempt(database, job.id, 1, "failed", error="OSError: one", traceback=trace)
    attempt(database, job.id, 2, "failed", error="ValueError: two")
    say(database, job.id, 1, "said by the first", progress=0.25)
    latest, first = page(dashboard, job.id), text_of(dashboard.get(f"/dashboard/jobs/{job.id}?attempt=1"))
    assert "ValueError two" in latest
    assert "said by the first" not in latest
    assert "OSError one raised in jobs.py:3, in send" in first
    assert "said by the first" in first
    assert "ValueError two" in text_of(dashboard.get(f"/dashboard/jobs/{job.id}?attempt=77"))
    assert "ValueError two" in text_of(dashboard.get(f"/dashboard/jobs/{job.id}?attempt=%00x"))


def test_the_attempt_that_runs_is_shown_unless_another_is_asked_for(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Of a job that runs again, the earlier attempt is one click away."""
    job = make_job("running", attempts=2, fence=2)
    attempt(database, job.id, 1, "failed", error="OSError: one")
    place = f"/dashboard/jobs/{job.id}"
    assert "Attempt 2 of 4 runs" in text_of(dashboard.get(place))
    assert "Attempt 2 of 4 runs" in text_of(dashboard.get(f"{place}?attempt=2"))
    assert "Attempt 1 of 4 failed" in text_of(dashboard.get(f"{place}?attempt=1"))


def test_an_attempt_that_ends_while_it_is_read_is_told_once(
    dashboard: DashboardClient, make_job: JobFactory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the page is of one moment: nothing in it both runs and has ended, so no id is there twice."""
    job = make_job("running", attempts=1, fence=1)
    history_of = job_history.history_of

    def read(connection: Connection, job_id: int, *, limit: int) -> job_history.JobHistory:
        attempt(database, job_id, 1, "cancelled")
        return history_of(connection, job_id, limit=limit)

    monkeypatch.setattr(job_history, "history_of", read)
    shown = dashboard.get(f"/dashboard/jobs/{job.id}").text
    assert shown.count('id="time-attempt-1"') == 1
    assert "Attempt 1 runs" in shown or "Runs at a client" in shown


@pytest.mark.parametrize("step", ["history_of", "worker_names"])
def test_a_job_that_starts_while_it_is_read_is_queued_all_over_its_page(
    dashboard: DashboardClient,
    make_job: JobFactory,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Whenever a worker takes it, no page says "queued" beside "it runs since"."""
    worker, job = make_job.worker(), make_job()
    asked = getattr(job_history, step)

    def read(*args: Any, **options: Any) -> Any:
        with database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE jobs SET status = 'running', worker_id = %(worker)s, fence = 1, attempts = 1, "
                "started_at = now(), begun_at = now(), rank = NULL WHERE id = %(id)s",
                {"id": job.id, "worker": worker},
            )
        return asked(*args, **options)

    monkeypatch.setattr(job_history, step, read)
    written = page(dashboard, job.id)
    assert f"job {job.id} queued" in written
    assert "runs since" not in written.replace("It", "it")
    assert "Nothing keeps it from starting" in written
    assert f"job {job.id} running" in page(dashboard, job.id)


def test_a_job_that_ran_often_has_a_bounded_page(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """The newest attempts are listed, and that there were others."""
    job = make_job("queued", fence=300, available_at=datetime(2099, 1, 1, tzinfo=UTC))
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            """
            INSERT INTO attempts
                (job_id, fence, attempt, outcome, error, started_at, finished_at, run_seconds)
            SELECT %(id)s, fence, 1, 'snoozed', repeat('x', 100000), now() + make_interval(secs => fence),
                   now() + make_interval(secs => fence + 0.5), 0.5
            FROM generate_series(1, 300) AS fence
            """,
            {"id": job.id},
        )
    result = dashboard.get(f"/dashboard/jobs/{job.id}")
    assert len(result.text) < 200_000
    written = text_of(result)
    assert "Earlier attempts, which are not listed" in written
    assert written.count("Attempt 1 put itself off") == ATTEMPTS_SHOWN


def test_parents_and_children_are_shown_with_their_states(dashboard: DashboardClient, create: Create) -> None:
    """What it waits for and what waits for it, with links."""
    parent = create()
    child = create(depends_on=[parent["id"]])
    of_child, of_parent = page(dashboard, child["id"]), page(dashboard, parent["id"])
    assert f"Waits for Job Type Status Came to {parent['id']} noop queued it waits" in of_child
    assert "Blocked: waits for other jobs" in of_child
    assert f"{child['id']} noop blocked it fails" in of_parent
    assert f'href="/dashboard/jobs/{parent["id"]}"' in dashboard.get(f"/dashboard/jobs/{child['id']}").text


def test_versions_show_what_was_changed(
    dashboard: DashboardClient, create: Create, client: testing.TestClient
) -> None:
    """Each edit is a mark in the timeline, and a version with its differences."""
    job = create(payload={"number": 1})
    client.simulate_patch(f"/jobs/{job['id']}", json={"payload": {"number": 2}, "author": "ada"})
    written = page(dashboard, job["id"])
    assert "Edited: version 2 by ada" in written
    assert "/payload/number 1 → 2" in written


def test_text_from_outside_stays_text(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Nothing of a job is markup: not its names, its payload, its result, its error, nor its log."""
    job = make_job(
        "failed",
        queue=HOSTILE,
        type=HOSTILE,
        payload={HOSTILE: [HOSTILE]},
        result=json.dumps(HOSTILE),
        error=HOSTILE,
        reason="failed",
        concurrency_key=HOSTILE,
        unique_key=HOSTILE,
        attempts=1,
        fence=1,
    )
    attempt(database, job.id, 1, "failed", error=HOSTILE, traceback=HOSTILE)
    say(database, job.id, 1, HOSTILE, progress=1.0)
    result = dashboard.get(f"/dashboard/jobs/{job.id}")
    assert result.status_code == 200
    assert "<script>alert" not in result.text
    assert " style=" not in result.text
    assert text_of(result).count("<script>alert(1)</script>") > 8


def test_a_large_payload_makes_no_large_page(dashboard: DashboardClient, create: Create) -> None:
    """Of a payload of a MiB the page has the first entries, and its file has all of it."""
    payload = {"anything": [{"<b>": [number, "&" * 20]} for number in range(24_000)]}
    assert 900_000 < len(json.dumps(payload)) < 1_048_576
    job = create(payload=payload)
    result = dashboard.get(f"/dashboard/jobs/{job['id']}")
    assert len(result.text) < 600_000
    assert "… 23,800 more" in text_of(result)
    assert dashboard.get(f"/dashboard/jobs/{job['id']}/files/payload.json").json == payload


# What can be done


def test_retry_queues_a_failed_job_again(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """It is queued with its attempts counted anew, and the page says so."""
    job = make_job("failed", attempts=1, fence=1, queue="noop")
    result = dashboard.post(f"/dashboard/jobs/{job.id}/retry")
    assert (result.status_code, result.headers["Location"]) == (303, f"/dashboard/jobs/{job.id}")
    assert (row(database, job.id).status, row(database, job.id).attempts) == ("queued", 0)
    assert f"Job {job.id} is queued again." in page(dashboard, job.id)
    assert f"Job {job.id} is queued again." not in page(dashboard, job.id)


def test_cancel_ends_a_waiting_job_and_asks_for_a_running_one(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """What a worker runs is only asked for, which the timeline shows."""
    waiting, running = make_job(), make_job("running")
    for job in (waiting, running):
        assert dashboard.post(f"/dashboard/jobs/{job.id}/cancel").status_code == 303
    assert row(database, waiting.id).status == "cancelled"
    assert row(database, running.id).cancel_requested_at is not None
    written = page(dashboard, running.id)
    assert f"The worker of job {running.id} was asked to stop it." in written
    assert "Asked to stop" in written


def test_edit_changes_a_waiting_job(dashboard: DashboardClient, create: Create, database: Database) -> None:
    """Payload, priority and start become what the form says; the version is the dashboard's."""
    job = create(payload={"number": 1})
    form = dashboard.get(f"/dashboard/jobs/{job['id']}/edit").text
    assert unescape(form).count('"number": 1') == 1
    result = dashboard.post(
        f"/dashboard/jobs/{job['id']}/edit",
        payload='{"number": 2}',
        priority="5",
        available_at="2033-01-01T10:00:00",
    )
    assert result.status_code == 303, text_of(result)
    now = row(database, job["id"])
    assert (now.payload, now.priority) == ({"number": 2}, 5)
    assert now.available_at == datetime(2033, 1, 1, 10, tzinfo=UTC)
    assert "Version 2 as it is by dashboard" in page(dashboard, job["id"])
    assert 'value="2033-01-01T10:00:00"' in dashboard.get(f"/dashboard/jobs/{job['id']}/edit").text


def test_a_form_that_says_nothing_new_changes_nothing(
    dashboard: DashboardClient, create: Create, client: testing.TestClient
) -> None:
    """No version is made of it."""
    job = create(payload={"number": 1}, delay_seconds=1000)
    place = f"/dashboard/jobs/{job['id']}/edit"
    found = re.search(r'name="available_at" step="1" value="([^"]+)"', dashboard.get(place).text)
    assert found
    dashboard.post(place, payload='{ "number": 1 }', priority="0", available_at=found[1])
    assert "Nothing was changed." in page(dashboard, job["id"])
    assert len(client.simulate_get(f"/jobs/{job['id']}/versions").json) == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"payload": "{"}, "malformed JSON"),
        ({"payload": "[1]"}, "Input should be a valid dictionary"),
        ({"payload": '{"number": "x"}'}, "number: Input should be a valid integer"),
        ({"payload": '{"number": 1, "number": 2}'}, "expected each name once"),
        ({"priority": "high"}, "expected a whole number"),
        ({"priority": "101"}, "Input should be less than or equal to 100"),
        ({"available_at": "tomorrow"}, "expected a date and a time"),
        ({"available_at": "9999-99-01T10:00:00"}, "expected a date and a time"),
        ({"payload": json.dumps({"text": "x" * 1_100_000})}, "expected at most 1,048,576 bytes"),
    ],
    ids=["malformed", "list", "schema", "twice", "word", "range", "tomorrow", "month", "large"],
)
def test_a_wrong_value_is_told_beside_its_field(
    dashboard: DashboardClient,
    create: Create,
    database: Database,
    fields: dict[str, str],
    told: str,
) -> None:
    """The form comes back with what was written in it; nothing is changed."""
    job = create(payload={"number": 1})
    before = row(database, job["id"])
    values = {"payload": '{"number": 3}', "priority": "1", "available_at": ""} | fields
    result = dashboard.post(f"/dashboard/jobs/{job['id']}/edit", **values)
    assert result.status_code == 400
    written = text_of(result)
    assert told in written
    assert "Nothing was changed" in written
    (name,) = fields
    assert 'aria-invalid="true"' in result.text
    assert fields[name] in unescape(result.text)
    assert row(database, job["id"]) == before


def test_a_failed_job_is_edited_and_run_again(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """It is queued with the new payload."""
    job = make_job("failed", type="noop", queue="noop", payload={"number": 1}, attempts=1, fence=1)
    result = dashboard.post(
        f"/dashboard/jobs/{job.id}/edit", payload='{"number": 2}', priority="0", available_at=""
    )
    assert result.status_code == 303, text_of(result)
    now = row(database, job.id)
    assert (now.status, now.payload, now.attempts) == ("queued", {"number": 2}, 0)


def test_a_clone_is_a_new_job_like_it(dashboard: DashboardClient, create: Create, database: Database) -> None:
    """What was said of the job is said of the new one, which is created as the API creates jobs."""
    said: dict[str, Any] = {"payload": {"number": 4}, "priority": 3, "max_retries": 1, "rate_cost": 2}
    job = create(**said, concurrency_key="k", ttl_seconds=100, time_limit_seconds=9, tags=["a", "b/c"])
    result = dashboard.post(f"/dashboard/jobs/{job['id']}/clone")
    new_id = int(result.headers["Location"].rpartition("/")[2])
    assert new_id != job["id"]
    clone = row(database, new_id)
    assert {name: getattr(clone, name) for name in said} == said
    assert (clone.concurrency_key, clone.time_limit_seconds) == ("k", 9)
    assert sorted(clone.tags) == ["a", "b/c"]
    assert clone.expires_at is not None
    assert (clone.expires_at - clone.created_at).total_seconds() == pytest.approx(100)
    result = dashboard.get(f"/dashboard/jobs/{new_id}")
    assert f"Job {new_id} was created like job {job['id']}." in text_of(result)
    assert 'href="/dashboard/jobs?tag=b%2Fc"' in result.text


def test_a_clone_waits_for_all_that_the_job_waits_for(
    dashboard: DashboardClient, create: Create, database: Database
) -> None:
    """Also for the parents that its page does not list."""
    parents = [create()["id"] for _ in range(LINKS_SHOWN + 2)]
    job = create(depends_on=parents, on_parent_failure="run")
    assert "There are more:" in page(dashboard, job["id"])
    result = dashboard.post(f"/dashboard/jobs/{job['id']}/clone")
    with database.autocommit() as connection:
        links = dependency_lists.parents_of(connection, int(result.headers["Location"].rpartition("/")[2]))
    assert [(link.id, link.on_parent_failure) for link in links] == [(found, "run") for found in parents]


def test_a_clone_meets_the_holder_of_its_unique_key(
    dashboard: DashboardClient, create: Create, rows: Callable[[], int]
) -> None:
    """Nothing is created, and the page says whose the key is."""
    job = create(unique={"key": "only-one"})
    result = dashboard.post(f"/dashboard/jobs/{job['id']}/clone")
    assert result.headers["Location"] == f"/dashboard/jobs/{job['id']}"
    assert "Nothing was created" in page(dashboard, job["id"])
    assert rows() == 1


def test_delete_forgets_a_job_that_has_ended(
    dashboard: DashboardClient, make_job: JobFactory, rows: Callable[[], int]
) -> None:
    """It is gone, and so is its page."""
    job = make_job("completed")
    assert dashboard.post(f"/dashboard/jobs/{job.id}/delete").headers["Location"] == "/dashboard/jobs"
    assert rows() == 0
    assert dashboard.get(f"/dashboard/jobs/{job.id}").status_code == 404


@pytest.mark.parametrize(
    ("action", "status", "told"),
    [
        ("retry", "completed", "is completed: it cannot become queued"),
        ("retry", "running", "is running: it cannot become queued"),
        ("cancel", "failed", "is failed: it cannot become cancelled"),
        ("edit", "running", "is running: it cannot become edited"),
        ("delete", "queued", "is queued: it cannot become deleted"),
    ],
)
def test_what_a_state_does_not_allow_is_said(
    dashboard: DashboardClient, make_job: JobFactory, action: str, status: str, told: str
) -> None:
    """A form of a page that was open for too long is answered with a 409 that says what the job is."""
    job = make_job(status)
    result = dashboard.post(f"/dashboard/jobs/{job.id}/{action}", payload="{}", priority="0")
    assert result.status_code == 409
    assert told in text_of(result)


@pytest.mark.parametrize(
    ("status", "actions"),
    [
        ("queued", {"edit", "cancel", "clone"}),
        ("running", {"cancel", "clone"}),
        ("failed", {"retry", "edit", "clone", "delete"}),
        ("completed", {"clone", "delete"}),
    ],
)
def test_only_what_the_state_allows_is_offered(
    dashboard: DashboardClient, make_job: JobFactory, status: str, actions: set[str]
) -> None:
    """Each state has its own buttons."""
    job = make_job(status)
    found = re.findall(rf'"/dashboard/jobs/{job.id}/(\w+)"', dashboard.get(f"/dashboard/jobs/{job.id}").text)
    assert set(found) == actions


def test_a_read_only_dashboard_offers_nothing(
    settings: Settings, database: Database, runway: Runway, make_job: JobFactory
) -> None:
    """No form is on the page, and none is accepted."""
    changed = settings.model_copy(update={"dashboard_read_only": True})
    app = create_app(changed, database=database, runway=runway, site=DASHBOARD)
    dashboard = DashboardClient(testing.TestClient(app))
    job = make_job("failed")
    result = dashboard.get(f"/dashboard/jobs/{job.id}")
    assert result.status_code == 200
    assert '<form method="post" action="/dashboard/jobs' not in result.text
    assert f"/dashboard/jobs/{job.id}/edit" not in result.text
    assert dashboard.get(f"/dashboard/jobs/{job.id}/edit").status_code == 403


# Create it again


def test_the_commands_create_it_again(
    dashboard: DashboardClient, create: Create, client: testing.TestClient
) -> None:
    """The body of the curl is taken by the API as it is."""
    job = create(payload={"text": 'it\'s "$(rm -rf /)" `x` \\ \n \N{RIGHT-TO-LEFT OVERRIDE}'}, priority=2)
    written = dashboard.get(f"/dashboard/jobs/{job['id']}/files/create.sh").text
    words = shlex.split(written)
    assert words[0] == "curl"
    body = json.loads(words[words.index("-d") + 1])
    again = client.simulate_post("/jobs/create", json=body)
    assert again.status_code == 201, again.text
    assert again.json["payload"] == job["payload"]
    assert "from tests.support.jobs.noop_jobs import noop" in text_of(
        dashboard.get(f"/dashboard/jobs/{job['id']}")
    )
