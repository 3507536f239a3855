"""The dashboard where keys are needed and nothing may be changed, in a real browser."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from goqueue.dev.embedded import HOST, free_port
from tests.browser.checks import faults
from tests.support.dashboard.chromium import watched_page
from tests.support.dashboard.shop import Shop
from tests.support.waiting import wait_until

KEY = "the key of the shop"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()

LISTS = ("jobs", "queues", "types", "failures", "schedules", "workers", "operations", "create")


@pytest.fixture(scope="module")
def guarded(shop: Shop) -> Iterator[str]:
    """The root of another API of the shop: it knows a key, and its dashboard is read-only."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    keys: dict[str, Any] = {"api_port": port, "api_keys": (KEY_HASH,), "dashboard_read_only": True}
    child = shop.stack.run(["-m", "goqueue", "api"], **keys)

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/dashboard/login", trust_env=False).is_success
        return False

    wait_until(answers, 30, "the guarded API to answer")
    yield url
    child.kill()


@pytest.fixture
def page(browser: Browser, guarded: str) -> Iterator[Page]:
    """A tab that knows no key."""
    with watched_page(browser, base_url=guarded) as opened:
        yield opened


def log_in(page: Page, key: str = KEY) -> None:
    """Give a key to the form that is shown."""
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_the_login_leads_to_the_page_that_was_wanted(page: Page) -> None:
    """A wrong key is told, the right one opens the page with its query, and the way out closes it."""
    page.goto("/dashboard/jobs?status=failed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    expect(page.get_by_label("API key")).to_be_focused()
    assert faults(page) == []
    log_in(page, "no key")
    expect(page.get_by_role("alert")).to_have_text("This service does not know that key.")
    assert faults(page) == []
    log_in(page)
    page.wait_for_url("**/dashboard/jobs?status=failed")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status").filter(has_text="You are logged out.")).to_be_visible()
    page.goto("/dashboard/jobs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_an_open_page_goes_to_the_login_when_its_session_ends(page: Page) -> None:
    """Its next poll is sent there as a whole page, and no chart is drawn from a login."""
    page.goto("/dashboard")
    log_in(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    page.context.clear_cookies()
    page.wait_for_url("**/dashboard/login", timeout=15_000)


def test_a_read_only_dashboard_shows_all_and_offers_no_change(page: Page) -> None:
    """Every list is there and says that it is read-only; no button of it changes anything."""
    page.goto("/dashboard")
    log_in(page)
    for name in LISTS:
        answer = page.goto(f"/dashboard/{name}")
        assert answer is not None
        assert answer.status == 200, name
        expect(page.get_by_text("read-only", exact=True)).to_be_visible()
        assert page.locator("main form[method=post] button:visible").count() == 0, name
        assert faults(page) == [], name
