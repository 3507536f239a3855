"""Types that are declared over REST: every door that creates jobs knows them, in every process."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from pydantic import SecretStr
from sqlalchemy import Connection

import goqueue
from goqueue import cli
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseUnavailableError, InvalidJobError
from goqueue.instance import GoQueue
from goqueue.jobs import RetryPolicy
from goqueue.remote import declared_type_rows, declared_types
from goqueue.remote.declared_types import TypeDirectory
from tests.api.test_service import assert_described
from tests.support.dashboard.client import DashboardClient
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string"}, "passes": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}
DECLARED: dict[str, Any] = {"schema": SCHEMA, "queue": "videos", "max_retries": 5, "time_limit_seconds": 90}
JOB = {"queue": "videos", "type": "transcode", "payload": {"file": "a.mov"}}
WRONG = {"payload.file": "Field required", "payload.passes": "the value is less than the minimum of 1"}


@pytest.fixture
def program(settings: Settings, database: Database, runway: Runway) -> GoQueue:
    """Another process, that declares other types in Python."""
    return GoQueue(settings, database=database, runway=runway)


def declare(client: testing.TestClient, status: int = 200, /, name: str = "transcode", **members: Any) -> Any:
    """The answer of a PUT that declares a type."""
    result = client.simulate_put(f"/types/{name}", json={"declared": DECLARED | members})
    assert result.status_code == status, result.text
    return result.json


def test_a_type_is_declared_listed_and_removed(client: testing.TestClient) -> None:
    """GET /types shows it beside those of Python code, and says by whom; DELETE takes it back."""
    made = declare(client)
    assert made["declared"]["by"] == "anybody"
    assert (made["queue"], made["max_retries"], made["time_limit_seconds"]) == ("videos", 5, 90)
    assert (made["min_backoff_seconds"], made["payload_schema"]) == (1, SCHEMA)
    result = client.simulate_get("/types/transcode")
    assert result.json == made
    assert_described(client, "get", "/types/{name}", result)
    listed = {one["name"]: one for one in client.simulate_get("/types").json}
    assert (listed["transcode"], listed["noop"]["declared"]) == (made, None)
    assert "videos" in [one["name"] for one in client.simulate_get("/queues").json]
    assert client.simulate_delete("/types/transcode").status_code == 204
    assert client.simulate_get("/types/transcode").status_code == 404
    assert client.simulate_delete("/types/transcode").status_code == 404


def test_a_declaration_replaces_the_one_before_as_a_whole(client: testing.TestClient) -> None:
    """What a second one does not say is the default again; limits of the type stay as they are."""
    declare(client)
    client.simulate_put("/types/transcode", json={"concurrency": 3})
    changed = client.simulate_put("/types/transcode", json={"declared": {"schema": {}}}).json
    assert (changed["queue"], changed["max_retries"], changed["concurrency"]) == ("default", 3, 3)
    both = client.simulate_put("/types/transcode", json={"declared": DECLARED, "concurrency": 4}).json
    assert (both["queue"], both["concurrency"]) == ("videos", 4)


def test_every_door_of_rest_checks_its_payload(client: testing.TestClient) -> None:
    """A create, a batch, a chain and a schedule refuse a wrong payload as they do a pydantic type's."""
    declare(client)
    wrong = JOB | {"payload": {"passes": 0}}
    doors = {
        "": client.simulate_post("/jobs/create", json=wrong),
        "jobs[1].": client.simulate_post("/jobs/batch", json={"jobs": [JOB, wrong]}),
        "then[0].": client.simulate_post("/jobs/create", json=JOB | {"then": [wrong]}),
        "job.": client.simulate_post("/schedules", json={"name": "n", "cron": "@daily", **wrong}),
    }
    for prefix, result in doors.items():
        assert result.status_code == 400, result.text
        told = {name.removeprefix(prefix): text for name, text in result.json["fields"].items()}
        assert told == WRONG
    assert client.simulate_post("/jobs/create", json=JOB).json["max_retries"] == 5
    assert client.simulate_post("/jobs/batch", json={"jobs": [JOB, JOB]}).status_code == 201
    schedule = client.simulate_post("/schedules", json={"name": "n", "cron": "@daily", **JOB})
    assert schedule.status_code == 201


