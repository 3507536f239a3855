"""The list of jobs and the operations over many, in a real browser over live jobs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.dashboard.chromium import THEMES, sideways
from tests.support.dashboard.shop import Shop

HOSTILE = '<script>document.title="owned"</script>' + "x" * 300 + "\u05e9\u05dc\u05d5\u05dd \U0001f600"

OpenPage = Callable[..., Page]


def cancelled(shop: Shop, tag: str, count: int) -> list[int]:
    """So many cancelled jobs of a tag."""
    later = "2031-01-01T00:00:00Z"
    ids = [
        shop.create("mail", {"order": n, "to": "a@b.c"}, tags=[tag], available_at=later) for n in range(count)
    ]
    for job_id in ids:
        shop.request("POST", f"/jobs/{job_id}/cancel")
    return ids


def test_a_new_job_appears_and_changes_without_a_reload(shop: Shop, page: Page) -> None:
    """The list of a tag is empty, then has a queued job, which is then cancelled; the page stays the same."""
    page.goto("/dashboard/jobs?tag=appears")
    expect(page.get_by_role("heading", name="No job fits")).to_be_visible()
    page.evaluate("document.body.dataset.same = 'yes'")
    later = "2031-01-01T00:00:00Z"
    job_id = shop.create("mail", {"order": 1, "to": "a@b.c"}, tags=["appears"], available_at=later)
    row = page.locator(f"#job-{job_id}")
    expect(row.locator(".status")).to_have_text("queued")
    shop.request("POST", f"/jobs/{job_id}/cancel")
    expect(row.locator(".status")).to_have_text("cancelled")
    assert page.evaluate("document.body.dataset.same") == "yes"


def test_selected_jobs_are_retried_with_the_keyboard(shop: Shop, page: Page) -> None:
    """Keys move and select, the selection outlives a poll, and the button changes these and no others."""
    ids = cancelled(shop, "keys", 3)
    page.goto("/dashboard/jobs?tag=keys")
    retry = page.get_by_role("button", name="Retry")
    expect(retry).to_be_disabled()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("[data-chosen]")).to_have_text("1")
    chosen = page.locator(f"#box-{ids[1]}")
    expect(chosen).to_be_checked()
    with page.expect_response(re.compile("/dashboard/jobs"), timeout=5_000) as polled:
        page.evaluate("htmx.trigger(document.getElementById('live'), 'refresh')")
    assert polled.value.status in {200, 304}
    expect(chosen).to_be_checked()
    retry.click()
    expect(page.get_by_role("status").filter(has_text="1 job was queued again")).to_be_visible()
    # It may have run by now.
    expect(page.locator(f"#job-{ids[1]} .status")).to_have_text(re.compile("queued|running|completed"))
    for job_id in (ids[0], ids[2]):
        expect(page.locator(f"#job-{job_id} .status")).to_have_text("cancelled")


def test_a_selection_of_all_is_deleted(shop: Shop, page: Page) -> None:
    """The box in the head selects every row of the page."""
    cancelled(shop, "gone", 3)
    page.goto("/dashboard/jobs?tag=gone")
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-chosen]")).to_have_text("3")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").filter(has_text="3 jobs were deleted")).to_be_visible()
    expect(page.get_by_role("heading", name="No job fits")).to_be_visible()


def test_all_that_match_are_tried_dry_then_watched(shop: Shop, page: Page) -> None:
    """From the list over the dry run to the end of the operation, which arrives without a reload."""
    cancelled(shop, "many", 4)
    page.goto("/dashboard/jobs?tag=many&status=cancelled")
    page.get_by_role("button", name="All that match").click()
    expect(page.locator("#matching")).to_have_text("4")
    expect(page.locator("[data-row]")).to_have_count(4)
    page.get_by_label("What to do").select_option("delete")
    expect(page.get_by_role("heading", name="Delete all jobs that match")).to_be_visible()
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Jobs a second").fill("2")
    page.get_by_role("button", name="Delete 4 jobs").click()
    expect(page.get_by_role("button", name="Abort")).to_be_visible()
    page.evaluate("document.body.dataset.same = 'yes'")
    expect(page.locator(".badge").get_by_text("completed")).to_be_visible()
    expect(page.get_by_text("4 of 4")).to_be_visible()
    assert page.evaluate("document.body.dataset.same") == "yes"
    page.get_by_role("link", name="All operations").click()
    expect(page.locator("[data-row]").first).to_contain_text("ann")


def test_an_operation_is_aborted(shop: Shop, page: Page) -> None:
    """A slow one, in the middle."""
    cancelled(shop, "slow", 3)
    page.goto("/dashboard/operations/new?tag=slow&status=cancelled&action=retry")
    page.get_by_label("Jobs a second").fill("0.01")
    page.get_by_role("button", name="Retry 3 jobs").click()
    page.get_by_role("button", name="Abort").click()
    expect(page.locator(".badge").get_by_text("aborted")).to_be_visible()


def test_a_search_leads_to_its_address(shop: Shop, page: Page) -> None:
    """`/` focuses the field; a path of the payload finds its job, an id opens it, words find a part."""
    job_id = shop.create("mail", {"order": 987_654, "to": "needle@example.com"}, tags=["search"])
    page.goto("/dashboard/jobs")
    page.keyboard.press("/")
    page.keyboard.type("payload.order:987654 tag:search")
    page.keyboard.press("Enter")
    expect(page.locator("[data-row]")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"tag=search&payload=order%3A987654$"))
    search = page.get_by_role("textbox", name="Search")
    expect(search).to_have_value("payload.order:987654")
    search.fill("needle@")
    search.press("Enter")
    expect(page.locator(f"#job-{job_id}")).to_be_visible()
    search.fill(str(job_id))
    search.press("Enter")
    expect(page).to_have_url(re.compile(rf"/dashboard/jobs/{job_id}$"))


@pytest.mark.parametrize("theme", THEMES, indirect=True)
@pytest.mark.parametrize("width", [320, 1280])
def test_hostile_text_stays_text_at_any_width(shop: Shop, open_page: OpenPage, width: int) -> None:
    """Scripts, long words, right-to-left and emoji neither run nor make the page scroll sideways."""
    shop.stack.rows(
        "WITH made AS (INSERT INTO jobs (queue, type, payload, status, error, finished_at, tags) "
        "SELECT %(x)s, %(x)s, json_build_object(%(x)s::text, repeat(%(x)s, 2000)), 'failed', %(x)s, now(), "
        "ARRAY[%(x)s, 'hostile'] RETURNING id, tags) "
        "INSERT INTO job_tags SELECT unnest(tags), id FROM made RETURNING job_id",
        {"x": HOSTILE[:330]},
    )
    page = open_page(width=width)
    for path in (
        "/dashboard/jobs?tag=hostile",
        "/dashboard/operations/new?tag=hostile&status=failed",
        "/dashboard/operations",
        "/dashboard/jobs?queue=" + "y" * 200,
    ):
        page.goto(path)
        assert sideways(page) == 0, path
        assert page.title() != "owned"


def test_everything_is_done_without_scripts(shop: Shop, open_page: OpenPage) -> None:
    """Filter, select, change and begin an operation by plain forms."""
    ids = cancelled(shop, "plain", 2)
    page = open_page(scripts=False)
    page.goto("/dashboard/jobs")
    page.get_by_role("textbox", name="Search").fill("tag:plain")
    page.get_by_role("button", name="Search").click()
    page.get_by_label(f"Select job {ids[0]}").check()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").filter(has_text="1 job was deleted")).to_be_visible()
    page.get_by_role("link", name="cancelled").first.click()
    page.get_by_role("button", name="All that match").click()
    page.get_by_role("button", name="Retry 1 job").click()
    expect(page.get_by_role("heading", name="Retry many jobs")).to_be_visible()
