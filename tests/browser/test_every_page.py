"""What holds for every page of the dashboard, whatever it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.checks import faults, scrolled_sideways
from tests.support.dashboard.chromium import THEMES
from tests.support.dashboard.pages import addresses, page_routes
from tests.support.dashboard.shop import Shop
from tests.support.dashboard.webhook_rows import insert_webhook
from tests.support.hostile.rows import TEXTS, Places, insert_hostile_rows

PAGES = page_routes()

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def places(shop: Shop) -> Places:
    """What the pages of the shop's own rows are about."""
    ids = shop.stack.rows("SELECT max(id)::text FROM jobs GROUP BY status")
    failed = shop.stack.rows("SELECT fingerprint FROM jobs WHERE fingerprint IS NOT NULL LIMIT 1")
    operation = shop.request("POST", "/bulk-operations", {"action": "cancel", "filter": {"queue": "pages"}})
    shop.request("POST", "/namespaces", {"name": "acme", "max_waiting_jobs": 10, "creates_per_second": 2.5})
    return {
        "namespaces": ["acme"],
        "jobs": [row[0] for row in ids],
        "editable": [str(shop.create("mail", {"order": 5, "to": "eve@example.com"}, delay_seconds=9_000))],
        "operations": [str(operation["id"])],
        "queues": ["images", "stock", "mail"],
        "types": ["charge_card", "send_receipt"],
        "schedules": ["sales-report"],
        "failures": [row[0] for row in failed],
        "workers": [],
        "webhooks": ["till"],
        "deliveries": insert_webhook(shop.database, "till", "the till is closed"),
    }


@pytest.fixture(scope="session")
def hostile(shop: Shop, places: Places) -> Places:  # noqa: ARG001  (first the decent rows, by which it is called)
    """The places of hostile rows, which from now on are in every list."""
    return insert_hostile_rows(shop.database)


@pytest.fixture
def open_pages(page: Page) -> Callable[[str, Places], Iterator[str]]:
    """Goes to each address of a page in turn."""

    def go(template: str, places: Places) -> Iterator[str]:
        for address in addresses(template, places):
            answer = page.goto(address)
            assert answer is not None
            assert answer.status == 200, address
            yield address

    return go


@pytest.mark.parametrize("template", PAGES)
def test_it_is_accessible_and_fits_every_screen(
    template: str, places: Places, page: Page, open_pages: Callable[[str, Places], Iterator[str]]
) -> None:
    """One h1, landmarks, nothing serious for axe-core in either theme, nothing sideways from 320 px up."""
    for address in open_pages(template, places):
        expect(page.get_by_role("navigation", name="Pages", exact=True)).to_be_visible()
        assert faults(page) == [], address


@pytest.mark.parametrize("template", PAGES)
def test_hostile_text_stays_text(
    template: str, hostile: Places, page: Page, open_pages: Callable[[str, Places], Iterator[str]]
) -> None:
    """Nothing that a name, a payload, a tag or an error holds becomes markup, and nothing is pushed aside."""
    for address in open_pages(template, hostile):
        poll(page)
        assert page.evaluate("window.__pwned") is None, address
        assert page.locator("img:not([alt='']), script:not([src]), [onerror], [onfocus]").count() == 0, (
            address
        )
        assert scrolled_sideways(page) == {}, address


def poll(page: Page) -> None:
    """Let the page ask for its live part now, as it does every two seconds, and show it."""
    if page.locator("#live").count():
        page.evaluate(
            """new Promise((done) => {
              addEventListener("htmx:afterRequest", done, { once: true });
              htmx.trigger("#live", "refresh");
            })"""
        )


@pytest.mark.parametrize("template", PAGES)
def test_it_is_read_without_scripts(template: str, places: Places, open_page: OpenPage) -> None:
    """A browser that runs no script shows the heading, the rows, and the figures of charts as a table."""
    plain = open_page(scripts=False)
    for address in addresses(template, places):
        plain.goto(address)
        expect(plain.locator("h1")).to_be_visible()
        assert len(plain.locator("main").inner_text()) > 60, address
        for row in plain.locator("[data-row]").all()[:1]:
            expect(row).to_be_visible()
        for button in plain.locator("[data-keys], [data-theme-switch]").all():
            expect(button).to_be_hidden()
        charts, tables = plain.locator("[data-chart]").count(), plain.locator("main details table").count()
        assert tables >= min(charts, 1), address


def test_hostile_text_is_shown_as_it_is(hostile: Places, page: Page) -> None:
    """The payload of a job has the very characters, and the list of jobs its names."""
    page.goto(f"/dashboard/jobs/{hostile['jobs'][0]}")
    expect(page.locator("main")).to_contain_text(TEXTS["script"])
    page.goto(f"/dashboard/jobs/{hostile['jobs'][1]}")
    expect(page.locator("main")).to_contain_text(TEXTS["image"])


def test_keys_go_everywhere(page: Page) -> None:
    """`g` and a letter open each page of the navigation; `?` lists the keys, Escape closes the list."""
    page.goto("/dashboard")
    links = page.locator("nav.pages a")
    wanted = [(link.inner_text(), link.get_attribute("href")) for link in links.all()]
    for name, place in wanted:
        page.keyboard.press("g")
        page.keyboard.press(name[0].lower())
        page.wait_for_url(f"**{place}")
        expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_keys_search_and_walk_rows(page: Page) -> None:
    """`/` goes to the search from any page, `j` and `k` from row to row, and Enter opens one."""
    page.goto("/dashboard/workers")
    page.keyboard.press("/")
    page.wait_for_url("**/dashboard/jobs#find")
    expect(page.locator("[data-search]")).to_be_focused()
    page.goto("/dashboard/jobs?status=completed")
    rows = page.locator("[data-row]")
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    expect(rows.nth(1)).to_have_class("current")
    wanted = rows.nth(1).locator("a").first.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{wanted}")


def test_the_chosen_theme_is_kept(page: Page) -> None:
    """The switch overrides the system's theme, on this page and on the next, from the first paint on."""
    page.goto("/dashboard")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto("/dashboard/jobs")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_system_chooses_a_theme_first(open_page: OpenPage) -> None:
    """Without a choice the page is as the system is."""
    grounds = set()
    for theme in THEMES:
        page = open_page(theme=theme)
        page.goto("/dashboard")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_the_first_stop_of_the_keyboard_skips_the_frame(page: Page) -> None:
    """Tab and Enter lead to the content."""
    page.goto("/dashboard/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_page_that_is_not_there_is_a_page(page: Page) -> None:
    """What is wrong, and the way back; it is accessible as well."""
    answer: Response | None = page.goto("/dashboard/jobs/999999999")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
    expect(page.get_by_role("link", name="Back to the overview")).to_be_visible()
    assert faults(page) == []
