"""What holds for every page of the dashboard, whatever it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.support.chromium import THEMES, sideways
from tests.support.dashboard_pages import addresses, page_routes
from tests.support.hostile import TEXTS, Places, insert_hostile_rows
from tests.support.shop import Shop

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()

PAGES = page_routes()

#: The levels of axe-core that no page may have.
INTOLERABLE = {"serious", "critical"}

#: The rules whose answer depends on the theme.
COLOUR_RULES = ("color-contrast", "link-in-text-block")

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def places(shop: Shop) -> Places:
    """What the pages of the shop's own rows are about."""
    ids = shop.stack.rows("SELECT max(id)::text FROM jobs GROUP BY status")
    failed = shop.stack.rows("SELECT fingerprint FROM jobs WHERE fingerprint IS NOT NULL LIMIT 1")
    operation = shop.request("POST", "/bulk-operations", {"action": "cancel", "filter": {"queue": "pages"}})
    return {
        "jobs": [row[0] for row in ids],
        "editable": [str(shop.create("mail", {"order": 5, "to": "eve@example.com"}, delay_seconds=9_000))],
        "operations": [str(operation["id"])],
        "queues": ["images", "stock", "mail"],
        "types": ["charge_card", "send_receipt"],
        "schedules": ["sales-report"],
        "failures": [row[0] for row in failed],
        "workers": [],
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


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds that is serious. Its script is evaluated from outside: the page's policy stays."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "(options) => axe.run(document, options).then((found) => found.violations)",
        {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {}),
    )
    return [
        f"{one['id']}: {one['help']}: {json.dumps([node['html'][:200] for node in one['nodes'][:3]])}"
        for one in found
        if one["impact"] in INTOLERABLE
    ]


def scrolled_sideways(page: Page) -> dict[int, int]:
    """By how many pixels the page is too wide, by the width of the window; with everything unfolded."""
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    found = {}
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 900})
        # What a script draws is drawn anew for the width.
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if excess := sideways(page):
            found[width] = excess
    return found


@pytest.mark.parametrize("template", PAGES)
def test_it_is_accessible_and_fits_every_screen(
    template: str, places: Places, page: Page, open_pages: Callable[[str, Places], Iterator[str]]
) -> None:
    """One h1, landmarks, nothing serious for axe-core in either theme, nothing sideways from 320 px up."""
    for address in open_pages(template, places):
        assert page.locator("h1").count() == 1, address
        landmarks = page.locator("body > main, body > header, nav[aria-label=Pages]")
        assert landmarks.count() == 3, address
        assert violations(page) == [], address
        page.emulate_media(color_scheme="dark")
        assert violations(page, *COLOUR_RULES) == [], address
        page.emulate_media(color_scheme="light")
        assert scrolled_sideways(page) == {}, address
        page.set_viewport_size({"width": 1280, "height": 900})


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


def test_a_job_appears_without_reload(shop: Shop, page: Page) -> None:
    """A list that is open shows what is created, and then what became of it."""
    page.goto("/dashboard/jobs?tag=appears")
    expect(page.locator("[data-row]")).to_have_count(0)
    page.evaluate("window.marked = true")
    job_id = shop.create("pages", {"title": "new"}, tags=["appears"])
    row = page.locator("[data-row]")
    expect(row).to_contain_text(str(job_id))
    expect(row).to_contain_text("completed")
    assert page.evaluate("window.marked") is True


def test_nothing_is_sent_while_nothing_changes(shop: Shop, page: Page) -> None:
    """The poll of a job that has ended is answered with 304."""
    job_id = shop.create("pages", {"title": "done"})
    shop.wait_for(job_id, "completed")
    page.goto(f"/dashboard/jobs/{job_id}")
    is_poll = "HX-Target".lower()
    with page.expect_response(
        lambda answer: is_poll in answer.request.headers and answer.status == 304, timeout=15_000
    ):
        pass


def test_a_hidden_tab_asks_for_nothing(page: Page) -> None:
    """Polls pause while nobody looks, and go on at once when somebody does."""
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url) if "hx-target" in asked.headers else None)
    page.clock.install()
    page.goto("/dashboard/jobs")
    hide(page, hidden=True)
    page.clock.run_for(20_000)
    assert polls == []
    with page.expect_request(lambda asked: "hx-target" in asked.headers):
        hide(page, hidden=False)


def hide(page: Page, *, hidden: bool) -> None:
    """Let the page believe that its tab is in the background, or back."""
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_the_view_is_paused_by_a_key(page: Page) -> None:
    """`p` stops the polls and says so; `p` again goes on."""
    page.goto("/dashboard/jobs")
    page.keyboard.press("p")
    expect(page.locator(".live-state")).to_have_text("paused")
    with page.expect_request(lambda asked: "hx-target" in asked.headers):
        page.keyboard.press("p")
    expect(page.locator(".live-state")).to_be_hidden()


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
    assert violations(page) == []
    assert scrolled_sideways(page) == {}
