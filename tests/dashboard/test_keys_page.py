"""The page of the API keys: made, rotated and revoked by forms."""

from __future__ import annotations

import re

import pytest
from falcon import testing

from goqueue.access.key_ring import KeyRing
from goqueue.access.keys import Keys
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.dashboard.client import DashboardClient
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

_TEXT = re.compile(r'id="made-text"[^>]*>(gq_[^<]+)<')


@pytest.fixture
def browser(settings: Settings, database: Database, runway: Runway) -> DashboardClient:
    """A browser on a dashboard that needs no key yet."""
    app = create_app(settings, database=database, runway=runway, site=DASHBOARD)
    return DashboardClient(testing.TestClient(app))


def test_a_key_is_made_rotated_and_revoked(browser: DashboardClient, database: Database) -> None:
    """Its text is on the page that answers the form, which nobody keeps, and on no other."""
    keys = Keys(database)
    fields = {
        "name": "shop & co",
        "role": "client",
        "scope-jobs:manage": "1",
        "queues": "mail, sms",
        "days": "30",
    }
    page = browser.post("/dashboard/keys", **fields)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    text = _TEXT.findall(page.text)[0]
    (key,) = keys.list()
    assert (key.name, key.queues, key.types) == ("shop & co", ("mail", "sms"), None)
    assert set(key.scopes) == {"jobs:create", "jobs:read", "payloads:read", "jobs:manage"}
    assert key.expires_at is not None
    principal = KeyRing((), database).find(text)
    assert principal is not None
    assert principal.name == "shop & co"
    listed = browser.get("/dashboard/keys").text
    assert "shop &amp; co" in listed
    assert text.rpartition("_")[2] not in listed

    rotated = _TEXT.findall(browser.post(f"/dashboard/keys/{key.id}/rotate").text)[0]
    assert rotated != text
    assert all(KeyRing((), database).find(one) for one in (text, rotated))

    gone = browser.post(f"/dashboard/keys/{key.id}/revoke")
    assert gone.status_code == 303
    assert "is revoked" in browser.get("/dashboard/keys").text
    assert KeyRing((), database).find(rotated) is None


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "", "role": "client"}, "name"),
        ({"name": "shop"}, "role"),
        ({"name": "shop", "role": "king"}, "role"),
        ({"name": "shop", "role": "client", "days": "soon"}, "days"),
        ({"name": "shop", "role": "client", "days": "-1"}, "days"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    browser: DashboardClient, database: Database, fields: dict[str, str], wrong: str
) -> None:
    """What was typed stays there, and nothing is made."""
    page = browser.post("/dashboard/keys", **fields)
    assert page.status_code == 400
    label = re.search(rf'<label>[^<]*<(?:input|select)[^>]* name="{wrong}".*?</label>', page.text, re.DOTALL)
    assert label is not None
    assert 'class="wrong"' in label[0]
    assert f'value="{fields["name"]}"' in page.text
    assert Keys(database).list() == []


def test_without_keys_it_says_what_to_do(browser: DashboardClient) -> None:
    """And that the service asks for none yet."""
    page = browser.get("/dashboard/keys").text
    assert "No keys yet" in page
    assert "GOQUEUE_API_KEYS_REQUIRED" in page