def test_python_creates_its_jobs_by_name(client: testing.TestClient, program: GoQueue) -> None:
    """A process that never declared it creates jobs of it: one, many, and in a chain."""
    declare(client)
    job_id = program.create("transcode", {"file": "a"}, priority=3)
    assert client.simulate_get(f"/jobs/{job_id}").json["queue"] == "videos"
    assert len(program.create_many("transcode", [{"file": "a"}, {"file": "b"}])) == 2
    assert len(program.create_chain(("transcode", {"file": "a"}), ("transcode", {"file": "b"}))) == 2
    with pytest.raises(InvalidJobError) as refused:
        program.create("transcode", {"passes": 0})
    assert dict(refused.value.fields) == WRONG
    with pytest.raises(InvalidJobError) as unknown:
        program.create_chain(("transcode", {"file": "a"}), ("nothing", {}))
    assert list(unknown.value.fields) == ["steps[1].type"]


def test_an_edit_and_a_replay_check_its_payload(client: testing.TestClient, make_job: JobFactory) -> None:
    """A new payload has to fit the declared schema, wherever a job gets one."""
    declare(client)
    waiting = client.simulate_post("/jobs/create", json=JOB).json["id"]
    failed = make_job("failed", type="transcode", queue="videos").id
    for path, method in ((f"/jobs/{waiting}", "PATCH"), (f"/jobs/{failed}/retry", "POST")):
        refused = client.simulate_request(method, path, json={"payload": {"passes": 0}})
        assert (refused.status_code, refused.json["fields"]) == (400, WRONG)
        taken = client.simulate_request(method, path, json={"payload": {"file": "b"}})
        assert (taken.status_code, taken.json["payload"]) == (200, {"file": "b"})


def test_the_form_of_the_dashboard_knows_it(client: testing.TestClient, dashboard: DashboardClient) -> None:
    """The create form has a field for each member of its schema, and its page shows the schema."""
    declare(client)
    form = dashboard.get("/dashboard/create?type=transcode").text
    assert "payload.file" in form
    page = dashboard.get("/dashboard/types/transcode").text
    assert "over REST by <bdi>anybody</bdi>" in page
    assert "transcode" in dashboard.get("/dashboard/types").text
    job_id = client.simulate_post("/jobs/create", json=JOB).json["id"]
    assert "httpx.post" in dashboard.get(f"/dashboard/jobs/{job_id}").text
    assert "passes" in dashboard.get(f"/dashboard/jobs/{job_id}/edit").text


def test_what_python_code_declares_cannot_be_declared_again(client: testing.TestClient) -> None:
    """Neither declared nor removed: the code is the one place that says what it is."""
    assert "Python code" in declare(client, 409, name="noop")["detail"]
    assert client.simulate_delete("/types/noop").status_code == 409
    assert declare(client, 400, schema={"type": "strin"})["fields"].keys() == {"declared.schema.type"}
    assert declare(client, 400, max_retries=21)["fields"].keys() == {"declared.max_retries"}
    for queue in ("quarantine", "videos.DQ"):
        assert declare(client, 400, queue=queue)["fields"].keys() == {"declared.queue"}
    unsaid = client.simulate_put("/types/transcode", json={"declared": None})
    assert (unsaid.status_code, list(unsaid.json["fields"])) == (400, ["declared"])
    assert client.simulate_put("/types/transcode", json={"concurrency": 1}).status_code == 404


