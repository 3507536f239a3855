"""The live parts of pages are made once for all browsers, and give nobody what is another's."""

from __future__ import annotations

import hashlib
import re

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard import polls
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.dashboard.client import DashboardClient, form_secret
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

KEY = "the key of the tests"

_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]*)"')


@pytest.fixture(autouse=True)
def long_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer stays good for longer than a test takes."""
    monkeypatch.setattr(polls, "GOOD_FOR_SECONDS", 600.0)
    monkeypatch.setattr(polls, "OLDEST_SECONDS", 600.0)


@pytest.fixture
def service(settings: Settings, database: Database, runway: Runway) -> testing.TestClient:
    """A dashboard that needs a key, for any number of browsers."""
    key_hash = hashlib.sha256(KEY.encode()).hexdigest()
    changed = settings.model_copy(update={"api_keys": (key_hash,)})
    return testing.TestClient(create_app(changed, database=database, runway=runway, site=DASHBOARD))


def browser(service: testing.TestClient) -> DashboardClient:
    """One that is logged in."""
    made = DashboardClient(service)
    assert made.post("/dashboard/login", key=KEY).status_code == 303
    return made


def test_an_answer_is_made_once_for_all(service: testing.TestClient, make_job: JobFactory) -> None:
    """The second browser is told what the first one was, though more has happened since."""
    first, second = browser(service), browser(service)
    make_job(queue="first")
    told = first.live("/dashboard/jobs")
    make_job(queue="second")
    again = second.live("/dashboard/jobs")
    assert "first" in told.text
    assert "second" not in again.text
    assert "second" in second.live("/dashboard/jobs?queue=second").text


def test_each_browser_gets_its_own_token(service: testing.TestClient, make_job: JobFactory) -> None:
    """The forms of a shared answer are those of whoever asks, and work; a tag is good for its browser."""
    job = make_job()
    first, second = browser(service), browser(service)
    path = f"/dashboard/jobs/{job.id}"
    told = [one.live(path) for one in (first, second)]
    tokens = [{form_secret(token) for token in _TOKEN.findall(answer.text)} for answer in told]
    assert tokens == [{form_secret(first.token())}, {form_secret(second.token())}]
    assert tokens[0] != tokens[1]
    assert first.live(path, If_None_Match=told[0].headers["ETag"]).status_code == 304
    assert second.live(path, If_None_Match=told[0].headers["ETag"]).status_code == 200


def test_after_a_change_everybody_sees_it(service: testing.TestClient, make_job: JobFactory) -> None:
    """What a browser changes is in the next answer of every other."""
    job = make_job("failed")
    first, second = browser(service), browser(service)
    path = f"/dashboard/jobs/{job.id}"
    assert "failed" in second.live(path).text
    assert first.post(f"{path}/retry").status_code == 303
    assert f"{path}/cancel" in second.live(path).text


def test_nobody_is_told_without_a_key(service: testing.TestClient, make_job: JobFactory) -> None:
    """An answer that is at hand is for those who may look."""
    make_job(queue="secret")
    assert "secret" in browser(service).live("/dashboard/jobs").text
    stranger = DashboardClient(service).live("/dashboard/jobs")
    assert stranger.status_code == 401
    assert "secret" not in stranger.text


def test_a_problem_is_not_kept(service: testing.TestClient) -> None:
    """What is wrong is told to whoever asks for it, with its status."""
    looks = browser(service)
    path = "/dashboard/jobs?status=nonsense"
    assert [looks.live(path).status_code for _ in range(2)] == [400, 400]


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"])
def test_an_answer_carries_nothing_of_the_headers_that_it_was_made_with(
    service: testing.TestClient, make_job: JobFactory, header: str
) -> None:
    """Who calls the service by another name, also by a header, gives nobody else an address of that name."""
    job_id = make_job("completed")
    value = "host=evil.example" if header == "Forwarded" else "evil.example"
    first, second = browser(service), browser(service)
    for place in (f"/dashboard/jobs/{job_id}", "/dashboard", "/dashboard/queues", "/dashboard/schedules"):
        first.live(place, **{header.replace("-", "_"): value})
        assert "evil.example" not in second.live(place).text
