"""The live part of pages: what arrives by itself, what asks for nothing, and what stays where it is."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Request, expect

from tests.support.dashboard.shop import Shop

#: Before any script of a page: what moved by itself, and from where to where.
WATCH_SHIFTS = """
    window.shifts = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const moved = entry.sources.map(({ node, previousRect: was, currentRect: is }) =>
          `${node?.id || node?.parentElement?.id || node?.nodeName}: ${was.x},${was.y} to ${is.x},${is.y}`);
        window.shifts.push({ value: entry.value, moved });
      }
    }).observe({ type: "layout-shift", buffered: true });
"""

#: As a part of the window: what is less is a number in its cell, or a job in the list of its process.
SHIFT_MAX = 0.01

#: Some figures are of counted steps of ten seconds: until then they stay.
CHANGED_MILLISECONDS = 60_000


def is_poll(asked: Request) -> bool:
    """Whether it asks for the live part of a page."""
    return asked.headers.get("hx-target") == "live"


def test_a_job_appears_without_reload(shop: Shop, page: Page) -> None:
    """A list that is open shows what is created, and then what became of it."""
    page.goto("/dashboard/jobs?tag=arrives")
    expect(page.locator("[data-row]")).to_have_count(0)
    page.evaluate("window.marked = true")
    job_id = shop.create("pages", {"title": "new"}, tags=["arrives"])
    row = page.locator("[data-row]")
    expect(row).to_contain_text(str(job_id))
    expect(row).to_contain_text("completed")
    assert page.evaluate("window.marked") is True


def test_nothing_is_sent_while_nothing_changes(shop: Shop, page: Page) -> None:
    """The poll of a job that has ended is answered with 304."""
    job_id = shop.create("pages", {"title": "done"})
    shop.wait_for(job_id, "completed")
    page.goto(f"/dashboard/jobs/{job_id}")
    with page.expect_response(
        lambda answer: is_poll(answer.request) and answer.status == 304, timeout=15_000
    ):
        pass


def test_a_hidden_tab_asks_for_nothing(page: Page) -> None:
    """Polls pause while nobody looks, and go on at once when somebody does."""
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url) if is_poll(asked) else None)
    page.clock.install()
    page.goto("/dashboard/jobs")
    hide(page, hidden=True)
    page.clock.run_for(20_000)
    assert polls == []
    with page.expect_request(is_poll):
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
    with page.expect_request(is_poll):
        page.keyboard.press("p")
    expect(page.locator(".live-state")).to_be_hidden()


def test_what_somebody_does_outlives_an_update(shop: Shop, page: Page) -> None:
    """A form that was opened stays open with what was typed; the focus and the scroll stay; rows arrive."""
    page.goto("/dashboard/queues")
    row = page.locator("tr", has=page.get_by_role("link", name="pages", exact=True))
    row.locator("summary").click()
    row.get_by_label("Reason").fill("half a sentence")
    row.get_by_role("link", name="pages", exact=True).focus()
    page.evaluate("scrollTo(0, 40)")
    with shop.database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('a-new-one')")
    expect(page.get_by_role("link", name="a-new-one")).to_be_visible()
    expect(row.get_by_label("Reason")).to_have_value("half a sentence")
    expect(row.get_by_role("link", name="pages", exact=True)).to_be_focused()
    assert page.evaluate("scrollY") == 40


def test_rows_stay_while_somebody_points_at_one(page: Page) -> None:
    """No update moves what is about to be clicked; they go on when the pointer rests."""
    page.clock.install()
    page.goto("/dashboard/jobs?status=completed")
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url) if is_poll(asked) else None)
    row = page.locator("[data-row]").first.bounding_box()
    assert row is not None
    for step in range(6):
        page.mouse.move(row["x"] + 200 + step, row["y"] + 10)
        page.clock.run_for(1000)
    assert polls == []
    with page.expect_request(is_poll):
        page.clock.run_for(5000)


@pytest.mark.parametrize("place", ["/dashboard/workers", "/dashboard/types", "/dashboard/queues/mail"])
def test_nothing_moves_while_jobs_come_and_go(shop: Shop, page: Page, place: str) -> None:
    """Figures change in their places: nothing beside or below them is pushed."""
    page.goto(place)
    with page.expect_response(lambda answer: is_poll(answer.request)):
        pass
    page.evaluate(WATCH_SHIFTS)
    page.evaluate("window.shifts = []")
    for number in range(3):
        # What the shop sells by itself may be counted late, and until then each poll is answered with 304.
        with page.expect_response(
            lambda answer: is_poll(answer.request) and answer.status == 200, timeout=CHANGED_MILLISECONDS
        ):
            shop.create("mail", {"order": number, "to": "ada@example.com"}, delay_seconds=9_000)
    assert [shift for shift in page.evaluate("window.shifts") if shift["value"] > SHIFT_MAX] == []


def test_a_page_whose_job_is_gone_says_so(shop: Shop, page: Page) -> None:
    """What was shown stays, and beside it stands that it is there no more."""
    job_id = shop.create("mail", {"order": 1, "to": "a@b.c"}, available_at="2031-01-01T00:00:00Z")
    shop.request("POST", f"/jobs/{job_id}/cancel")
    page.goto(f"/dashboard/jobs/{job_id}")
    shop.stack.rows("DELETE FROM jobs WHERE id = %s RETURNING id", (job_id,))
    expect(page.locator(".live-state")).to_have_text("not there any more")
    expect(page.get_by_role("heading", level=1)).to_have_text("send_receipt")
