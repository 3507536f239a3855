"""The pages of the schedules: what they tell, and pausing, running, making and deleting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import JobStatus, NewJob, UniqueRule
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.rules import ScheduleDefinition, Source
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PLACE = "/dashboard/schedules"
HOSTILE = "<script>alert(1)</script>' \" & \N{RIGHT-TO-LEFT OVERRIDE}\N{PILE OF POO}/%2F?#" + "w" * 300

Make = Callable[..., int]


def text_of(result: testing.Result, status: int = 200) -> str:
    """What is written on a page, in one line."""
    assert result.status_code == status, result.text
    return elements_of(result.text).text


@pytest.fixture
def make(database: Database) -> Make:
    """Makes a schedule, and tells its id; members of its definition may be given."""

    def make(name: str = "nightly", cron: str = "30 2 * * 1-5", **members: Any) -> int:
        job = members.pop("job", NewJob("noop", "noop", '{"number":7}'))
        return scheduling.create(database, ScheduleDefinition(name, cron, job, **members)).id

    return make


def decide(
    database: Database, schedule_id: int, outcome: str, job_id: int | None = None, age: int = 0
) -> None:
    """Write what became of a tick so many minutes ago."""
    sql = """INSERT INTO schedule_ticks (schedule_id, nominal_at, outcome, job_id)
             VALUES (%(id)s, now() - make_interval(mins => %(age)s), %(outcome)s, %(job)s)"""
    with database.autocommit() as connection:
        values = {"id": schedule_id, "age": age, "outcome": outcome, "job": job_id}
        connection.exec_driver_sql(sql, values)


def paused(database: Database, name: str = "nightly") -> tuple[bool, str | None, str | None]:
    """Whether a schedule is paused, why, and by whom."""
    with database.autocommit() as connection:
        found = schedule_store.get(connection, name)
    return found.paused_at is not None, found.pause_reason, found.paused_by


# The list


def test_no_schedule_says_how_to_make_one(dashboard: DashboardClient) -> None:
    """Where there is none, the page says how one is made, over REST and in code."""
    told = text_of(dashboard.get(PLACE))
    assert "No schedules yet" in told
    assert "curl http" in told
    assert "@goqueue.cron(" in told


def test_the_list_tells_lines_in_words(dashboard: DashboardClient, make: Make) -> None:
    """Each schedule stands there with its line in plain words and its next fires, exact on hover."""
    make(timezone="Europe/Berlin")
    result = dashboard.get(PLACE)
    assert "at 02:30 on Monday to Friday, Europe/Berlin" in text_of(result)
    assert (
        len(re.findall(r'<li id="fire-\d+-\d"><span title="[^"]* 02:30 CES?T"><time datetime=', result.text))
        == 3
    )


def test_a_strip_shows_what_became_of_the_last_ticks(
    dashboard: DashboardClient, make: Make, make_job: JobFactory, database: Database
) -> None:
    """Each tick is a bar in the colour of its job's state, with a title; readers hear the sum."""
    schedule_id = make()
    for age, status in enumerate(("completed", "failed", "completed", "running"), 1):
        decide(database, schedule_id, "fired", make_job(status).id, age)
    decide(database, schedule_id, "missed", age=5)
    decide(database, schedule_id, "fired", 10**12, age=6)
    strip = re.search(r'<svg class="strip".*?</svg>', dashboard.get(PLACE).text, re.DOTALL)
    assert strip
    tones = re.findall(r'rect class="(\w+)"', strip[0])
    assert tones == ["quiet", "warn", "info", "good", "bad", "good"]
    assert 'aria-label="The last 6 ticks: 2 completed, ' in strip[0]
    assert re.search(r"<title>[\d: -]+ UTC: failed</title>", strip[0])


