"""Webhooks in a real browser: made, rotated, changed, disabled, enabled, deleted; and their deliveries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.checks import faults
from tests.support.dashboard.chromium import THEMES, watched_page
from tests.support.dashboard.shop import Shop
from tests.support.dashboard.webhook_rows import insert_webhook


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    """A tab on the dashboard of the shop, which needs no key, that says yes to every question."""
    with watched_page(browser, base_url=shop.url) as opened:
        yield opened


def test_a_webhook_lives(page: Page) -> None:
    """Its secret is on the page once; each action says what it did, and a disabled one says why."""
    page.goto("/dashboard/webhooks")
    page.get_by_label("Name").fill("stock-keeper")
    page.get_by_label("URL").fill("https://93.184.216.34/hook")
    page.get_by_label("Only these events").fill("job.failed, queue.*")
    # Of this queue there is nothing to tell: nobody is called.
    page.get_by_label("Only of these queues").fill("nobody")
    page.get_by_label("Headers").fill("X-Tenant: acme\nAuthorization: Bearer hidden")
    page.get_by_role("button", name="Make the webhook").click()
    secret = page.locator("#made-text").inner_text()
    assert secret.startswith("whsec_")
    assert faults(page) == []

    page.get_by_role("link", name="stock-keeper").click()
    expect(page.get_by_text(secret)).to_have_count(0)
    expect(page.get_by_text("Bearer hidden")).to_have_count(0)
    page.get_by_role("button", name="Rotate the secret").click()
    assert page.locator("#made-text").inner_text() != secret
    page.goto("/dashboard/webhooks/stock-keeper")
    page.get_by_label("Only of these queues").fill("nobody, nowhere")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="is changed")).to_be_visible()
    expect(page.get_by_text("queue nowhere")).to_be_visible()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("#disabled")).to_contain_text("disabled by")
    assert faults(page) == []
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#disabled")).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    expect(page.get_by_role("link", name="stock-keeper")).to_have_count(0)


def test_an_address_inside_is_refused_beside_its_field(page: Page) -> None:
    """And what was typed is still there."""
    page.goto("/dashboard/webhooks")
    page.get_by_label("Name").fill("inside")
    page.get_by_label("URL").fill("http://10.0.0.1/hook")
    page.get_by_role("button", name="Make the webhook").click()
    expect(page.get_by_role("alert")).to_contain_text("not global")
    expect(page.get_by_label("Name")).to_have_value("inside")


@pytest.mark.parametrize("theme", THEMES)
def test_a_past_is_told(browser: Browser, shop: Shop, theme: str) -> None:
    """Why it is disabled, what it was not told, and each delivery with its body and its calls."""
    insert_webhook(shop.database, f"past-{theme}", "the receiver answered 503")
    with watched_page(browser, theme=theme, base_url=shop.url) as page:
        page.goto(f"/dashboard/webhooks/past-{theme}")
        expect(page.locator("#disabled")).to_contain_text("the receiver answered 503")
        expect(page.locator("#gap")).to_contain_text("was not told")
        page.get_by_role("link", name="failed").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        assert faults(page) == []
        page.locator("tbody tr a").first.click()
        expect(page.get_by_text("the receiver answered 503").first).to_be_visible()
        expect(page.locator("#body-text")).to_contain_text("job.completed")
        assert faults(page) == []
        page.get_by_role("button", name="Deliver again").click()
        expect(page.get_by_text("waiting")).to_be_visible()
