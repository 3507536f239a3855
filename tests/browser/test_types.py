"""The pages of job types in a real browser: two populations are seen, figures arrive, breakers are moved."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from playwright.sync_api import Page, expect

from tests.support.dashboard.chromium import sideways
from tests.support.dashboard.shop import Shop

OpenPage = Callable[..., Page]

PLACE = "/dashboard/types/send_receipt"

#: A job is counted when its step of ten seconds has ended, and a little later.
COUNTED_MILLISECONDS = 60_000


def bars(page: Page) -> list[dict[str, Any]]:
    """The bars of the histogram: where they begin and end on the screen, and what they tell."""
    found: list[dict[str, Any]] = page.evaluate(
        """[...document.querySelectorAll("#histogram rect")].map((bar) => {
            const { left, right, height } = bar.getBoundingClientRect();
            return { left, right, height, title: bar.textContent };
        })"""
    )
    return found


def test_the_histogram_and_the_scatter_are_drawn(page: Page) -> None:
    """A day of receipts has bars side by side with their bounds, and bubbles over the whole of it."""
    page.goto(f"{PLACE}?range=24h")
    # The day is counted piece by piece.
    expect(page.locator("#scatter circle").nth(20)).to_be_attached(timeout=COUNTED_MILLISECONDS)
    drawn = bars(page)
    assert len(drawn) >= 3
    assert all(before["right"] <= after["left"] for before, after in pairwise(drawn))
    assert all(" to " in bar["title"] and "%)" in bar["title"] for bar in drawn)
    assert max(bar["height"] for bar in drawn) > 100
    fill = page.locator("#scatter circle").first.evaluate("(one) => getComputedStyle(one).fill")
    assert fill != "rgb(0, 0, 0)"


def test_what_ends_arrives_without_reload(shop: Shop, page: Page) -> None:
    """A page that was opened before a job ended counts it; what was unfolded stays so."""
    # A type without a history: of another, the oldest completed job may leave the range in the meantime.
    page.goto("/dashboard/types/publish_page?range=15m")
    page.evaluate("window.opened = true")
    completed = page.locator("#figures .figure").filter(has_text="Completed").locator("dd")
    before = int((completed.text_content() or "").replace(",", ""))
    page.locator("#schema-fold > summary").click()
    shop.create("pages", {"title": "Opening hours"})
    expect(completed).not_to_have_text(f"{before:,}", timeout=COUNTED_MILLISECONDS)
    assert int((completed.text_content() or "").replace(",", "")) > before
    assert page.evaluate("window.opened")
    expect(page.locator("#schema-fold .tree")).to_be_visible()


def test_ranges_are_links(page: Page) -> None:
    """A range has an address of its own."""
    page.goto(PLACE)
    page.get_by_role("link", name="30d", exact=True).click()
    page.wait_for_url(f"**{PLACE}?range=30d")
    expect(page.get_by_role("link", name="30d", exact=True)).to_have_attribute("aria-current", "page")


def test_a_breaker_is_opened_and_closed(shop: Shop, page: Page) -> None:
    """From the list and from the page of the type; both tell where it stands."""
    shop.request("PUT", "/types/publish_page", {"breaker": {"minimum": 1_000}})
    page.goto("/dashboard/types")
    row = page.locator("[data-row]").filter(has_text="publish_page")
    expect(row.locator(".badge")).to_have_text("closed")
    row.get_by_role("button", name="Open breaker").click()
    expect(page.get_by_role("status").filter(has_text="no job of this type starts")).to_be_visible()
    expect(page.locator("#settings .badge")).to_have_text("open")
    expect(page.locator("#settings")).to_contain_text("by an operator")
    page.get_by_role("button", name="Close breaker").click()
    expect(page.locator("#settings .badge")).to_have_text("closed")


def test_a_breaker_that_moves_by_itself_is_seen(shop: Shop, page: Page) -> None:
    """The page tells without a reload that a breaker was opened elsewhere."""
    shop.request("PUT", "/types/sync_stock", {"breaker": {"minimum": 1_000}})
    page.goto("/dashboard/types/sync_stock")
    expect(page.locator("#settings .badge")).to_have_text("closed")
    shop.request("POST", "/types/sync_stock/breaker/open")
    expect(page.locator("#settings .badge")).to_have_text("open")
    shop.request("POST", "/types/sync_stock/breaker/close")
    expect(page.locator("#settings .badge")).to_have_text("closed")


def test_it_can_be_read_without_scripts_on_a_narrow_screen(open_page: OpenPage) -> None:
    """Figures and drawings are in the page itself, and nothing is wider than the screen."""
    page = open_page(width=320, scripts=False)
    page.goto(f"{PLACE}?range=24h")
    page.locator("#histogram-figures > summary").click()
    rows = page.locator("#histogram-figures tbody tr")
    expect(rows.first).to_contain_text("%")
    assert page.locator("#histogram rect").count() == rows.count()
    with_scripts = open_page(width=320)
    with_scripts.goto(f"{PLACE}?range=24h")
    assert sideways(with_scripts) == 0