def test_the_list_comes_in_pages(dashboard: DashboardClient, make: Make) -> None:
    """Fifty schedules are shown at once; a link leads to the others."""
    for number in range(52):
        make(f"schedule-{number:02}")
    first = dashboard.get(PLACE).text
    assert first.count("data-row") == 50
    link = re.search(r'href="(/dashboard/schedules\?after=[^"]+)"', first)
    assert link
    rest = dashboard.get(unescape(link[1]))
    assert rest.text.count("data-row") == 2
    assert "schedule-51" in rest.text


def test_the_live_part_costs_nothing_while_nothing_changes(dashboard: DashboardClient, make: Make) -> None:
    """A poll that knows the answer gets a 304."""
    make()
    answer = dashboard.live(PLACE)
    assert "<html" not in answer.text
    assert dashboard.live(PLACE, If_None_Match=answer.headers["etag"]).status_code == 304


# One schedule


def test_the_page_of_one_tells_blackouts(dashboard: DashboardClient) -> None:
    """The next ten fires are marked where a blackout holds them; its definition and payload stand there."""
    blackouts = [{"start": "00:00", "end": "06:00", "days": ["sat", "sun"]}]
    members = {"name": "nightly", "cron": "30 2 * * *", "queue": "noop", "payload": {"number": 7}}
    body = json.dumps(members | {"blackouts": blackouts})
    headers = {"Content-Type": "application/json"}
    assert dashboard.client.simulate_post("/schedules", body=body, headers=headers).status_code == 201
    result = dashboard.get(f"{PLACE}/nightly")
    told = text_of(result)
    assert len(re.findall(r'<tr id="fire-\d+">', result.text)) == 10
    assert 2 <= told.count("blackout: does not fire") <= 4
    assert "00:00 to 06:00 from sat, sun" in told
    assert '"number"' in told


def test_clock_changes_are_marked(dashboard: DashboardClient, make: Make) -> None:
    """A fire whose time the clock skips is marked as moved, one whose time comes twice as the first."""
    make(cron="30 2 * 3,10 7L", timezone="Europe/Berlin")
    told = text_of(dashboard.get(f"{PLACE}/nightly"))
    assert "moved from 02:30, which the clock skips" in told
    assert "the first of two" in told


def test_the_history_links_to_jobs(
    dashboard: DashboardClient, make: Make, make_job: JobFactory, database: Database
) -> None:
    """Each decided tick stands there with its outcome, and a link to its job where there still is one."""
    schedule_id = make()
    job = make_job("failed")
    decide(database, schedule_id, "fired", job.id, age=1)
    decide(database, schedule_id, "overlapped", age=2)
    decide(database, schedule_id, "fired", 10**12, age=3)
    result = dashboard.get(f"{PLACE}/nightly")
    assert f'href="/dashboard/jobs/{job.id}"' in result.text
    assert f"/dashboard/jobs/{10**12}" not in result.text
    assert {"failed", "overlapped", "job deleted"} <= set(
        re.findall(r'class="badge [^"]*">([^<]*)<', result.text)
    )


def test_the_history_comes_in_pages(dashboard: DashboardClient, make: Make, database: Database) -> None:
    """Fifty ticks are shown at once; a link leads to the older ones."""
    schedule_id = make()
    for age in range(53):
        decide(database, schedule_id, "missed", age=age)
    text = dashboard.get(f"{PLACE}/nightly").text
    assert text.count('id="tick-') == 50
    link = re.search(r'href="([^"]+\?before=[^"]+)#history"', text)
    assert link
    assert dashboard.get(unescape(link[1])).text.count('id="tick-') == 3


def test_a_schedule_that_is_not_there_is_a_404(dashboard: DashboardClient) -> None:
    """Its page says so, also of a name that none can have."""
    assert dashboard.get(f"{PLACE}/%00").status_code == 404
    assert dashboard.get(f"{PLACE}?after=%00").status_code == 200
    assert "there is no schedule" in text_of(dashboard.get(f"{PLACE}/gone"), 404)


# Actions