def test_a_type_with_jobs_is_not_removed(client: testing.TestClient, make_job: JobFactory) -> None:
    """Whatever they wait for; when all have ended, and no schedule makes any, it is."""
    declare(client)
    jobs = [make_job(state, type="transcode").id for state in ("queued", "running", "blocked")]
    later = client.simulate_post("/jobs/create", json=JOB | {"delay_seconds": 3600})
    jobs.append(later.json["id"])
    make_job("completed", type="transcode")
    for job_id in jobs:
        refused = client.simulate_delete("/types/transcode")
        assert (refused.status_code, "not ended" in refused.json["detail"]) == (409, True)
        client.simulate_post(f"/jobs/{job_id}/cancel")
        with_force = client.simulate_put(f"/jobs/{job_id}/status", json={"status": "failed"})
        assert with_force.status_code in {204, 409}
    client.simulate_post("/schedules", json={"name": "n", "cron": "@daily", **JOB})
    assert "schedule" in client.simulate_delete("/types/transcode").json["detail"]
    client.simulate_delete("/schedules/n")
    assert client.simulate_delete("/types/transcode").status_code == 204


def test_creates_ask_for_no_rows(
    client: testing.TestClient, program: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process looks at the rows at most once a second, and not at all for types of Python code."""
    looks: list[object] = []
    look = declared_type_rows.have_changed

    def counted(connection: Connection) -> dict[str, datetime]:
        looks.append(connection)
        return look(connection)

    monkeypatch.setattr(declared_types, "have_changed", counted)
    monkeypatch.setattr(declared_types, "KEPT_SECONDS", 3600.0)
    program.declare_type("transcode", **DECLARED)
    looks.clear()
    for _ in range(5):
        program.create("transcode", {"file": "a"})
    assert looks == []
    client.simulate_post("/jobs/create", json={"queue": "noop", "type": "noop", "payload": {}})
    assert looks == []


def test_another_process_knows_it_at_once(
    client: testing.TestClient, program: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was not known a moment ago is looked for again; one that is taken back is forgotten."""
    monkeypatch.setattr(declared_types, "KEPT_SECONDS", 3600.0)
    assert program.types.job_type("transcode") is None
    declare(client)
    wait_until(lambda: program.types.knows("transcode"), what="the type to be known")
    monkeypatch.setattr(declared_types, "KEPT_SECONDS", 0.05)
    client.simulate_delete("/types/transcode")
    wait_until(lambda: not program.types.knows("transcode"), what="the type to be forgotten")


def test_changes_are_in_the_audit_log(client: testing.TestClient) -> None:
    """Who declared, changed and removed it, with what it was; of the schema a hash."""
    declare(client)
    declare(client, queue="films")
    client.simulate_delete("/types/transcode")
    entries = client.simulate_get("/audit?target=type%20transcode").json[:3]
    assert [one["action"] for one in entries] == ["type.remove", "type.declare", "type.declare"]
    assert (entries[1]["before"]["queue"], entries[1]["after"]["queue"]) == ("videos", "films")
    assert isinstance(entries[1]["after"]["schema"], str)


def test_the_functions_of_python_declare_and_remove(settings: Settings, database: Database) -> None:
    """`goqueue.declare_type` and `remove_type` are those of the process's own GoQueue."""
    with goqueue.instance.as_default(GoQueue(settings, database=database)):
        made, secret = goqueue.declare_type("transcode", **DECLARED)
        assert secret is None
        assert (made.name, made.declared_by, made.declaration.queue) == ("transcode", "python", "videos")
        with pytest.raises(InvalidJobError):
            goqueue.declare_type("transcode", queue="videos")
        goqueue.remove_type("transcode")


def test_a_terminal_declares_lists_and_removes(
    settings: Settings,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`goqueue types` reads a declaration from a file; a wrong one is refused with the wrong member."""
    assert database is not None
    monkeypatch.setattr(cli, "load_settings", lambda: settings)
    file = tmp_path / "transcode.json"
    file.write_text(json.dumps(DECLARED))
    assert cli.main(["types", "declare", "transcode", str(file)]) == 0
    assert cli.main(["types", "list"]) == 0
    assert cli.main(["types", "rotate", "transcode"]) == 2
    assert cli.main(["types", "remove", "transcode"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "transcode is declared, for the queue videos"
    assert (lines[1].startswith("transcode  videos  "), lines[2]) == (True, "transcode is removed")
    file.write_text(json.dumps({"schema": {"type": "strin"}}))
    assert cli.main(["types", "declare", "transcode", str(file)]) == 2
    assert "schema.type" in capsys.readouterr().err
    assert cli.main(["types", "declare", "transcode", str(tmp_path / "none")]) == 2
    assert cli.main(["types", "remove", "transcode"]) == 2


def test_a_process_without_postgresql_does_not_deny_a_type(program: GoQueue, settings: Settings) -> None:
    """A process that never asked PostgreSQL cannot tell, and says so, instead of refusing the type."""
    program.declare_type("transcode", **DECLARED)
    nowhere = Database(settings.model_copy(update={"database_url": SecretStr("postgresql://127.0.0.1:1/x")}))
    ignorant = TypeDirectory(settings, nowhere, program.broker)
    with pytest.raises(DatabaseUnavailableError):
        ignorant.job_type("transcode")
    assert ignorant.retry_policy("transcode") == RetryPolicy()
    assert program.types.retry_policy("transcode").max_retries == 5
    # The declaration made its process look; a second is not over before it is asked again.
    assert program.types.job_type("transcode") is not None


URL = "https://functions.example.com/transcode"


def test_the_secret_of_a_url_is_told_once(client: testing.TestClient, dashboard: DashboardClient) -> None:
    """In the answer that makes it, and after that nowhere; a rotation tells another one."""
    made = declare(client, url=URL)["declared"]
    assert (made["url"], made["secret"][:6]) == (URL, "whsec_")
    assert declare(client, url=URL, queue="films")["declared"]["secret"] is None
    shown = [client.simulate_get(path).text for path in ("/types", "/types/transcode", "/audit")]
    page = dashboard.get("/dashboard/types/transcode").text
    assert URL in page
    assert not any(made["secret"] in text for text in [*shown, page])
    result = client.simulate_post("/types/transcode/secret", json={"overlap_seconds": 3600})
    assert_described(client, "post", "/types/{name}/secret", result)
    assert result.json["secret"] not in {None, made["secret"]}
    assert result.json["previous_until"] is not None
    assert client.simulate_get("/types/transcode").json["declared"]["previous_until"] is not None
    assert client.simulate_post("/types/transcode/secret", json={"overlap_seconds": -1}).status_code == 400
    assert declare(client)["declared"]["url"] is None
    assert client.simulate_post("/types/transcode/secret").status_code == 409
    assert client.simulate_post("/types/none/secret").status_code == 404


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:word@example.com"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": URL, "time_limit_seconds": 901}, "time_limit_seconds"),
    ],
)
def test_a_url_that_is_none_is_refused(
    client: testing.TestClient, members: dict[str, Any], field: str
) -> None:
    """So is a time limit beyond the quarter of an hour that a call may take."""
    assert list(declare(client, 400, **members)["fields"]) == [f"declared.{field}"]


def test_whoever_says_where_jobs_are_sent_may_read_them(
    settings: Settings, database: Database, runway: Runway
) -> None:
    """A key that may declare types, and not read payloads, gives none a URL, and no secret."""
    needed = settings.model_copy(update={"api_keys_required": True})
    app = create_app(needed, database=database, runway=runway)
    keys = GoQueue(settings, database=database).keys
    blind, seeing = (
        testing.TestClient(app, headers={"Authorization": f"Bearer {keys.create('k', *scopes).text}"})
        for scopes in (("queues:manage", "jobs:read"), ("queues:manage", "payloads:read", "jobs:read"))
    )
    declare(blind)
    declare(blind, 403, url=URL)
    declare(seeing, url=URL)
    assert blind.simulate_post("/types/transcode/secret").status_code == 403
    assert seeing.simulate_post("/types/transcode/secret").status_code == 200
