"""Every page and action of the dashboard for every role, against the table of docs/access.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from falcon import testing

from goqueue.access.keys import Keys
from goqueue.access.scopes import ROLES
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.access import sessions as dashboard_sessions
from goqueue.dashboard.access.page_scopes import PAGES
from goqueue.dashboard.rendering import NAVIGATION
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.access_tables import page_rows, role_table
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.pages import routes
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

PLACES = {"job_id": "1", "operation_id": "1", "worker_id": "1", "name": "nosuch"}
PLACES |= {"fingerprint": "0" * 16, "key_id": "a" * 12, "delivery_id": "1"}

SignIn = Callable[..., DashboardClient]


@pytest.fixture
def browser(module_settings: Settings, database: Database, runway: Runway) -> DashboardClient:
    """A browser before a dashboard that needs a key."""
    settings = module_settings.model_copy(update={"api_keys_required": True})
    app = create_app(settings, database=database, runway=runway, site=DASHBOARD)
    return DashboardClient(testing.TestClient(app))


@pytest.fixture
def sign_in(browser: DashboardClient, database: Database) -> SignIn:
    """Signs in with a new key of some scopes."""

    def sign_in(*scopes: str, **only: Any) -> DashboardClient:
        key = Keys(database).create("the key of a test", *scopes, **only).text
        assert browser.post("/dashboard/login", key=key).status_code == 303
        return browser

    return sign_in


def template_of(path: str) -> str:
    """A template without converters."""
    return re.sub(r":\w+(?=\})", "", path)


def test_the_table_names_every_page() -> None:
    """And no other; a page that is in no table is refused."""
    documented = {row.template: (tuple(row.reads), tuple(row.changes)) for row in page_rows()}
    assert documented == {page: (scopes.reads, scopes.changes or ()) for page, scopes in PAGES.items()}
    assert {template_of(route.template) for route in routes()} == set(PAGES)


@pytest.mark.parametrize("role", [*ROLES, "events:read"])
def test_a_role_sees_and_does_what_the_table_says(sign_in: SignIn, role: str) -> None:
    """403 for everything else, whether or not it is there."""
    scopes = role_table().get(role, frozenset({role}))
    browser = sign_in(role)
    methods: Mapping[str, frozenset[str]] = {template_of(route.template): route.methods for route in routes()}
    wrong = {}
    for row in page_rows():
        if row.template in {"/dashboard/logout", "/dashboard/login"}:
            continue
        address = row.template.format(**PLACES)
        for method, needed in (("GET", row.reads), ("POST", row.changes)):
            if method not in methods[row.template]:
                continue
            answer = browser.get(address) if method == "GET" else browser.post(address)
            may = "admin" in scopes or scopes.issuperset(needed)
            if (answer.status_code == 403) is may or answer.status_code in {401, 500}:
                wrong[method, row.template] = answer.status_code
    assert wrong == {}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_leads_to_what_is_refused(sign_in: SignIn, role: str) -> None:
    """The navigation has only pages that may be looked at; forms stand where something may be changed."""
    scopes = role_table()[role]
    browser, rows = sign_in(role), {row.template: row for row in page_rows()}
    for place, _ in NAVIGATION:
        row = rows[place]
        may_read = "admin" in scopes or scopes.issuperset(row.reads)
        answer = browser.get(place)
        shown = set(re.findall(r'<a href="(/dashboard[^"]*)"', answer.text.partition("</nav>")[0]))
        assert (place in shown) is may_read, place
        if may_read:
            may_change = "admin" in scopes or (bool(row.changes) and scopes.issuperset(row.changes))
            forms = re.findall(r'<form method="post" action="([^"]*)"', answer.text)
            assert may_change or set(forms) <= {"/dashboard/logout"}, place


def test_a_session_ends_with_its_key(
    sign_in: SignIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked key shows nobody another page."""
    monkeypatch.setattr(dashboard_sessions, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("goqueue.access.key_ring.GOOD_FOR_SECONDS", 0.0)
    browser = sign_in("viewer")
    assert browser.get("/dashboard/jobs").status_code == 200
    keys = Keys(database)
    keys.revoke(keys.list()[0].id)
    assert browser.get("/dashboard/jobs").status_code == 303


def test_a_session_outlives_a_rotation_as_its_secret_does(
    sign_in: SignIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the secret before is good, and no longer."""
    monkeypatch.setattr(dashboard_sessions, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("goqueue.access.key_ring.GOOD_FOR_SECONDS", 0.0)
    browser, keys = sign_in("viewer"), Keys(database)
    keys.rotate(keys.list()[0].id, overlap_seconds=60)
    assert browser.get("/dashboard/jobs").status_code == 200
    keys.rotate(keys.list()[0].id, overlap_seconds=0)
    assert browser.get("/dashboard/jobs").status_code == 303


def test_a_restricted_key_cannot_sign_in(browser: DashboardClient, database: Database) -> None:
    """The dashboard shows all queues, and says so."""
    key = Keys(database).create("shop", "admin", queues=["mail"]).text
    refused = browser.post("/dashboard/login", key=key)
    assert refused.status_code == 403
    assert "restricted" in refused.text
    assert browser.get("/dashboard/jobs").status_code == 303
