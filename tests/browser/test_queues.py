"""The pages of queues in a real browser: pausing, changing and watching them, with and without scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from goqueue.engine import queue_rows as queue_store
from tests.support.dashboard.chromium import sideways
from tests.support.dashboard.shop import Shop
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

OpenPage = Callable[..., Page]


@pytest.fixture
def queue(shop: Shop, request: pytest.FixtureRequest) -> str:
    """A queue of this test alone."""
    name = f"of {request.node.name[:60]}/€"
    with shop.database.autocommit() as connection:
        queue_store.ensure(connection, [name])
    return name


def row_of(page: Page, name: str) -> Locator:
    """The row of a queue."""
    return page.locator("[data-row]").filter(has=page.get_by_role("link", name=name, exact=True))


def open_list(page: Page, name: str) -> Locator:
    """Go to the list until it has a queue, which may have been made after it was read for all; its row."""
    row = row_of(page, name)
    wait_until(lambda: page.goto("/dashboard/queues") and row.count() == 1, 20, f"{name} to be listed")
    return row


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_queue_is_paused_and_resumed_in_its_row(open_page: OpenPage, queue: str, scripts: bool) -> None:
    """With a reason and an end, right in the list; the row says so, and takes it back."""
    page = open_page(scripts=scripts)
    row = open_list(page, queue)
    row.locator("summary").click()
    row.get_by_label("Reason").fill("the provider is down")
    row.get_by_label("It ends").select_option("for an hour")
    row.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="is paused")).to_be_visible()
    expect(row).to_contain_text("by dashboard: the provider is down; ends")
    row.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").filter(has_text="goes on")).to_be_visible()
    expect(row).not_to_contain_text("the provider is down")


def test_jobs_appear_without_reload_and_what_is_typed_stays(shop: Shop, page: Page, queue: str) -> None:
    """New jobs are counted within moments; a form that somebody fills in meanwhile is left alone."""
    row = open_list(page, queue)
    expect(row.locator("[data-name=Ready]")).to_have_text("0")
    page.evaluate("window.opened = true")
    row.locator("summary").click()
    row.get_by_label("Reason").fill("half a reas")
    row.locator("summary").focus()
    make_job = JobFactory(shop.database)
    for _ in range(3):
        make_job(queue=queue)
    expect(row.locator("[data-name=Ready]")).to_have_text("3")
    expect(row.get_by_label("Reason")).to_have_value("half a reas")
    assert page.evaluate("window.opened")


def test_settings_are_changed_and_wrong_ones_are_told(page: Page, queue: str) -> None:
    """The form of a queue changes it; a contradiction is told beside its field, with what was typed."""
    open_list(page, queue).get_by_role("link", name=queue, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(queue)
    page.get_by_text("Change the settings").click()
    page.get_by_label("Jobs of each key").fill("3")
    page.get_by_label("Strict").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#key_concurrency-wrong")).to_contain_text("one after the other")
    expect(page.get_by_label("Jobs of each key")).to_have_value("3")
    page.get_by_label("Jobs of each key").fill("")
    page.get_by_label("Jobs of the queue").fill("4")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="are changed")).to_be_visible()
    expect(page.locator("#settings")).to_contain_text("4 at once")
    expect(page.get_by_role("heading", name="Blocked keys")).to_be_visible()


def test_a_key_gets_settings_and_loses_them(page: Page, shop: Shop, queue: str) -> None:
    """Right on the page of the queue."""
    assert shop.url
    open_list(page, queue).get_by_role("link", name=queue, exact=True).click()
    page.get_by_text("Give a key settings of its own").click()
    page.get_by_label("Key", exact=True).fill("tenant <7>")
    page.get_by_label("Its share of the turns").fill("5")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#keys-of-queue tbody")).to_contain_text("tenant <7>")
    page.get_by_role("button", name="Forget the settings of key tenant <7>").click()
    expect(page.locator("#keys-of-queue tbody")).to_have_count(0)


def test_charts_and_advice_of_a_live_queue(page: Page) -> None:
    """Both charts are drawn over the range that is chosen; the advice shows what it follows from."""
    page.goto("/dashboard/queues/payments?range=24h")
    expect(page.locator("[data-chart][data-drawn] canvas")).to_have_count(2)
    page.get_by_text("As a table").click()
    expect(page.locator("#figures-table tbody tr").first).to_be_visible()
    page.get_by_role("link", name="How many threads does it need?").click()
    expect(page.locator("#needed")).to_contain_text("thread")
    expect(page.locator("#inputs")).to_contain_text("Erlang")


@pytest.mark.parametrize("place", ["/dashboard/queues", "/dashboard/queues/images?advice=yes"])
def test_it_fits_a_narrow_screen(open_page: OpenPage, place: str) -> None:
    """At 320 px nothing scrolls sideways, with every form open."""
    page = open_page(width=320)
    page.goto(place)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert sideways(page) == 0
    edges = page.evaluate(
        "[...document.querySelectorAll('main input:not([type=hidden]), main select, main button')]"
        ".map((one) => one.getBoundingClientRect().right)"
    )
    assert max(edges) <= 320
