"""The pages of the webhooks: made, changed, rotated, disabled and deleted by forms."""

from __future__ import annotations

import re

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.instance import GoQueue
from goqueue.webhooks.webhooks import Webhooks
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.webhook_rows import insert_webhook
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

URL = "https://93.184.216.34/hook"

_SECRET = re.compile(r'id="made-text"[^>]*>(whsec_[^<]+)<')


@pytest.fixture
def browser(settings: Settings, database: Database, runway: Runway) -> DashboardClient:
    """A browser on a dashboard that needs no key."""
    app = create_app(settings, database=database, runway=runway, site=DASHBOARD)
    return DashboardClient(testing.TestClient(app))


@pytest.fixture
def webhooks(settings: Settings, database: Database) -> Webhooks:
    """The webhooks that the forms change."""
    return GoQueue(settings, database=database).webhooks


def test_a_webhook_is_made_changed_and_deleted(browser: DashboardClient, webhooks: Webhooks) -> None:
    """Its secret is on the page that answers the form, which nobody keeps, and on no other."""
    fields = {
        "name": "shop",
        "url": URL,
        "events": "job.failed, queue.*",
        "tags": "red",
        "headers": "Authorization: Bearer hidden\nX-Tenant: acme",
        "ordered": "1",
    }
    page = browser.post("/dashboard/webhooks", **fields)
    assert page.headers["cache-control"] == "no-store"
    secret = _SECRET.findall(page.text)[0]
    webhook = webhooks.get("shop")
    assert webhook.secret == secret
    assert (webhook.events, webhook.tags, webhook.queues) == (("job.failed", "queue.*"), ("red",), None)
    assert (webhook.ordered, webhook.with_contents) == (True, False)
    for path in ("/dashboard/webhooks", "/dashboard/webhooks/shop"):
        text = browser.get(path).text
        assert secret not in text
        assert "Bearer hidden" not in text

    kept = {"url": URL, "headers": "Authorization: ***", "with_contents": "1"}
    assert browser.post("/dashboard/webhooks/shop", **kept).status_code == 303
    webhook = webhooks.get("shop")
    assert (webhook.events, webhook.ordered, webhook.with_contents) == (None, False, True)
    assert webhook.headers == {"Authorization": "Bearer hidden"}

    rotated = _SECRET.findall(browser.post("/dashboard/webhooks/shop/rotate").text)[0]
    assert rotated == webhooks.get("shop").secret
    assert browser.post("/dashboard/webhooks/shop/disable").status_code == 303
    assert "disabled by" in browser.get("/dashboard/webhooks/shop").text
    assert browser.post("/dashboard/webhooks/shop/enable").status_code == 303
    assert webhooks.get("shop").is_active
    assert browser.post("/dashboard/webhooks/shop/ping").status_code == 303
    assert "webhook.ping" in browser.get("/dashboard/webhooks/shop").text
    assert browser.post("/dashboard/webhooks/shop/delete").status_code == 303
    assert webhooks.list() == []


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "a b", "url": URL}, "name"),
        ({"name": "shop", "url": "http://10.0.0.1/"}, "not global"),
        ({"name": "shop", "url": URL, "events": "job.lost"}, "kind of event"),
        ({"name": "shop", "url": URL, "headers": "nonsense"}, "a colon and a value"),
        ({"name": "shop", "url": URL, "headers": "Host: x"}, "the sender itself sets"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    browser: DashboardClient, webhooks: Webhooks, fields: dict[str, str], wrong: str
) -> None:
    """And what was typed is still there; nothing was made."""
    page = browser.post("/dashboard/webhooks", **fields)
    assert page.status_code == 400
    alerts = re.findall(r'role="alert">([^<]+)<', page.text)
    assert len(alerts) == 1
    assert wrong in alerts[0] or wrong == "name"
    assert f'value="{fields["name"]}"' in page.text
    assert webhooks.list() == []


def test_deliveries_are_shown_and_delivered_again(browser: DashboardClient, database: Database) -> None:
    """By state, each with its body and its calls; one, or those of a time."""
    failed, delivered, waiting, _ = insert_webhook(database, "shop", "out of order")
    page = browser.get("/dashboard/webhooks/shop").text
    assert all(f"deliveries/{one}" in page for one in (failed, delivered, waiting))
    assert "between 2026-11-28 08:00:00 UTC and 2026-11-28 11:30:00 UTC" in page
    only = browser.get("/dashboard/webhooks/shop?state=failed").text
    assert f"deliveries/{failed}" in only
    assert f"deliveries/{delivered}" not in only
    place = f"/dashboard/webhooks/shop/deliveries/{failed}"
    one = browser.get(place).text
    assert "out of order" in one
    assert "&#34;type&#34;: &#34;job.completed&#34;" in one
    assert browser.post(f"{place}/redeliver").status_code == 303
    assert browser.post(f"{place}/redeliver").status_code == 409
    said = {"since": "2020-01-01T00:00", "until": "", "state": "delivered"}
    assert browser.post("/dashboard/webhooks/shop/redeliver", **said).status_code == 303
    assert "2 deliveries are delivered again" in browser.get("/dashboard/webhooks/shop").text
    assert browser.post("/dashboard/webhooks/shop/redeliver", since="soon").status_code == 400