def test_pausing_and_resuming(dashboard: DashboardClient, make: Make, database: Database) -> None:
    """A pause keeps its reason and who asked; the page says both; a resume takes it back."""
    make()
    result = dashboard.post(f"{PLACE}/nightly", action="pause", reason="month end", author="ada")
    assert (result.status_code, result.headers["location"]) == (303, f"{PLACE}/nightly")
    assert paused(database) == (True, "month end", "ada")
    assert "by ada : month end" in text_of(dashboard.get(f"{PLACE}/nightly"))
    assert "month end" in text_of(dashboard.get(PLACE))
    assert dashboard.post(f"{PLACE}/nightly", action="resume").status_code == 303
    assert paused(database) == (False, None, None)


def test_a_wrong_reason_is_told_beside_its_field(
    dashboard: DashboardClient, make: Make, database: Database
) -> None:
    """A reason that is too long answers with the page, and nothing is paused."""
    make()
    result = dashboard.post(f"{PLACE}/nightly", action="pause", reason="x" * 501)
    assert "reason: String should have at most 500 characters" in text_of(result, 400)
    assert 'aria-describedby="wrong-reason"' in result.text
    assert not paused(database)[0]


def test_running_now_leads_to_the_job(dashboard: DashboardClient, make: Make, database: Database) -> None:
    """A run creates the job, goes to its page, and is in the history as made by hand."""
    schedule_id = make()
    result = dashboard.post(f"{PLACE}/nightly", action="run")
    with database.autocommit() as connection:
        (tick,) = tick_store.page(connection, schedule_id, before=None, limit=10)
    assert result.headers["location"] == f"/dashboard/jobs/{tick.job_id}"
    assert "by hand" in text_of(dashboard.get(f"{PLACE}/nightly"))


def test_deleting(dashboard: DashboardClient, make: Make) -> None:
    """A deleted schedule is gone from the list."""
    make()
    assert dashboard.post(f"{PLACE}/nightly", action="delete").headers["location"] == PLACE
    told = text_of(dashboard.get(PLACE))
    assert "The schedule nightly is deleted" in told
    assert "No schedules yet" in told


def test_an_unknown_action_is_refused(dashboard: DashboardClient, make: Make) -> None:
    """What is none of the four does nothing."""
    make()
    assert dashboard.post(f"{PLACE}/nightly", action="explode").status_code == 400


def test_a_read_only_dashboard_has_no_forms(
    settings: Settings, database: Database, runway: Runway, make: Make
) -> None:
    """It shows the schedules and offers no change; one that is sent all the same is refused."""
    make()
    app = create_app(
        settings.model_copy(update={"dashboard_read_only": True}),
        database=database,
        runway=runway,
        site=DASHBOARD,
    )
    reader = DashboardClient(testing.TestClient(app))
    for path in (PLACE, f"{PLACE}/nightly"):
        assert '<form method="post"' not in reader.get(path).text
    assert reader.get("/dashboard/schedules-edit").status_code == 403
    sent = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    answer = reader.client.simulate_post(f"{PLACE}/nightly", body="action=pause", headers=sent)
    assert answer.status_code == 403
    assert not paused(database)[0]


# The form

TYPED = {
    "name": "sales",
    "cron": "0 6 * * mon",
    "timezone": "Europe/Berlin",
    "queue": "noop",
    "payload": '{"number": 1}',
    "overlap": "skip",
    "catch_up": "all",
    "more": '{"jitter_seconds": 60.0, "priority": 3}',
}


