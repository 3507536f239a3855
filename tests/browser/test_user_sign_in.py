"""Signing in at a provider of OpenID Connect in a real browser: the whole way there, back, and out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.checks import faults
from tests.support.dashboard.chromium import THEMES, watched_page
from tests.support.dashboard.shop import Shop
from tests.support.dashboard.users import PROVIDER_NAME, ShopWithUsers, shop_with_users


@pytest.fixture(scope="module")
def guarded(shop: Shop) -> Iterator[ShopWithUsers]:
    """Another API of the shop, whose users sign in at a provider."""
    with shop_with_users(shop) as started:
        yield started


def sign_in(page: Page, user: str) -> None:
    """Take the way there: the button of the login, and the page of the provider."""
    page.get_by_role("link", name=f"Sign in with {PROVIDER_NAME}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Who are you?")
    page.get_by_role("button", name=user).click()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_whole_way_there_back_and_out(
    browser: Browser, guarded: ShopWithUsers, theme: str, scripts: bool
) -> None:
    """To the page that was wanted, with and without scripts; the policy stops nothing of it."""
    provider = guarded.provider
    with watched_page(browser, base_url=guarded.url, theme=theme, scripts=scripts) as page:
        page.goto("/dashboard/jobs?status=failed")
        sign_in(page, "Ada")
        page.wait_for_url("**/dashboard/jobs?status=failed")
        page.goto("/dashboard/sessions")
        row = page.locator("tr", has_text="this one")
        expect(row).to_contain_text("Ada Lovelace")
        expect(row).to_contain_text(provider.url.removeprefix("http://"))
        before = len(provider.logouts)
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/dashboard/login")
        expect(page.get_by_role("status").filter(has_text="You are logged out.")).to_be_visible()
        assert len(provider.logouts) == before + 1
        assert provider.logouts[-1]["id_token_hint"]
        page.goto("/dashboard/jobs")
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_user_without_a_role_is_told_why(browser: Browser, guarded: ShopWithUsers) -> None:
    """On the page of the login, from which a key, or another user, signs in."""
    with watched_page(browser, base_url=guarded.url) as page:
        page.goto("/dashboard")
        assert faults(page) == []
        sign_in(page, "Bob")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("You are signed in as Bob")
        expect(alert).to_contain_text("no rule of this service gives you a role")
        assert faults(page) == []
        sign_in(page, "Ada")
        page.wait_for_url("**/dashboard")
        page.goto("/dashboard/sessions")
        assert faults(page) == []
