"""Schedules over REST: making and changing them, pausing, running now, what comes and what was."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.schedules.rules import Source
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

SCHEDULE = {"name": "nightly", "cron": "30 2 * * *", "queue": "noop", "payload": {"number": 7}}
FIELDS = {name: value for name, value in SCHEDULE.items() if name != "name"}
JSON = {"Content-Type": "application/json"}


def schedule(**members: Any) -> str:
    """The text of a create request with these members."""
    return json.dumps(SCHEDULE | members)


@pytest.fixture
def nightly(client: testing.TestClient) -> dict[str, Any]:
    """A schedule."""
    result = client.simulate_post("/schedules", json=SCHEDULE)
    assert result.status_code == 201, result.text
    document: dict[str, Any] = result.json
    return document


def moment(text: str) -> datetime:
    """A time of an answer."""
    return datetime.fromisoformat(text)


def test_a_schedule_is_created(client: testing.TestClient) -> None:
    """A create answers 201, the Location and the schedule, with the defaults and the first tick."""
    result = client.simulate_post("/schedules", json=SCHEDULE | {"timezone": "Europe/Berlin"})
    assert (result.status_code, result.headers["location"]) == (201, "/schedules/nightly")
    document = result.json
    assert client.simulate_get("/schedules/nightly").json == document
    assert document | SCHEDULE == document
    assert (document["type"], document["max_retries"], document["source"]) == ("noop", 5, "api")
    assert (document["overlap"], document["catch_up"], document["paused"]) == ("queue", "once", False)
    next_at = moment(document["next_at"])
    assert datetime.now(UTC) < next_at < datetime.now(UTC) + timedelta(hours=26)


def test_everything_that_is_said_is_kept(client: testing.TestClient) -> None:
    """Policies, windows and the settings of the job come back as they were given."""
    said = {
        "overlap": "cancel_running",
        "catch_up": "all",
        "catch_up_max": 5,
        "catch_up_window_seconds": 600.0,
        "jitter_seconds": 20.0,
        "blackouts": [
            {"start": "22:00", "end": "06:00", "days": ["sat", "sun"]},
            {"from": "2031-01-01T00:00:00Z", "until": "2031-01-02T00:00:00Z"},
        ],
        "blackout_policy": "after",
        "priority": 3,
        "max_retries": 1,
        "time_limit_seconds": 30.0,
        "ttl_seconds": 60.0,
        "deadline_seconds": 90.0,
        "concurrency_key": "acme",
        "rate_cost": 2,
    }
    document = client.simulate_post("/schedules", json=SCHEDULE | said).json
    assert {name: document[name] for name in said} == said
    job = client.simulate_post("/schedules/nightly/run").json
    assert (job["priority"], job["concurrency_key"], job["rate_cost"]) == (3, "acme", 2)
    assert moment(job["deadline_at"]) - moment(job["created_at"]) == timedelta(seconds=90)


def test_a_taken_name_is_a_conflict(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """A second schedule of the same name is a 409, and the first stays as it is."""
    result = client.simulate_post("/schedules", json=SCHEDULE | {"cron": "@hourly"})
    assert (result.status_code, result.json["title"]) == (409, "Conflict")
    assert client.simulate_get("/schedules/nightly").json == nightly


def test_put_defines_anew_or_creates(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """PUT replaces the whole definition, and creates where there is none."""
    result = client.simulate_put("/schedules/nightly", json=FIELDS | {"cron": "0 5 * * *", "priority": 9})
    assert (result.status_code, result.json["cron"], result.json["priority"]) == (200, "0 5 * * *", 9)
    assert moment(result.json["next_at"]).hour == 5
    assert result.json["created_at"] == nightly["created_at"]
    created = client.simulate_put("/schedules/other", json=FIELDS)
    assert (created.status_code, created.headers["location"]) == (201, "/schedules/other")


def test_put_of_the_same_changes_nothing(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """A PUT that says what is there already leaves even `updated_at`."""
    assert client.simulate_put("/schedules/nightly", json=FIELDS).json == nightly


def test_put_keeps_an_undecided_tick(
    client: testing.TestClient, database: Database, nightly: dict[str, Any]
) -> None:
    """Where the line stays, a change of something else does not lose a tick that is due."""
    past = moment(nightly["next_at"]) - timedelta(days=2)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = %(past)s, due_at = %(past)s", {"past": past}
        )
    changed = client.simulate_put("/schedules/nightly", json=FIELDS | {"priority": 1}).json
    assert moment(changed["next_at"]) == past
    moved = client.simulate_put("/schedules/nightly", json=FIELDS | {"cron": "31 2 * * *"}).json
    assert moment(moved["next_at"]) > datetime.now(UTC)


def test_schedules_are_listed_by_page(client: testing.TestClient) -> None:
    """The list is by name, and the Link header leads through all of it."""
    for name in ("b", "a", "C", "d", "a-1"):
        assert client.simulate_post("/schedules", json=SCHEDULE | {"name": name}).status_code == 201
    names, path = [], "/schedules?limit=2"
    while path:
        result = client.simulate_get(path)
        names += [document["name"] for document in result.json]
        path = result.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert names == ["C", "a", "a-1", "b", "d"]


def test_a_deleted_schedule_is_gone(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """After a DELETE the schedule and its history are gone, and its jobs stay."""
    job = client.simulate_post(f"/schedules/{nightly['name']}/run").json
    assert client.simulate_delete("/schedules/nightly").status_code == 204
    assert client.simulate_get("/schedules/nightly").status_code == 404
    assert client.simulate_get(f"/jobs/{job['id']}").status_code == 200


def test_a_paused_schedule_has_no_next_tick(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """A pause says why and by whom and takes the next tick away; the resume brings it back."""
    reason = {"reason": "the warehouse moves", "author": "ada"}
    paused = client.simulate_post("/schedules/nightly/pause", json=reason).json
    assert (paused["paused"], paused["paused_by"], paused["pause_reason"]) == (True, "ada", reason["reason"])
    assert (paused["next_at"], paused["due_at"]) == (None, None)
    again = client.simulate_post("/schedules/nightly/pause").json
    assert (again["paused_at"], again["paused_by"]) == (paused["paused_at"], "ada")
    changed = client.simulate_put("/schedules/nightly", json=FIELDS | {"priority": 1}).json
    assert (changed["paused"], changed["next_at"]) == (True, None)
    resumed = client.simulate_post("/schedules/nightly/resume").json
    assert (resumed["paused"], resumed["paused_by"], resumed["pause_reason"]) == (False, None, None)
    assert resumed["next_at"] == nightly["next_at"]
    assert client.simulate_post("/schedules/nightly/resume").json == resumed


def test_run_now_creates_a_job_and_a_manual_tick(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """A run answers with the job, also while the schedule is paused, and is part of the history."""
    client.simulate_post(f"/schedules/{nightly['name']}/pause")
    result = client.simulate_post("/schedules/nightly/run")
    assert (result.status_code, result.json["payload"]) == (201, {"number": 7})
    assert result.headers["location"] == f"/jobs/{result.json['id']}"
    second = client.simulate_post("/schedules/nightly/run").json["id"]
    ticks = client.simulate_get("/schedules/nightly/ticks").json
    assert [(tick["kind"], tick["outcome"], tick["job_id"]) for tick in ticks] == [
        ("manual", "fired", second),
        ("manual", "fired", result.json["id"]),
    ]
    assert ticks[0]["job_status"] == "queued"


def test_a_run_meets_the_unique_key_of_its_job(client: testing.TestClient) -> None:
    """Where the job has a unique key that is taken, a run answers 200 with the job that has it."""
    unique = SCHEDULE | {"unique": {"key": "one at a time"}}
    assert client.simulate_post("/schedules", json=unique).status_code == 201
    first = client.simulate_post("/schedules/nightly/run").json["id"]
    second = client.simulate_post("/schedules/nightly/run")
    assert (second.status_code, second.json["id"], second.json["deduplicated"]) == (200, first, True)


def test_the_history_is_paged(client: testing.TestClient, nightly: dict[str, Any]) -> None:
    """The Link header of the ticks leads through all of them, the newest first."""
    jobs = [client.simulate_post(f"/schedules/{nightly['name']}/run").json["id"] for _ in range(5)]
    seen, path = [], "/schedules/nightly/ticks?limit=2"
    while path:
        result = client.simulate_get(path)
        assert result.status_code == 200, result.text
        seen += [tick["job_id"] for tick in result.json]
        path = result.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert seen == jobs[::-1]


def preview(
    client: testing.TestClient, database: Database, after: str, n: int, **members: Any
) -> list[dict[str, Any]]:
    """The preview of a schedule whose next tick is the first one from a time on."""
    definition = SCHEDULE | {"timezone": "Europe/Berlin"} | members
    assert client.simulate_post("/schedules", json=definition).status_code == 201
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = %(at)s, due_at = %(at)s", {"at": datetime.fromisoformat(after)}
        )
    result = client.simulate_get(f"/schedules/nightly/preview?n={n}")
    assert result.status_code == 200, result.text
    found: list[dict[str, Any]] = result.json
    return found


def test_the_preview_marks_a_skipped_time(client: testing.TestClient, database: Database) -> None:
    """A tick whose time the spring change skips is marked with the time that there is not."""
    first, second, third = preview(client, database, "2026-03-28T01:30:00Z", 3)
    assert (first["local"], first["shift"]) == ("2026-03-28T02:30:00+01:00", None)
    assert (second["local"], second["shift"]) == ("2026-03-29T03:00:00+02:00", "moved")
    assert second["skipped_local"] == "2026-03-29T02:30:00"
    assert second["nominal_at"] == second["fires_at"] == "2026-03-29T01:00:00Z"
    assert (third["local"], third["shift"]) == ("2026-03-30T02:30:00+02:00", None)


def test_the_preview_marks_a_repeated_time(client: testing.TestClient, database: Database) -> None:
    """A tick whose time the autumn change repeats fires once, and says so."""
    ticks = preview(client, database, "2026-10-24T00:30:00Z", 3)
    assert [tick["shift"] for tick in ticks] == [None, "first_of_two", None]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            "skip",
            [
                ("2026-06-01T21:00:00+02:00", "fires", "2026-06-01T19:00:00Z"),
                ("2026-06-01T22:00:00+02:00", "blacked_out", None),
                ("2026-06-01T23:00:00+02:00", "blacked_out", None),
                ("2026-06-02T00:00:00+02:00", "fires", "2026-06-01T22:00:00Z"),
            ],
        ),
        (
            "after",
            [
                ("2026-06-01T21:00:00+02:00", "fires", "2026-06-01T19:00:00Z"),
                ("2026-06-01T22:00:00+02:00", "blacked_out", None),
                ("2026-06-01T23:00:00+02:00", "fires_after_blackout", "2026-06-01T21:45:00Z"),
                ("2026-06-02T00:00:00+02:00", "fires", "2026-06-01T22:00:00Z"),
            ],
        ),
    ],
)
def test_the_preview_marks_blackouts(
    client: testing.TestClient, database: Database, policy: str, expected: list[tuple[str, str, str | None]]
) -> None:
    """Ticks in a blackout are marked, and the one that fires when it ends says when."""
    ticks = preview(
        client,
        database,
        "2026-06-01T19:00:00Z",
        4,
        cron="0 * * * *",
        blackouts=[{"start": "21:30", "end": "23:45", "days": ["mon"]}],
        blackout_policy=policy,
    )
    assert [(tick["local"], tick["outcome"], tick["fires_at"]) for tick in ticks] == expected
    assert [tick["in_blackout"] for tick in ticks] == [False, True, True, False]


def test_the_preview_of_a_paused_schedule_starts_now(
    client: testing.TestClient, nightly: dict[str, Any]
) -> None:
    """A paused schedule shows what would come if it went on now; ten ticks where no number is given."""
    client.simulate_post(f"/schedules/{nightly['name']}/pause")
    ticks = client.simulate_get("/schedules/nightly/preview").json
    assert len(ticks) == 10
    assert ticks[0]["nominal_at"] == nightly["next_at"]


def test_a_schedule_of_the_code_is_changed_only_there(
    client: testing.TestClient, database: Database, nightly: dict[str, Any]
) -> None:
    """PUT on a schedule that is declared in code is a 409; pausing and deleting it are allowed."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE schedules SET source = %(code)s", {"code": Source.CODE.value})
    result = client.simulate_put(f"/schedules/{nightly['name']}", json=FIELDS)
    assert (result.status_code, result.json["detail"]) == (
        409,
        "the schedule 'nightly' is declared in code: change it there",
    )
    assert client.simulate_post("/schedules/nightly/pause").status_code == 200
    assert client.simulate_delete("/schedules/nightly").status_code == 204


