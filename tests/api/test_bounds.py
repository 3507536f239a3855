"""Every door of REST refuses moments and durations that some reader could not hold, and names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.jobs import MAX_DELAY_SECONDS
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

FAR = timedelta(seconds=MAX_DELAY_SECONDS)


def text_of(moment: datetime) -> str:
    """A moment as clients write it."""
    return moment.isoformat().replace("+00:00", "Z")


MOMENTS = [
    pytest.param("0001-01-02T00:00:00Z", id="year one"),
    pytest.param("9999-12-31T23:59:59Z", id="year 9999"),
    pytest.param("10000-01-01T00:00:00Z", id="year 10000"),
    pytest.param(text_of(datetime.now(UTC) + FAR + timedelta(hours=1)), id="beyond ten years"),
    pytest.param(text_of(datetime.now(UTC) - FAR - timedelta(seconds=1)), id="before ten years"),
    pytest.param("infinity", id="infinity"),
    pytest.param("-infinity", id="minus infinity"),
    pytest.param("NaN", id="NaN"),
    pytest.param(1e308, id="the largest double"),
    pytest.param(1_700_000_000_000, id="epoch milliseconds"),
]
DURATIONS = [
    pytest.param(1e308, id="the largest double"),
    pytest.param(1_700_000_000_000, id="epoch milliseconds"),
    pytest.param(2**63 - 1, id="the largest integer"),
    pytest.param(-1, id="negative"),
    pytest.param("inf", id="a text"),
]

Call = Callable[[testing.TestClient, int, Any], testing.Result]


def create(**members: Any) -> Any:
    """A request for a no-op job."""
    return NOOP | members


def schedule(**members: Any) -> dict[str, Any]:
    """A request for a schedule."""
    return {"name": "daily", "cron": "@daily", **NOOP} | members


#: What is sent, and the field that has to be named.
DOORS_OF_MOMENTS: dict[str, tuple[Call, str]] = {
    f"{name} of a create": (
        lambda client, _, moment, name=name: client.simulate_post(
            "/jobs/create", json=create(**{name: moment})
        ),
        name,
    )
    for name in ("available_at", "expires_at", "deadline_at")
} | {
    "POST /jobs": (
        lambda client, _, moment: client.simulate_post("/jobs", json=create(available_at=moment)),
        "available_at",
    ),
    "batch": (
        lambda client, _, moment: client.simulate_post(
            "/jobs/batch", json={"jobs": [NOOP, create(available_at=moment, priority=100)]}
        ),
        "jobs[1].available_at",
    ),
    "chain": (
        lambda client, _, moment: client.simulate_post(
            "/jobs/create", json=create(then=[create(available_at=moment)])
        ),
        "then[0].available_at",
    ),
    "edit": (
        lambda client, job_id, moment: client.simulate_patch(
            f"/jobs/{job_id}", json={"available_at": moment}
        ),
        "available_at",
    ),
    "retry": (
        lambda client, job_id, moment: client.simulate_post(
            f"/jobs/{job_id}/retry", json={"available_at": moment}
        ),
        "available_at",
    ),
    "pause": (
        lambda client, _, moment: client.simulate_post("/queues/noop/pause", json={"until": moment}),
        "until",
    ),
    "begin of a blackout": (
        lambda client, _, moment: client.simulate_post(
            "/schedules", json=schedule(blackouts=[{"from": moment, "until": "2027-01-01T00:00:00Z"}])
        ),
        "blackouts[0].from",
    ),
    "end of a blackout": (
        lambda client, _, moment: client.simulate_put(
            "/schedules/daily",
            json={
                name: value
                for name, value in schedule(
                    blackouts=[{"from": "2026-01-01T00:00:00Z", "until": moment}]
                ).items()
                if name != "name"
            },
        ),
        "blackouts[0].until",
    ),
}

DOORS_OF_DURATIONS: dict[str, tuple[Call, str]] = (
    {
        f"{name} of a create": (
            lambda client, _, seconds, name=name: client.simulate_post(
                "/jobs/create", json=create(**{name: seconds})
            ),
            name,
        )
        for name in ("delay_seconds", "ttl_seconds", "deadline_seconds", "time_limit_seconds")
    }
    | {
        f"{name} of a unique job": (
            lambda client, _, seconds, name=name: client.simulate_post(
                "/jobs/create",
                json=create(
                    unique={"key": "k", "mode": "debounce", "debounce_max_seconds": 5} | {name: seconds}
                ),
            ),
            f"unique.{name}",
        )
        for name in ("window_seconds", "debounce_max_seconds")
    }
    | {
        "pause": (
            lambda client, _, seconds: client.simulate_post("/queues/noop/pause", json={"seconds": seconds}),
            "seconds",
        ),
        "ramp": (
            lambda client, _, seconds: client.simulate_put("/queues/noop", json={"ramp_seconds": seconds}),
            "ramp_seconds",
        ),
        "rate": (
            lambda client, _, seconds: client.simulate_put(
                "/queues/noop", json={"rate": {"limit": 1, "period_seconds": seconds}}
            ),
            "rate.period_seconds",
        ),
        "breaker": (
            lambda client, _, seconds: client.simulate_put(
                "/types/noop", json={"breaker": {"cooldown_seconds": seconds}}
            ),
            "breaker.cooldown_seconds",
        ),
        "jitter": (
            lambda client, _, seconds: client.simulate_post(
                "/schedules", json=schedule(jitter_seconds=seconds)
            ),
            "jitter_seconds",
        ),
        "catch-up": (
            lambda client, _, seconds: client.simulate_post(
                "/schedules", json=schedule(catch_up_window_seconds=seconds)
            ),
            "catch_up_window_seconds",
        ),
        "rate of a bulk operation": (
            lambda client, _, rate: client.simulate_post(
                "/bulk-operations", json={"action": "retry", "filter": {"queue": "noop"}, "rate": rate}
            ),
            "rate",
        ),
    }
)


@pytest.fixture
def job_id(make_job: JobFactory, request: pytest.FixtureRequest) -> int:
    """A job in the state that the door wants."""
    status = "failed" if "retry" in request.node.callspec.id else "queued"
    return make_job(status, queue="noop").id


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("door", DOORS_OF_MOMENTS)
def test_a_moment_beyond_the_bounds_is_refused(
    client: testing.TestClient, database: Database, job_id: int, door: str, moment: Any
) -> None:
    """A 400 names the field, and nothing was stored."""
    call, field = DOORS_OF_MOMENTS[door]
    before = stored(database)
    result = call(client, job_id, moment)
    assert (result.status_code, list(result.json["fields"])) == (400, [field]), result.text
    assert stored(database) == before


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("door", DOORS_OF_DURATIONS)
def test_a_duration_beyond_the_bounds_is_refused(
    client: testing.TestClient, database: Database, job_id: int, door: str, seconds: Any
) -> None:
    """A 400 names the field, and nothing was stored."""
    call, field = DOORS_OF_DURATIONS[door]
    before = stored(database)
    result = call(client, job_id, seconds)
    assert (result.status_code, list(result.json["fields"])) == (400, [field]), result.text
    assert stored(database) == before


def stored(database: Database) -> Any:
    """Everything that a door might have changed."""
    with database.autocommit() as connection:
        return [
            connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
            for table, columns in (
                ("jobs", "id, status, available_at"),
                ("queues", "name, paused_at, paused_until, ramp_seconds, rate::text"),
                ("schedules", "name"),
                ("bulk_operations", "id"),
            )
        ]


def test_ten_years_less_a_minute_are_accepted(client: testing.TestClient) -> None:
    """The bound itself is no more than what it says."""
    for moment in (
        datetime.now(UTC) + FAR - timedelta(minutes=1),
        datetime.now(UTC) - FAR + timedelta(minutes=1),
    ):
        result = client.simulate_post("/jobs/create", json=create(available_at=text_of(moment)))
        assert result.status_code == 201, result.text


def test_filters_may_reach_back_as_far_as_they_like(client: testing.TestClient) -> None:
    """A moment that is only compared with is bounded by what can be written."""
    params = {
        "created_after": "0001-01-01T00:00:00Z",
        "created_before": "9999-12-31T23:59:59Z",
    }
    assert client.simulate_get("/jobs", params=params).status_code == 200


def test_a_deep_result_of_an_older_release_breaks_no_answer(
    client: testing.TestClient, database: Database, make_job: JobFactory
) -> None:
    """The job, the lists and the explanation answer, and say in the place of the rest that it is too deep."""
    job = make_job("completed", queue="noop")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET result = %(result)s::json WHERE id = %(id)s",
            {"result": "[" * 253 + "]" * 253, "id": job.id},
        )
    for path in (f"/jobs/{job.id}", "/jobs?queue=noop", f"/jobs/{job.id}/explain"):
        assert client.simulate_get(path).status_code == 200, path
    assert "too deep" in json.dumps(client.simulate_get(f"/jobs/{job.id}").json)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0001-01-01 00:00:00+00 BC", "20000-01-01"])
def test_a_row_with_an_unreadable_moment_breaks_no_answer(
    client: testing.TestClient, database: Database, make_job: JobFactory, moment: str
) -> None:
    """Lists, statistics and explanations of a row from before the constraint answer."""
    job = make_job(queue="noop")
    with database.autocommit() as connection:
        check = connection.exec_driver_sql(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'jobs_moments_check'"
        ).scalar()
        connection.exec_driver_sql("ALTER TABLE jobs DROP CONSTRAINT jobs_moments_check")
        try:
            connection.exec_driver_sql(
                "UPDATE jobs SET available_at = %(moment)s, expires_at = %(moment)s, rank = %(moment)s "
                "WHERE id = %(id)s",
                {"moment": moment, "id": job.id},
            )
            for path in (
                f"/jobs/{job.id}",
                "/jobs?queue=noop",
                f"/jobs/{job.id}/explain",
                f"/jobs/{job.id}/versions",
                "/stats",
                "/queues",
                "/queues/noop",
                "/metrics",
                "/autoscale",
            ):
                result = client.simulate_get(path)
                assert result.status_code in {200, 404}, (path, result.text)
            assert client.simulate_get(f"/jobs/{job.id}").status_code == 200
        finally:
            connection.exec_driver_sql("DELETE FROM jobs")
            connection.exec_driver_sql(f"ALTER TABLE jobs ADD CONSTRAINT jobs_moments_check {check}")
