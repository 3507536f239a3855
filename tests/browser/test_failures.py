"""The pages of failures in a real browser: from a group to a retry that is watched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from goqueue.engine.fingerprints import kind_of
from goqueue.insight import failure_rows as failure_store
from tests.support.dashboard.chromium import sideways
from tests.support.dashboard.shop import Shop
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

OpenPage = Callable[..., Page]

QUEUE = "failures of a browser"


def fail(shop: Shop, message: str, jobs: int, queue: str = QUEUE) -> str:
    """Let so many jobs be failed with this message; their fingerprint. They succeed when they run again."""
    kind = kind_of("send_receipt", "app.errors.NoRoute", message, "app.send")
    make_job = JobFactory(shop.database)
    with shop.database.autocommit() as connection:
        failure_store.insert_kinds(connection, [kind])
    for number in range(jobs):
        make_job(
            "failed",
            queue=queue,
            type="send_receipt",
            payload={"order": 3, "to": f"{number}@example.com"},
            error=f"NoRoute: {message}",
            fingerprint=kind.fingerprint,
        )
    return kind.fingerprint


def test_a_group_is_retried_with_a_canary_and_watched(shop: Shop, page: Page) -> None:
    """From the list to the group, a dry run, and the operation, without a reload of the last."""
    fingerprint = fail(shop, "no route to the cellar", 3, queue="mail")
    found = shop.stack.rows("SELECT id FROM jobs WHERE fingerprint = %s", (fingerprint,))
    ids = [job_id for (job_id,) in found]
    page.goto("/dashboard/failures")
    page.get_by_label("Queue").fill("mail")
    page.get_by_role("button", name="Show").click()
    row = page.locator("[data-row]").filter(has_text="no route to the cellar")
    expect(row.locator("[data-name=Jobs]")).to_have_text("3")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("app.errors.NoRoute")
    page.get_by_label("Canaries").fill("1")
    page.get_by_role("button", name="Retry the group").click()
    expect(page.locator("#matching")).to_have_text("3")
    expect(page.locator("[data-row]")).to_have_count(3)
    page.locator("#start").click()
    page.wait_for_url("**/dashboard/operations/*")
    (operation,) = shop.stack.rows(
        "SELECT action, canary, requested_by FROM bulk_operations ORDER BY id DESC LIMIT 1"
    )
    assert operation == ("retry", 1, "dashboard")
    expect(page.locator("main")).to_contain_text("completed")
    # What runs again has no fingerprint any more.
    ended = "SELECT count(*) FROM jobs WHERE id = ANY(%s) AND status = 'completed'"
    wait_until(lambda: shop.stack.rows(ended, (ids,)) == [(3,)], 20, "all of them to complete")
    page.goto(f"/dashboard/failures/{fingerprint}")
    expect(page.get_by_role("heading", name="No job is failed like this any more")).to_be_visible()


def test_a_new_failure_appears_without_reload_and_is_gone_again(shop: Shop, page: Page) -> None:
    """The list and the page of a group follow what happens, and what is typed in the form stays."""
    page.goto("/dashboard/failures")
    page.evaluate("window.opened = true")
    fingerprint = fail(shop, "no route to the attic", 1)
    row = page.locator(f"#failure-{fingerprint}")
    expect(row).to_contain_text("no route to the attic")
    assert page.evaluate("window.opened")
    row.get_by_role("link").click()
    page.get_by_label("Canaries").fill("7")
    page.get_by_role("heading", level=1).click()
    fail(shop, "no route to the attic", 1)
    expect(page.locator("#jobs [data-row]")).to_have_count(2)
    expect(page.get_by_label("Canaries")).to_have_value("7")
    shop.stack.rows("DELETE FROM jobs WHERE fingerprint = %s RETURNING id", (fingerprint,))
    expect(page.get_by_role("heading", name="No job is failed like this any more")).to_be_visible()


def test_nothing_failed_is_good_news(page: Page) -> None:
    """A choice without failures says so and leads back."""
    page.goto("/dashboard/failures?type=nothing-fails-here")
    expect(page.get_by_role("heading", name="Nothing failed here")).to_be_visible()
    page.get_by_role("link", name="Show all failures").click()
    expect(page.locator("[data-row]").first).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_it_fits_a_narrow_screen_and_needs_no_scripts(shop: Shop, open_page: OpenPage, scripts: bool) -> None:
    """At 320 px nothing scrolls sideways; without scripts the same is told and asked."""
    fingerprint = fail(shop, "no route to the roof", 1)
    page = open_page(width=320, scripts=scripts)
    for place in ("/dashboard/failures", f"/dashboard/failures/{fingerprint}"):
        page.goto(place)
        if scripts:
            assert sideways(page) == 0
    page.get_by_role("button", name="Retry the group").click()
    expect(page.locator("#matching")).to_be_visible()