WRONG = [
    pytest.param(schedule(cron="* * * *"), "cron", id="four fields"),
    pytest.param(schedule(cron="61 * * * *"), "cron", id="minute 61"),
    pytest.param(schedule(cron="0 0 31 2 *"), "cron", id="a day that never comes"),
    pytest.param(schedule(cron="@reboot"), "cron", id="not a time"),
    pytest.param(schedule(cron="9" * 6000 + " * * * *"), "cron", id="a huge minute"),
    pytest.param(schedule(cron="\x00 * * * *"), "cron", id="NUL"),
    pytest.param(schedule(cron=5), "cron", id="cron is a number"),
    pytest.param(schedule(cron=None), "cron", id="cron is null"),
    pytest.param('{"name": "a", "queue": "noop", "payload": {}}', "cron", id="no cron"),
    pytest.param(schedule(timezone="Mars/Olympus"), "timezone", id="no such zone"),
    pytest.param(schedule(timezone="../../etc/passwd"), "timezone", id="a path"),
    pytest.param(schedule(timezone=""), "timezone", id="empty zone"),
    pytest.param(schedule(timezone="UTC\x00"), "timezone", id="NUL in the zone"),
    pytest.param(schedule(timezone=["UTC"]), "timezone", id="zone is an array"),
    pytest.param(schedule(name=""), "name", id="empty name"),
    pytest.param(schedule(name="a/b"), "name", id="slash in the name"),
    pytest.param(schedule(name="n" * 101), "name", id="long name"),
    pytest.param(schedule(name="a\nb"), "name", id="line break in the name"),
    pytest.param(schedule(name=7), "name", id="name is a number"),
    pytest.param(schedule(overlap="allow"), "overlap", id="no such overlap policy"),
    pytest.param(schedule(overlap=None), "overlap", id="overlap is null"),
    pytest.param(schedule(overlap={}), "overlap", id="overlap is an object"),
    pytest.param(schedule(catch_up="twice"), "catch_up", id="no such catch-up policy"),
    pytest.param(schedule(catch_up_max=0), "catch_up_max", id="catch up none"),
    pytest.param(schedule(catch_up_max=1001), "catch_up_max", id="catch up too many"),
    pytest.param(schedule(catch_up_max=2**62), "catch_up_max", id="catch up a huge number"),
    pytest.param(schedule(catch_up_max=True), "catch_up_max", id="catch up true"),
    pytest.param(schedule(catch_up_window_seconds=0), "catch_up_window_seconds", id="no window"),
    pytest.param(schedule(catch_up_window_seconds=1e300), "catch_up_window_seconds", id="a huge window"),
    pytest.param(
        schedule().replace('"noop"', '"noop", "jitter_seconds": 1e400'), "jitter_seconds", id="1e400"
    ),
    pytest.param(schedule(jitter_seconds=-1), "jitter_seconds", id="negative jitter"),
    pytest.param(schedule(jitter_seconds="5"), "jitter_seconds", id="jitter as text"),
    pytest.param(schedule(blackout_policy="before"), "blackout_policy", id="no such blackout policy"),
    pytest.param(schedule(blackouts={}), "blackouts", id="blackouts is an object"),
    pytest.param(schedule(blackouts=[{}]), "blackouts[0]", id="an empty window"),
    pytest.param(schedule(blackouts=[{"start": "22:00"}]), "blackouts[0]", id="a window without end"),
    pytest.param(
        schedule(blackouts=[{"start": "25:00", "end": "06:00"}]), "blackouts[0].start", id="no such hour"
    ),
    pytest.param(
        schedule(blackouts=[{"start": "24:00", "end": "06:00"}]), "blackouts[0].start", id="starts at 24:00"
    ),
    pytest.param(
        schedule(blackouts=[{"start": "6:00", "end": "07:00"}]), "blackouts[0].start", id="one digit"
    ),
    pytest.param(
        schedule(blackouts=[{"start": "06:00", "end": "06:00"}]), "blackouts[0]", id="an empty stretch"
    ),
    pytest.param(
        schedule(blackouts=[{"start": "06:00", "end": "07:00", "days": ["moonday"]}]),
        "blackouts[0].days[0]",
        id="no such weekday",
    ),
    pytest.param(
        schedule(blackouts=[{"start": "06:00", "end": "07:00", "days": []}]), "blackouts[0].days", id="no day"
    ),
    pytest.param(
        schedule(blackouts=[{"from": "2031-01-01", "until": "2031-01-02T00:00:00Z"}]),
        "blackouts[0].from",
        id="from without a zone",
    ),
    pytest.param(
        schedule(blackouts=[{"from": "2031-01-02T00:00:00Z", "until": "2031-01-01T00:00:00Z"}]),
        "blackouts[0]",
        id="ends before it begins",
    ),
    pytest.param(
        schedule(blackouts=[{"from": "2031-01-01T00:00:00Z", "end": "07:00"}]), "blackouts[0]", id="half each"
    ),
    pytest.param(
        schedule(blackouts=[{"start": "06:00", "end": "07:00", "zone": "UTC"}]),
        "blackouts[0].zone",
        id="unknown field of a window",
    ),
    pytest.param(schedule(blackouts=[{"start": "00:00", "end": "24:00"}]), "body", id="all of the week"),
    pytest.param(
        schedule(blackouts=[{"start": "06:00", "end": "07:00"}] * 51), "blackouts", id="too many windows"
    ),
    pytest.param(schedule(queue="nosuch"), "queue", id="unknown queue"),
    pytest.param(schedule(type="nosuch"), "type", id="unknown type"),
    pytest.param(schedule(payload={"other": 1}), "payload.other", id="a payload that does not fit"),
    pytest.param(schedule(payload=[]), "payload", id="payload is an array"),
    pytest.param(schedule(priority=101), "priority", id="priority above 100"),
    pytest.param(schedule(max_retries=21), "max_retries", id="retries above 20"),
    pytest.param(schedule(ttl_seconds=0), "ttl_seconds", id="no time to live"),
    pytest.param(schedule(unique={"fields": ["nosuch"]}), "unique.fields", id="no such field"),
    pytest.param(schedule(depends_on=[1]), "depends_on", id="a member that a schedule has not"),
    pytest.param(schedule(available_at="2031-01-01T00:00:00Z"), "available_at", id="a run-at"),
    pytest.param("[]", "body", id="an array"),
    pytest.param("{", "body", id="cut off"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_a_wrong_schedule_is_refused(
    client: testing.TestClient, database: Database, rows: Callable[[], int], body: str, field: str
) -> None:
    """A wrong schedule is a 400 that names the field, by POST and by PUT, and leaves no row."""
    result = client.simulate_post("/schedules", body=body, headers=JSON)
    assert result.status_code == 400, result.text
    assert field in result.json["fields"], result.json["fields"]
    without_name = body.replace('"name": "nightly", ', "")
    if field != "name":
        again = client.simulate_put("/schedules/nightly", body=without_name, headers=JSON)
        assert again.status_code == 400
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM schedules").scalar_one() == 0
    assert rows() == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/schedules?limit=0", "limit"),
        ("/schedules?limit=x", "limit"),
        ("/schedules?cursor=a/b", "cursor"),
        ("/schedules?page=2", "page"),
        ("/schedules/nightly/preview?n=0", "n"),
        ("/schedules/nightly/preview?n=1001", "n"),
        ("/schedules/nightly/preview?n=1e400", "n"),
        ("/schedules/nightly/ticks?limit=1001", "limit"),
        ("/schedules/nightly/ticks?cursor=yesterday", "cursor"),
        ("/schedules/nightly/ticks?cursor=2031-01-01", "cursor"),
    ],
)
def test_a_wrong_query_is_refused(
    client: testing.TestClient, nightly: dict[str, Any], query: str, field: str
) -> None:
    """A wrong parameter is a 400 that names it."""
    assert nightly
    result = client.simulate_get(query)
    assert (result.status_code, list(result.json["fields"])) == (400, [field])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"reason": ""}', "reason"),
        ('{"author": 5}', "author"),
        ('{"until": "2031-01-01T00:00:00Z"}', "until"),
        ('{"reason": "a\\u0000b"}', "reason"),
        ("[]", "body"),
    ],
)
def test_a_wrong_pause_is_refused(
    client: testing.TestClient, nightly: dict[str, Any], body: str, field: str
) -> None:
    """A wrong reason or author is a 400, and the schedule goes on."""
    result = client.simulate_post("/schedules/nightly/pause", body=body, headers=JSON)
    assert (result.status_code, list(result.json["fields"])) == (400, [field])
    assert client.simulate_get("/schedules/nightly").json == nightly


@pytest.mark.parametrize("name", ["nosuch", "a%00b", "n" * 300, "%F0%9F%98%80"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/run"),
        ("GET", "/preview"),
        ("GET", "/ticks"),
    ],
)
def test_an_unknown_schedule_is_not_found(
    client: testing.TestClient, method: str, path: str, name: str
) -> None:
    """Whatever is asked of a schedule that there is not, the answer is 404."""
    assert client.simulate_request(method, f"/schedules/{name}{path}").status_code == 404
