"""GET /queues/{name}/autoscale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.api.test_service import assert_described
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


def asked(client: testing.TestClient, queue: str = "noop", **query: Any) -> Any:
    """The answer about a queue, which the description describes."""
    result = client.simulate_get(f"/queues/{queue}/autoscale", params=query)
    assert result.status_code == 200, result.text
    assert_described(client, "get", "/queues/{name}/autoscale", result)
    return result.json


def test_an_unused_queue_needs_nothing(
    client: testing.TestClient, settings: Settings, rows: Callable[[], int]
) -> None:
    """A declared queue without a job has an answer with all assumptions named, and asking makes nothing."""
    answer = asked(client)
    assert (answer["backlog"], answer["threads_needed"], answer["workers_needed"]) == (0, 0, 0)
    assert answer["objective"] == {"slo_wait_seconds": 30, "slo_objective": 0.99, "is_default": True}
    assert answer["runs"]["source"] == "assumed"
    assert answer["threads_per_worker"] == settings.worker_processes * settings.worker_threads
    assert answer["service_rate"] == 1
    assert rows() == 0


def test_the_answer_shows_what_it_follows_from(client: testing.TestClient, make_job: JobFactory) -> None:
    """Backlog, objective and assumption are those that were set, and the numbers are their arithmetic."""
    client.simulate_put("/queues/noop", json={"slo_wait_seconds": 5, "slo_objective": 0.9})
    for _ in range(10):
        make_job(queue="noop")
    make_job.worker(queues=["noop"], threads=4)
    answer = asked(client, assumed_run_seconds=2, threads_per_worker=3, window_seconds=20)
    assert answer["objective"] == {"slo_wait_seconds": 5, "slo_objective": 0.9, "is_default": False}
    assert (answer["backlog"], answer["workers"], answer["threads"]) == (10, 1, 4)
    assert answer["arrivals"] == {
        "window_seconds": 20,
        "created": 10,
        "created_seconds": 20,
        "due": 0,
        "due_seconds": 20,
    }
    assert (answer["arrival_rate"], answer["service_rate"], answer["load"]) == (0.5, 0.5, 1.0)
    # One thread is busy with what arrives; 10 jobs of 2 s within 5 s are four more.
    assert (answer["threads_for_backlog"], answer["threads_needed"]) == (5, 5)
    assert answer["threads_for_arrivals"] in {2, 3}
    assert answer["workers_needed"] == 2
    assert 0.9 <= answer["kept_now"] <= answer["kept_then"] <= 1


def test_a_paused_queue_says_so(client: testing.TestClient, make_job: JobFactory) -> None:
    """What is paused needs no worker, and the answer names the reason."""
    make_job(queue="noop")
    assert asked(client)["workers_needed"] == 1
    client.simulate_post("/queues/noop/pause")
    answer = asked(client)
    assert (answer["workers_needed"], answer["limited_by"]) == (0, "paused")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("threads_per_worker=0", "threads_per_worker", id="no thread"),
        pytest.param("threads_per_worker=1.5", "threads_per_worker", id="half a thread"),
        pytest.param("threads_per_worker=65537", "threads_per_worker", id="too many threads"),
        pytest.param("threads_per_worker=many", "threads_per_worker", id="a word"),
        pytest.param("threads_per_worker=1&threads_per_worker=2", "threads_per_worker", id="twice"),
        pytest.param("window_seconds=9", "window_seconds", id="a short window"),
        pytest.param("window_seconds=3601", "window_seconds", id="a long window"),
        pytest.param("window_seconds=nan", "window_seconds", id="not a number"),
        pytest.param("window_seconds=1e400", "window_seconds", id="an endless window"),
        pytest.param("assumed_run_seconds=0", "assumed_run_seconds", id="no time"),
        pytest.param("assumed_run_seconds=-1", "assumed_run_seconds", id="negative"),
        pytest.param("assumed_run_seconds=%s" % ("9" * 400), "assumed_run_seconds", id="a huge number"),
        pytest.param("assumed_run_seconds=%00", "assumed_run_seconds", id="NUL"),
        pytest.param("slo=1", "slo", id="an unknown parameter"),
    ],
)
def test_a_wrong_question_is_400(client: testing.TestClient, query: str, field: str) -> None:
    """What cannot be meant is a 400 that names the parameter."""
    result = client.simulate_get("/queues/noop/autoscale", query_string=query)
    assert result.status_code == 400, result.text
    assert list(result.json["fields"]) == [field]


@pytest.mark.parametrize(
    "name", ["nosuch", "quarantine", "%00", "a%0Ab", "%F0%90%80", "x" * 3000], ids=range(6)
)
def test_an_unknown_queue_is_404(client: testing.TestClient, name: str) -> None:
    """There is nothing to scale of what does not exist."""
    assert client.simulate_get(f"/queues/{name}/autoscale").status_code == 404


def test_a_worker_is_what_the_settings_say(settings: Settings, database: Database, runway: Runway) -> None:
    """Without a parameter the threads of a worker are those of the settings."""
    given = settings.model_copy(update={"worker_processes": 3, "worker_threads": 5})
    client = testing.TestClient(create_app(given, database=database, runway=runway))
    assert asked(client)["threads_per_worker"] == 15


def test_a_group_of_workers_is_asked_about_by_its_labels(
    client: testing.TestClient, make_job: JobFactory
) -> None:
    """As the workers' setting has them; what lacks is told, and wrong labels are refused by their name."""
    make_job.worker(queues=["noop"], threads=4)
    for _ in range(60):
        make_job(queue="noop", requires=["gpu=true", "region=eu"])
    (need,) = asked(client)["labels"]
    assert (need["requires"], need["backlog"], need["slots"]) == ({"gpu": "true", "region": "eu"}, 60, 0)
    assert need["missing"] == need["threads_needed"] > 1
    assert asked(client, labels="gpu,region=eu")["backlog"] == 60
    assert asked(client, labels="gpu")["backlog"] == 0
    plain = asked(client, labels="")
    assert (plain["backlog"], plain["slots"], plain["threads_needed"]) == (0, 4, 0)
    refused = client.simulate_get("/queues/noop/autoscale", params={"labels": "gpu=?"})
    assert refused.status_code == 400
    assert list(refused.json["fields"]) == ["labels"]
