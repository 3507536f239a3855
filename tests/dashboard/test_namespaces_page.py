"""The pages of the namespaces inside of the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from falcon import testing

from goqueue.api.key_routing import create_key_router
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import GoQueue
from tests.support.dashboard.client import DashboardClient
from tests.support.shared_database import own_settings

PLACE = "/dashboard/namespaces"


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """An installation of the tests of this module, which needs keys."""
    with own_settings(
        postgres, valkey, "pages", api_keys_required=True, allowed_hosts=("falconframework.org",)
    ) as settings:
        yield settings


@pytest.fixture
def home(settings: Settings) -> Iterator[GoQueue]:
    """The installation itself."""
    with GoQueue(settings) as goqueue:
        yield goqueue


@pytest.fixture
def browser(settings: Settings, home: GoQueue) -> Iterator[DashboardClient]:
    """A browser that an admin of the installation has signed in with."""
    router = create_key_router(settings, site=DASHBOARD)
    made = DashboardClient(testing.TestClient(router))
    key = home.keys.create("operator", "admin").text
    assert made.post("/dashboard/login", key=key).status_code == 303
    yield made
    router.close()


def test_the_life_of_a_namespace(browser: DashboardClient, home: GoQueue) -> None:
    """It is made by a form, changed by another, entered without a further login, and deleted by its name."""
    assert "No namespaces yet" in browser.get(PLACE).text
    made = browser.post(PLACE, name="acme", max_waiting_jobs="5", creates_per_second="2.5", share="3")
    assert (made.status_code, made.headers["Location"]) == (303, f"{PLACE}/acme")
    assert home.namespaces.get("acme").quotas.creates_per_second == 2.5
    page = browser.get(f"{PLACE}/acme").text
    assert 'name="creates_per_second" value="2.5"' in page
    assert 'name="max_waiting_jobs" value="5"' in page
    changed = browser.post(f"{PLACE}/acme", max_waiting_jobs="", max_running_jobs="7", share="3")
    assert changed.status_code == 303
    quotas = home.namespaces.get("acme").quotas
    assert (quotas.max_waiting_jobs, quotas.creates_per_second, quotas.max_running_jobs) == (None, None, 7)
    inside = browser.get("/ns/acme/dashboard/queues")
    assert inside.status_code == 200
    assert 'href="/ns/default/dashboard/queues"' in inside.text
    assert browser.post(f"{PLACE}/acme/delete", typed="acm").status_code == 400
    assert browser.post(f"{PLACE}/acme/delete", typed="acme").status_code == 303
    assert home.namespaces.every() == []
    assert browser.get(f"{PLACE}/acme").status_code == 404


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "Acme"}, "small letters"),
        ({"name": "default"}, "not the word default"),
        ({"name": "pages"}, "there is a namespace pages"),
        ({"name": "acme", "max_running_jobs": "0"}, "greater than or equal to 1"),
        ({"name": "acme", "creates_per_second": "many"}, "expected a number"),
    ],
)
def test_what_is_wrong_is_told_beside_the_fields(
    browser: DashboardClient, home: GoQueue, fields: dict[str, str], wrong: str
) -> None:
    """And nothing is made."""
    answer = browser.post(PLACE, **fields)
    assert answer.status_code == 400
    assert wrong in answer.text
    assert f'value="{fields["name"]}"' in answer.text
    assert home.namespaces.every() == []


def test_only_an_admin_of_the_installation_enters_a_namespace_without_its_key(
    browser: DashboardClient, settings: Settings, home: GoQueue
) -> None:
    """Others sign in with a key of it, also at the address of everybody, and are led there."""
    assert browser.post(PLACE, name="beta").status_code == 303
    lesser = DashboardClient(browser.client)
    assert lesser.post("/dashboard/login", key=home.keys.create("shop", "operator").text).status_code == 303
    assert lesser.get("/dashboard").status_code == 200
    assert lesser.get("/ns/beta/dashboard").status_code == 303
    assert lesser.get(PLACE).status_code == 403
    with GoQueue(settings, namespace="beta") as beta:
        key = beta.keys.create("client", "admin").text
    own = DashboardClient(browser.client)
    entered = own.post("/dashboard/login", key=key)
    assert entered.headers["Location"] == "/ns/beta/dashboard"
    assert list(own.cookies) == ["goqueue_session", "goqueue_session_beta"]
    assert own.get("/ns/beta/dashboard").status_code == 200
    assert own.get("/dashboard").status_code == 303
    assert 'class="namespaces"' not in own.get("/ns/beta/dashboard").text
    home.namespaces.delete("beta")
