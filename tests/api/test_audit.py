"""The audit log: each change, by whom, from where, before and after; and nobody changes a line of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue import cli
from goqueue.access.keys import Keys
from goqueue.api.app import create_app
from goqueue.audit import audit_rows
from goqueue.audit.actor import Actor, ActorKind, acting_as, current_actor, set_actor_of_process
from goqueue.audit.audit_rows import AuditEntry, AuditFilter
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseRefusedError
from goqueue.instance import GoQueue
from goqueue.jobs import JobStatus
from goqueue.limits.pause_service import Pauses
from goqueue.scheduler.cleaner import Cleaner
from tests.support.dashboard.client import DashboardClient
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

QUEUE = noop_jobs.noop.queue_name
SCHEDULE = {"name": "nightly", "cron": "0 2 * * *", "queue": QUEUE, "payload": {"text": "secret"}}

ROWS = "SELECT coalesce(max(id), 0) FROM audit_log"


@pytest.fixture
def settings(module_settings: Settings) -> Settings:
    """A key is needed."""
    return module_settings.model_copy(update={"api_keys_required": True})


@pytest.fixture
def application(settings: Settings, database: Database, runway: Runway) -> Any:
    """API and dashboard."""
    return create_app(settings, database=database, runway=runway, site=DASHBOARD)


@pytest.fixture
def key(database: Database) -> str:
    """The key of an operator, who may do everything."""
    return Keys(database).create("olga", "admin").text


@pytest.fixture
def client(application: Any, key: str) -> testing.TestClient:
    """A client of the API with that key."""
    return testing.TestClient(application, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def browser(application: Any, key: str) -> DashboardClient:
    """A browser that signed in with it."""
    browser = DashboardClient(testing.TestClient(application))
    assert browser.post("/dashboard/login", key=key).status_code == 303
    return browser


@pytest.fixture
def noted(database: Database, client: testing.TestClient) -> Callable[[], list[AuditEntry]]:
    """What was noted since the test began, the oldest first."""
    del client
    with database.autocommit() as connection:
        last = int(connection.exec_driver_sql(ROWS).scalar_one())

    def read() -> list[AuditEntry]:
        with database.autocommit() as connection:
            found = audit_rows.page(connection, AuditFilter(), limit=1_000)
        return [entry for entry in reversed(found) if entry.id > last]

    return read


Do = Callable[[testing.TestClient, JobFactory], testing.Result]


def job_of(make_job: JobFactory, status: str = "queued") -> int:
    """A job to be changed."""
    return make_job(status, queue=QUEUE).id


#: Action → target, and what makes it. `{id}` stands for the id that the answer has.
CHANGES: dict[str, tuple[str, Do]] = {
    "queue.pause": (
        f"queue {QUEUE}",
        lambda client, _: client.simulate_post(f"/queues/{QUEUE}/pause", json={"reason": "a deploy"}),
    ),
    "queue.resume": (f"queue {QUEUE}", lambda client, _: client.simulate_post(f"/queues/{QUEUE}/resume")),
    "queue.settings": (
        f"queue {QUEUE}",
        lambda client, _: client.simulate_put(f"/queues/{QUEUE}", json={"concurrency": 3}),
    ),
    "queue.key": (
        f"queue {QUEUE} key k",
        lambda client, _: client.simulate_put(f"/queues/{QUEUE}/keys/k", json={"weight": 3}),
    ),
    "type.settings": (
        "type noop",
        lambda client, _: client.simulate_put("/types/noop", json={"concurrency": 3}),
    ),
    "type.declare": (
        "type imported",
        lambda client, _: client.simulate_put("/types/imported", json={"declared": {"schema": {}}}),
    ),
    "job.cancel": (
        "job {id}",
        lambda client, make_job: client.simulate_post(f"/jobs/{job_of(make_job)}/cancel"),
    ),
    "job.retry": (
        "job {id}",
        lambda client, make_job: client.simulate_post(f"/jobs/{job_of(make_job, 'failed')}/retry"),
    ),
    "job.edit": (
        "job {id}",
        lambda client, make_job: client.simulate_patch(
            f"/jobs/{job_of(make_job)}", json={"priority": 7, "payload": {"text": "secret"}}
        ),
    ),
    "schedule.create": (
        "schedule nightly",
        lambda client, _: client.simulate_post("/schedules", json=SCHEDULE),
    ),
    "operation.begin": (
        "operation {id}",
        lambda client, _: client.simulate_post(
            "/bulk-operations",
            json={"action": "retry", "filter": {"queue": QUEUE, "payload": "secret", "error": "secret"}},
        ),
    ),
    "key.create": (
        "key {id}",
        lambda client, _: client.simulate_post("/keys", json={"name": "shop", "scopes": ["client"]}),
    ),
}


@pytest.mark.parametrize("action", CHANGES)
def test_a_change_is_noted(
    client: testing.TestClient,
    make_job: JobFactory,
    noted: Callable[[], list[AuditEntry]],
    database: Database,
    action: str,
) -> None:
    """By whom, from where, and what; never what a payload holds."""
    target, do = CHANGES[action]
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"INSERT INTO queues (name) VALUES ('{QUEUE}') ON CONFLICT DO NOTHING")
    answer = do(client, make_job)
    assert answer.status_code in {200, 201, 202}, answer.text
    (entry,) = noted()
    assert entry.action == action
    assert entry.target == target.format(id=answer.json.get("id"))
    assert (entry.actor_kind, entry.actor, entry.address) == ("key", "olga", "127.0.0.1")
    assert entry.key_id == Keys(database).list()[-1].id
    assert entry.request_id == answer.headers["x-request-id"]
    assert "secret" not in str(entry)


def test_what_it_was_and_what_it_is(
    client: testing.TestClient, noted: Callable[[], list[AuditEntry]]
) -> None:
    """Of a second change, the first is what it was; the reason is as it was said."""
    for concurrency in (3, 5):
        client.simulate_put("/types/noop", json={"concurrency": concurrency})
    client.simulate_post("/schedules", json=SCHEDULE)
    put = {name: value for name, value in SCHEDULE.items() if name != "name"} | {"cron": "0 3 * * *"}
    assert client.simulate_put("/schedules/nightly", json=put).status_code == 200
    client.simulate_post("/schedules/nightly/pause", json={"reason": "holidays", "author": "olga"})
    client.simulate_post("/schedules/nightly/resume")
    client.simulate_post("/schedules/nightly/run")
    client.simulate_delete("/schedules/nightly")
    changes = [(entry.action, entry.before, entry.after, entry.reason) for entry in noted()]
    assert changes[1] == ("type.settings", {"concurrency": 3}, {"concurrency": 5}, None)
    assert changes[2][0] == "schedule.create"
    assert changes[3] == ("schedule.change", {"cron": "0 2 * * *"}, {"cron": "0 3 * * *"}, None)
    actions = [change[0] for change in changes[3:]]
    assert actions[-4:] == ["schedule.pause", "schedule.resume", "schedule.run", "schedule.delete"]
    assert changes[-4][3] == "holidays"


def test_many_at_once_are_one_line(
    client: testing.TestClient, make_job: JobFactory, noted: Callable[[], list[AuditEntry]]
) -> None:
    """With how many they were, and the ids of the first hundred."""
    ids = [make_job(JobStatus.FAILED, queue=QUEUE).id for _ in range(3)]
    assert client.simulate_post("/jobs/retry", json={"queue": QUEUE}).json == {"retried": 3}
    (entry,) = noted()
    assert (entry.action, entry.target) == ("job.retry", "jobs")
    assert entry.after["jobs"] == 3
    assert sorted(entry.after["ids"]) == ids


def test_what_changed_nothing_is_no_line(
    client: testing.TestClient, make_job: JobFactory, noted: Callable[[], list[AuditEntry]]
) -> None:
    """Neither a refusal, nor a read, nor a create."""
    done = make_job(JobStatus.COMPLETED)
    assert client.simulate_post(f"/jobs/{done.id}/cancel").status_code == 409
    assert client.simulate_post("/queues/nosuch/pause").status_code == 404
    assert client.simulate_put(f"/queues/{QUEUE}", json={"concurrency": -1}).status_code == 400
    assert client.simulate_get("/jobs", params={"queue": QUEUE}).status_code == 200
    assert client.simulate_post("/jobs", json={"queue": QUEUE, "payload": {}}).status_code == 201
    assert noted() == []


def test_pages_act_as_who_signed_in(
    browser: DashboardClient, make_job: JobFactory, noted: Callable[[], list[AuditEntry]]
) -> None:
    """A sign-in and its end are lines, and so is what is done between them."""
    job = make_job(JobStatus.FAILED, queue=QUEUE)
    browser.post(f"/dashboard/jobs/{job.id}/delete")
    waits = make_job(queue=QUEUE)
    browser.post("/dashboard/jobs/selected", action="set_priority", priority="5", **{f"job-{waits.id}": "1"})
    browser.post("/dashboard/logout")
    entries = [(entry.action, entry.target, entry.actor) for entry in noted()]
    assert entries[-3:] == [
        ("job.delete", f"job {job.id}", "olga"),
        ("job.priority", f"job {waits.id}", "olga"),
        ("session.end", "dashboard", "olga"),
    ]


def test_a_program_acts_as_itself(
    settings: Settings, database: Database, make_job: JobFactory, noted: Callable[[], list[AuditEntry]]
) -> None:
    """And, inside of a block, as whoever it says."""
    with GoQueue(settings, database=database) as goqueue:
        goqueue.cancel(make_job(queue=QUEUE).id)
        with acting_as(Actor(ActorKind.SYSTEM, "a migration of ours")):
            goqueue.cancel(make_job(queue=QUEUE).id)
    assert [(entry.actor_kind, entry.actor) for entry in noted()] == [
        (current_actor().kind.value, current_actor().name),
        ("system", "a migration of ours"),
    ]


def test_what_the_service_does_by_itself_is_noted(
    settings: Settings, database: Database, noted: Callable[[], list[AuditEntry]]
) -> None:
    """A pause that is over; of breakers, tests/integration/test_breakers.py."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO queues (name, paused_at, paused_until) "
            "VALUES ('q', now() - interval '1 hour', now())"
        )
    Pauses(settings, database, lambda _seconds: None).run_once()
    (entry,) = noted()
    assert (entry.action, entry.target, entry.reason) == ("queue.resume", "queue q", "its end has come")