def test_a_schedule_is_made_by_the_form(dashboard: DashboardClient, database: Database) -> None:
    """What is typed becomes a schedule, as a create over REST makes it; empty fields are the defaults."""
    assert 'name="cron"' in dashboard.get("/dashboard/schedules-edit").text
    result = dashboard.post("/dashboard/schedules-edit", **TYPED, type="")
    assert result.headers["location"] == f"{PLACE}/sales"
    with database.autocommit() as connection:
        made = schedule_store.get(connection, "sales").definition
    assert (made.cron, made.timezone, made.overlap.value, made.catch_up.value) == (
        "0 6 * * mon",
        "Europe/Berlin",
        "skip",
        "all",
    )
    assert (made.jitter_seconds, made.job.priority, made.job.type) == (60.0, 3, "noop")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "white space", "name:"),
        ("cron", "61 * * * *", "cron: expected five fields"),
        ("timezone", "Nowhere", "timezone: expected an IANA time zone"),
        ("payload", "{", "payload:"),
        ("payload", "[]", "payload: expected a JSON object"),
        ("payload", '{"number": "x"}', "payload.number:"),
        ("more", '{"jitter": 1}', "jitter:"),
        ("queue", "", "queue:"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(dashboard: DashboardClient, field: str, value: str, told: str) -> None:
    """A wrong value shows the form again, as it was typed, with what was expected; nothing is made."""
    result = dashboard.post("/dashboard/schedules-edit", **TYPED | {field: value})
    assert told in text_of(result, 400)
    assert "0 6 * * mon" in result.text or field == "cron"
    assert "No schedules yet" in dashboard.get(PLACE).text


def test_a_taken_name_is_told(dashboard: DashboardClient, make: Make) -> None:
    """A new schedule does not replace one of its name."""
    make("sales")
    assert "there is a schedule 'sales' already" in text_of(
        dashboard.post("/dashboard/schedules-edit", **TYPED), 409
    )


def test_saving_the_form_of_a_schedule_changes_only_what_was_changed(
    dashboard: DashboardClient, make: Make, database: Database
) -> None:
    """The form shows all of a schedule: saved with another line, everything else stays as it was."""
    unique = UniqueRule("one", (JobStatus.QUEUED,), window_seconds=60.0)
    job = NewJob(
        "noop",
        "noop",
        '{"number":7}',
        priority=5,
        max_retries=9,
        ttl_seconds=60.0,
        concurrency_key="k",
        unique=unique,
    )
    make(job=job, jitter_seconds=5.0, catch_up_max=7)
    with database.autocommit() as connection:
        before = schedule_store.get(connection, "nightly").definition
    form = dashboard.get("/dashboard/schedules-edit?name=nightly").text
    (shown,) = (one for one in elements_of(form).all("form") if "cron" in one.fields)
    typed = {name: value for name, value in shown.fields.items() if name != "csrf"}
    result = dashboard.post(
        "/dashboard/schedules-edit", **typed | {"old_name": "nightly", "cron": "0 5 * * *"}
    )
    assert result.status_code == 303, result.text
    with database.autocommit() as connection:
        after = schedule_store.get(connection, "nightly").definition
    assert after.cron == "0 5 * * *"
    assert [name for name in before.__slots__ if getattr(before, name) != getattr(after, name)] == ["cron"]


def test_what_is_declared_in_code_is_changed_there(dashboard: DashboardClient, make: Make) -> None:
    """A schedule of the code has no form: the next start would undo it."""
    make(source=Source.CODE)
    assert "schedules-edit" not in dashboard.get(f"{PLACE}/nightly").text
    assert "declared in code" in text_of(dashboard.get("/dashboard/schedules-edit?name=nightly"), 409)


# Hostile text


def test_hostile_text_is_text(dashboard: DashboardClient, make: Make, database: Database) -> None:
    """Names, reasons and payloads from elsewhere are shown as they are, and their pages can be reached."""
    make("victim", job=NewJob("noop", "noop", json.dumps({HOSTILE: HOSTILE})))
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET name = %(text)s, type = %(text)s, queue = %(text)s, paused_at = now(), "
            "pause_reason = %(text)s, paused_by = %(text)s, next_at = NULL, due_at = NULL",
            {"text": HOSTILE},
        )
    listed = dashboard.get(PLACE)
    place = re.search(r'href="(/dashboard/schedules/[^"]+)"', listed.text)
    assert place
    one = dashboard.get(unescape(place[1]))
    assert one.status_code == 200
    for result in (listed, one):
        assert "<script>alert" not in result.text
        assert "&lt;script&gt;alert(1)" in result.text
