"""The pages of schedules in a real browser: made, run, paused, resumed, edited and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import count

import pytest
from playwright.sync_api import Page, expect

from tests.support.dashboard.chromium import sideways
from tests.support.dashboard.shop import Shop

OpenPage = Callable[..., Page]

PAYLOAD = {"title": "Annual report"}

_numbers = count(1)


@pytest.fixture
def schedule(shop: Shop) -> str:
    """The name of a schedule that fires once a year."""
    name = f"yearly-{next(_numbers)}"
    job = {"queue": "pages", "type": "publish_page", "payload": PAYLOAD}
    shop.request(
        "POST", "/schedules", {"name": name, "cron": "30 2 1 1 *", "timezone": "Europe/Berlin", **job}
    )
    return name


def test_the_list_tells_lines_in_words(page: Page, schedule: str) -> None:
    """The line is there as a sentence, and the next fire as a time from now, exact on hover."""
    page.goto("/dashboard/schedules")
    row = page.locator("[data-row]").filter(has_text=schedule)
    expect(row).to_contain_text("at 02:30 on 1 January, Europe/Berlin")
    fire = row.locator(".fires time").first
    expect(fire).to_have_text(re.compile(r"in \d+ d"))
    assert "UTC" in (fire.get_attribute("title") or "")


def test_a_schedule_is_run_now_and_its_tick_arrives(shop: Shop, page: Page, schedule: str) -> None:
    """A run leads to its job; a run from elsewhere appears on the open page, with what becomes of it."""
    page.goto(f"/dashboard/schedules/{schedule}")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("status").filter(has_text=f"by the schedule {schedule}")).to_be_visible()
    page.goto(f"/dashboard/schedules/{schedule}")
    expect(page.locator("#history tbody tr")).to_have_count(1)
    page.evaluate("window.opened = true")
    job = shop.request("POST", f"/schedules/{schedule}/run")
    link = page.get_by_role("link", name=str(job["id"]), exact=True)
    row = page.locator("#history tbody tr").filter(has=link)
    expect(row.locator(".badge").filter(has_text="completed")).to_be_visible()
    expect(page.locator("#strip rect")).to_have_count(2)
    assert page.evaluate("window.opened")


def test_a_schedule_is_paused_with_a_reason_and_resumed(page: Page, schedule: str) -> None:
    """The reason stands on both pages until it goes on."""
    page.goto("/dashboard/schedules")
    row = page.locator("[data-row]").filter(has_text=schedule)
    row.get_by_role("link", name="Pause").click()
    page.get_by_label("Reason").fill("month end")
    page.get_by_label("Your name").fill("ada")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#paused")).to_contain_text("by ada: month end")
    page.goto("/dashboard/schedules")
    expect(row).to_contain_text("month end")
    row.get_by_role("button", name="Resume").click()
    expect(page.locator("#head .badge")).to_have_text("active")
    expect(page.locator("#paused")).to_have_count(0)


def test_a_schedule_is_made_edited_and_deleted(page: Page) -> None:
    """By the form: what is wrong is told and what was typed stays; then it is there, changes, and is gone."""
    page.goto("/dashboard/schedules")
    page.get_by_role("link", name="New schedule").click()
    page.get_by_label("Name", exact=True).fill("by-hand")
    page.get_by_label("Cron").fill("61 * * * *")
    page.get_by_label("Queue").fill("pages")
    page.get_by_label("Payload").fill(json.dumps(PAYLOAD))
    page.get_by_role("button", name="Create the schedule").click()
    expect(page.get_by_role("alert")).to_contain_text("cron: expected five fields")
    expect(page.get_by_label("Name", exact=True)).to_have_value("by-hand")
    page.get_by_label("Cron").fill("0 6 * * mon-fri")
    page.get_by_role("button", name="Create the schedule").click()
    expect(page.locator("#head")).to_contain_text("at 06:00 on Monday to Friday, UTC")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Cron").fill("0 7 * * *")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#head")).to_contain_text("at 07:00 every day, UTC")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").filter(has_text="The schedule by-hand is deleted")).to_be_visible()
    expect(page.get_by_role("link", name="by-hand", exact=True)).to_have_count(0)


def test_what_is_typed_outlives_a_refresh(shop: Shop, page: Page, schedule: str) -> None:
    """A tick that arrives while a reason is typed takes nothing of it away."""
    page.goto(f"/dashboard/schedules/{schedule}")
    page.get_by_label("Reason").fill("half a sent")
    shop.request("POST", f"/schedules/{schedule}/run")
    expect(page.locator("#history tbody tr")).to_have_count(1)
    expect(page.get_by_label("Reason")).to_have_value("half a sent")


@pytest.mark.parametrize(
    "place", ["", "/sales-report", "-edit?name=sales-report"], ids=["list", "one", "form"]
)
def test_a_narrow_screen_is_enough(open_page: OpenPage, place: str) -> None:
    """At 320 px nothing is wider than the screen."""
    page = open_page(width=320)
    page.goto(f"/dashboard/schedules{place}")
    assert sideways(page) == 0
