"""Signing in at a provider in this process: the provider, its users, and browsers before a dashboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from falcon import testing
from pydantic import SecretStr

from goqueue.api.app import create_app
from goqueue.config.role_rules import rules_of
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.dashboard.client import DashboardClient
from tests.support.servers.openid_provider import CLIENT_ID, CLIENT_SECRET, FakeUser, OpenIdProvider

__all__ = [
    "ADA",
    "CALLBACK",
    "HOST",
    "RULES",
    "START",
    "MakeBrowser",
    "assert_refused",
    "browser",
    "browser_of",
    "come_back",
    "is_in",
    "provider",
    "running_provider",
    "settings_of",
    "sign_in",
    "start",
    "told",
]

START = "/dashboard/login/start"
CALLBACK = "/dashboard/login/callback"
HOST = "http://falconframework.org"

RULES: list[dict[str, Any]] = [
    {"claim": "groups", "value": "ops", "roles": ["operator", "keys:manage"]},
    {"claim": "realm_access.roles", "value": "auditor", "roles": ["admin"]},
    {"claim": "email", "value": "grace@example.com", "roles": ["viewer"]},
    {"claim": "is_staff", "value": True, "roles": ["viewer"]},
]

ADA = FakeUser("248289761001", {"name": "Ada Lovelace", "groups": ["staff", "ops"]})
USERS = {
    "ada": ADA,
    "bob": FakeUser("bob-1", {"name": "Bob", "groups": ["staff"]}),
    "grace": FakeUser("grace-1", {"email": "grace@example.com", "email_verified": True}),
    "mallory": FakeUser("mallory-1", {"email": "grace@example.com", "email_verified": False}),
    "olga": FakeUser("olga-1", {}, {"name": "Olga", "realm_access": {"roles": ["auditor"]}}),
    "staff": FakeUser("staff-1", {"name": "Staff", "is_staff": True}),
    "nearly": FakeUser("nearly-1", {"name": "Nearly", "is_staff": 1, "groups": "opsy"}),
}

MakeBrowser = Callable[..., DashboardClient]


@pytest.fixture(scope="module")
def running_provider() -> Iterator[OpenIdProvider]:
    """A provider for all tests of this module: its keys take a while to make."""
    with OpenIdProvider() as started:
        yield started


@pytest.fixture
def provider(running_provider: OpenIdProvider) -> Iterator[OpenIdProvider]:
    """The provider, which knows this service and some users."""
    running_provider.users = dict(USERS)
    running_provider.redirect_uris = {f"{HOST}{CALLBACK}"}
    running_provider.asked.clear()
    running_provider.token_requests.clear()
    yield running_provider
    running_provider.tell_the_truth()
    running_provider.metadata = {}
    running_provider.client_secret = CLIENT_SECRET


def settings_of(provider: OpenIdProvider) -> dict[str, Any]:
    """The settings of a dashboard whose users sign in at the provider."""
    return {
        "api_keys_required": True,
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": SecretStr(CLIENT_SECRET),
        "oidc_roles": rules_of(RULES),
    }


@pytest.fixture
def browser_of(
    settings: Settings, database: Database, runway: Runway, provider: OpenIdProvider
) -> MakeBrowser:
    """Makes browsers on a dashboard whose users sign in at the provider, each dashboard with new memories."""

    def make(**changes: Any) -> DashboardClient:
        changed = settings.model_copy(update=settings_of(provider) | changes)
        app = create_app(changed, database=database, runway=runway, site=DASHBOARD)
        return DashboardClient(testing.TestClient(app))

    return make


@pytest.fixture
def browser(browser_of: MakeBrowser) -> DashboardClient:
    """A browser before such a dashboard."""
    return browser_of()


def start(browser: DashboardClient, place: str = "/dashboard/jobs") -> str:
    """Begin a sign-in; the address that the browser is sent to."""
    answer = browser.get(f"{START}?{urlencode({'next': place})}")
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def come_back(browser: DashboardClient, address: str) -> testing.Result:
    """Let the browser follow the address that the provider sends it to."""
    assert address.startswith(HOST)
    return browser.get(address.removeprefix(HOST))


def sign_in(browser: DashboardClient, provider: OpenIdProvider, user: str = "ada") -> testing.Result:
    """Sign in, all the way."""
    return come_back(browser, provider.let_in(start(browser), user))


def is_in(browser: DashboardClient) -> bool:
    """Whether the browser is shown the dashboard."""
    return browser.get("/dashboard/sessions").status_code != 303


def told(result: testing.Result) -> str:
    """What the page says that went wrong."""
    found = re.search(r'role="alert">([^<]*)<', result.text)
    assert found, result.text
    return unescape(found[1])


def assert_refused(browser: DashboardClient, result: testing.Result, status: int = 403) -> None:
    """Refused with the page of the login, and without a session."""
    assert result.status_code == status, result.text
    assert told(result)
    assert 'name="key"' in result.text
    assert not is_in(browser)
