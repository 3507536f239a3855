"""The overview in a real browser: it draws, it stays live, and it can be read without scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.dashboard.chromium import sideways
from tests.support.dashboard.shop import Shop

OpenPage = Callable[..., Page]

CHARTS = ("throughput", "wait", "run")


def test_the_charts_are_drawn(shop: Shop, page: Page) -> None:
    """Each of the three has its lines, over a range that holds the shop's day."""
    page.goto("/dashboard?range=24h")
    for name in CHARTS:
        chart = page.locator(f"#chart-{name}[data-drawn]")
        expect(chart.locator("canvas")).to_be_visible()
    answer = page.request.get(f"{shop.url}/dashboard/overview.json?range=24h").json()
    assert sum(answer["series"][0]["values"]) > 0


def test_what_happens_appears_without_reload(shop: Shop, page: Page) -> None:
    """A job of a new queue shows it within moments, on the page that was opened before."""
    page.goto("/dashboard")
    expect(page.get_by_role("heading", name="Queues", exact=True)).to_be_visible()
    page.evaluate("window.opened = true")
    with shop.database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('arrives-late')")
    expect(page.get_by_role("link", name="arrives-late")).to_be_visible()
    assert page.evaluate("window.opened")


def test_charts_and_open_tables_outlive_a_refresh(shop: Shop, page: Page) -> None:
    """What was drawn stays drawn, and what was opened stays open, when the page is merged."""
    page.goto("/dashboard?range=24h")
    expect(page.locator("#chart-run canvas")).to_be_visible()
    page.locator("#history summary").click()
    page.evaluate("document.querySelector('#chart-run canvas').marked = true")
    with shop.database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('arrives-later')")
    expect(page.get_by_role("link", name="arrives-later")).to_be_visible()
    assert page.evaluate("document.querySelector('#chart-run canvas').marked")
    expect(page.locator("#history tbody tr").first).to_be_visible()


def test_the_ranges_are_links(page: Page) -> None:
    """A range has an address of its own, and stays through refreshes."""
    page.goto("/dashboard")
    page.get_by_role("link", name="24h").click()
    page.wait_for_url("**/dashboard?range=24h")
    expect(page.get_by_role("link", name="24h")).to_have_attribute("aria-current", "page")
    expect(page.locator("#throughput")).to_contain_text("in the last 24 hours")


def test_it_can_be_read_without_scripts(open_page: OpenPage) -> None:
    """The figures of the charts stand in a table."""
    page = open_page(scripts=False)
    page.goto("/dashboard?range=24h")
    page.locator("#history summary").click()
    expect(page.get_by_role("columnheader", name="Wait p95")).to_be_visible()
    expect(page.locator("#history tbody tr").first.locator("[data-name=Completed]")).to_contain_text("/s")


@pytest.mark.parametrize("range_", ["15m", "30d"])
def test_a_narrow_screen_does_not_scroll_sideways(open_page: OpenPage, range_: str) -> None:
    """At 320 px everything is under everything else."""
    page = open_page(width=320)
    page.goto(f"/dashboard?range={range_}")
    expect(page.locator("#chart-run canvas")).to_be_visible()
    assert sideways(page) == 0
