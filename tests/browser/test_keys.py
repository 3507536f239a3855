"""API keys and the audit log in a real browser: made, rotated, revoked, and written down."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.checks import faults
from tests.support.dashboard.chromium import watched_page
from tests.support.dashboard.shop import Shop


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    """A tab on the dashboard of the shop, which needs no key, that says yes to every question."""
    with watched_page(browser, base_url=shop.url) as opened:
        yield opened


def test_a_key_is_made_rotated_and_revoked(page: Page, shop: Shop) -> None:
    """Its text is on the page once; what it may not do is refused; the audit log has all three."""
    page.goto("/dashboard/keys")
    page.get_by_label("Name").fill("till at the door")
    page.get_by_label("Role").select_option("client")
    page.get_by_label("Only these queues").fill("mail")
    page.get_by_role("button", name="Make the key").click()
    made = page.locator("#made-text").inner_text()
    with httpx.Client(base_url=shop.url, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {made}"
        assert client.get("/queues/mail").status_code == 200
        assert client.get("/queues/stock").status_code == 404
        assert client.post("/queues/mail/pause").status_code == 403
    assert faults(page) == []

    page.goto("/dashboard/keys")
    expect(page.get_by_text(made)).to_have_count(0)
    row = page.locator("tr", has_text="till at the door")
    row.get_by_role("button", name="Rotate").click()
    rotated = page.locator("#made-text").inner_text()
    assert rotated != made
    row = page.locator("tr", has_text="till at the door")
    expect(row.get_by_text("two secrets")).to_be_visible()
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status").filter(has_text="is revoked")).to_be_visible()
    expect(row.locator(".badge").first).to_have_text("revoked")

    page.goto("/dashboard/audit")
    key_id = made.split("_")[1]
    page.get_by_label("Of what").fill(f"key {key_id}")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody .badge")).to_have_text(["key.revoke", "key.rotate", "key.create"])
    expect(page.get_by_text("till at the door").first).to_be_visible()
    assert faults(page) == []