def test_nobody_acts_for_another_after_an_answer(client: testing.TestClient) -> None:
    """The thread that answered a request acts as before, whatever became of the request."""
    before = current_actor()
    for path in ("/stats", "/nosuch", "/jobs/1"):
        client.simulate_get(path)
        assert current_actor() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "TRUNCATE public_audit.rest",
        "DELETE FROM public_audit.{month}",
        "UPDATE public_audit.{month} SET reason = 'none'",
        "TRUNCATE public_audit.{month}",
    ],
)
def test_nobody_changes_a_line(database: Database, statement: str) -> None:
    """Not even a superuser, whom privileges do not bind."""
    with database.autocommit() as connection:
        audit_rows.record(connection, "test.change", "nothing")
        month = connection.exec_driver_sql(
            "SELECT to_char(now() AT TIME ZONE 'UTC', '\"month_\"YYYY_MM')"
        ).scalar_one()
    with pytest.raises(DatabaseRefusedError, match="only written to"), database.autocommit() as connection:
        connection.exec_driver_sql(statement.format(month=month))


def test_the_owner_has_no_privilege_to_change_it(database: Database) -> None:
    """Of the table and each of its partitions."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "SELECT relname, (aclexplode(relacl)).privilege_type FROM pg_class "
            "WHERE oid = 'audit_log'::regclass "
            "OR relnamespace = 'public_audit'::regnamespace AND relkind = 'r'"
        ).all()
    privileges: dict[str, set[str]] = {}
    for name, privilege in rows:
        privileges.setdefault(name, set()).add(privilege)
    assert {"audit_log", "rest"} <= set(privileges)
    assert all("INSERT" in found for found in privileges.values())
    assert not any(found & {"UPDATE", "DELETE", "TRUNCATE"} for found in privileges.values())


def test_months_go_as_a_whole(settings: Settings, database: Database) -> None:
    """The cleaner drops those that are older than the retention, and makes those that come."""
    with database.autocommit() as connection:
        for back in (14, 1):
            connection.exec_driver_sql(f"SELECT goqueue_audit_partition(now() - interval '{back} months')")
            connection.exec_driver_sql(
                "INSERT INTO audit_log (noted_at, actor_kind, actor, action, target) "
                f"VALUES (now() - interval '{back} months', 'system', 'test', 'test.old', '{back}')"
            )
    counts = Cleaner(settings, database, lambda _seconds: None).run_once()
    assert counts["audit_months"] == 1
    with database.autocommit() as connection:
        kept = audit_rows.page(connection, AuditFilter(action="test.old"), limit=10)
        ahead = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
        ).scalar_one()
    assert [entry.target for entry in kept] == ["1"]
    # The rest, the last month, this one and three more.
    assert ahead >= 6


def test_a_month_that_is_missing_loses_nothing(database: Database) -> None:
    """What comes without its partition goes to the rest, and stays there when the month is made."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO audit_log (noted_at, actor_kind, actor, action, target) "
            "VALUES (now() + interval '7 months', 'system', 'test', 'test.late', 'x')"
        )
        audit_rows.make_ahead(connection, months=8)
        (entry,) = audit_rows.page(connection, AuditFilter(action="test.late"), limit=10)
    assert entry.target == "x"


