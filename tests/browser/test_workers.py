"""The page of the workers in a real browser, over real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import quiet_page, sideways
from tests.support.stack import Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers, the API and a scheduler."""
    with Stack(tmp_path_factory.mktemp("stack"), heartbeat_seconds=0.2) as started:
        started.scheduler()
        started.api()
        yield started


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """The page, open before there is a worker."""
    with quiet_page(browser) as opened:
        opened.goto(f"{stack.api_url}/dashboard/workers")
        yield opened


def test_a_worker_is_seen_quieted_resumed_and_stopped(stack: Stack, page: Page) -> None:
    """All of it without a reload but those of the buttons: it appears, runs a job, is told, and is gone."""
    expect(page.get_by_role("heading", name="No worker is running")).to_be_visible()
    (process,) = stack.workers(1)
    row = page.locator("[data-row]")
    expect(row.locator(".badge")).to_have_text("live", timeout=10_000)
    (job_id,) = stack.collector.submit("slow", seconds=6.0)
    expect(row.get_by_role("link", name=str(job_id), exact=True)).to_be_visible(timeout=10_000)
    expect(row.locator("time[data-running]")).to_have_text("1 s", timeout=5_000)
    expect(row.get_by_text("3 free")).to_be_visible()

    row.get_by_role("button", name="Quiet").click()
    expect(page.get_by_role("status").filter(has_text="takes no more jobs")).to_be_visible()
    expect(row.locator(".badge")).to_have_text("quiet")
    wait_until(lambda: stack.logged("worker_told"), 10, "the worker to hear it")
    (waiting,) = stack.collector.submit("quick")
    # What it had is finished; what came afterwards waits.
    expect(row.get_by_text("0 of 4 busy")).to_be_visible(timeout=15_000)
    assert stack.rows("SELECT status FROM jobs WHERE id = %s", (waiting,)) == [("queued",)]

    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".badge")).to_have_text("live")
    stack.wait_until_finished(10)

    row.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", name="Ended lately")).to_be_visible(timeout=15_000)
    wait_until(process.has_ended, 10, "the process to end")
    assert process.exit_code == 0


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_it_fits_a_narrow_screen(stack: Stack, browser: Browser, scripts: bool) -> None:
    """At 320 px nothing scrolls sideways, and without scripts the same is told."""
    (process,) = stack.workers(1)
    with quiet_page(browser, width=320, scripts=scripts) as page:
        page.goto(f"{stack.api_url}/dashboard/workers")
        expect(page.locator("[data-row]").get_by_role("button", name="Stop")).to_be_visible()
        if scripts:
            assert sideways(page) == 0
        else:
            page.get_by_role("button", name="Stop").click()
            expect(page.locator(".badge").get_by_text("stopping")).to_be_visible()
    process.terminate()
    wait_until(process.has_ended, 20, "the process to end")