def test_it_is_read_by_filters_and_pages(client: testing.TestClient) -> None:
    """The newest first; the next page is in the Link header, and lines are the same as JSON."""
    for concurrency in range(1, 6):
        client.simulate_put("/types/noop", json={"concurrency": concurrency})
    wanted = {"action": "type.settings", "target": "type noop", "actor": "olga", "limit": "2"}
    first = client.simulate_get("/audit", params=wanted)
    assert [entry["after"] for entry in first.json] == [{"concurrency": 5}, {"concurrency": 4}]
    second = client.simulate_get(first.headers["link"].partition(">")[0].lstrip("<"))
    assert [entry["after"] for entry in second.json] == [{"concurrency": 3}, {"concurrency": 2}]
    lines = client.simulate_get("/audit/lines", params=wanted)
    assert [json.loads(line) for line in lines.text.splitlines()] == first.json
    assert client.simulate_get("/audit", params={"since": "2100-01-01T00:00:00Z"}).json == []
    assert client.simulate_get("/audit", params={"since": "yesterday"}).status_code == 400
    assert client.simulate_get("/audit", params={"who": "olga"}).status_code == 400


def test_the_page_shows_and_filters(client: testing.TestClient, browser: DashboardClient) -> None:
    """With a file of JSON lines; a wrong date is told beside its field."""
    client.simulate_post(f"/queues/{QUEUE}/pause", json={"reason": "<b>a deploy</b>"})
    page = browser.get("/dashboard/audit?action=queue.pause").text
    assert "olga" in page
    assert "&lt;b&gt;a deploy&lt;/b&gt;" in page
    assert "None matches" in browser.get("/dashboard/audit?actor=nobody").text
    wrong = browser.get("/dashboard/audit?since=yesterday")
    assert wrong.status_code == 400
    assert 'class="wrong"' in wrong.text
    file = browser.get("/dashboard/audit.jsonl?action=queue.pause")
    assert "attachment" in file.headers["content-disposition"]
    assert json.loads(file.text.splitlines()[0])["action"] == "queue.pause"


def test_it_is_read_at_a_terminal(
    settings: Settings,
    client: testing.TestClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As lines for people, or as JSON for an archive."""
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)
    monkeypatch.setattr(cli, "set_actor_of_process", lambda _: None)
    client.simulate_put("/types/noop", json={"concurrency": 77})
    assert cli.main(["audit", "--action", "type.settings", "--limit", "1"]) == 0
    line = capsys.readouterr().out
    assert "olga (key " in line
    assert "type.settings  type noop" in line
    assert cli.main(["audit", "--action", "type.settings", "--json", "--days", "1"]) == 0
    newest = json.loads(capsys.readouterr().out.splitlines()[0])
    assert newest["after"] == {"concurrency": 77}


def test_a_terminal_acts_by_its_user(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is made there says so."""
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)
    before = current_actor()
    try:
        assert cli.main(["keys", "create", "shop", "client"]) == 0
    finally:
        set_actor_of_process(before)
    with database.autocommit() as connection:
        entry = audit_rows.page(connection, AuditFilter(action="key.create"), limit=1)[0]
    assert entry.actor_kind == "terminal"
    assert entry.address
