"""The page of the workers in a real browser, over real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.dashboard.chromium import quiet_page, sideways
from tests.support.processes.stack import Stack
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
    wait_until(
        lambda: stack.logged("worker_told", "goqueue.worker.received_commands"), 10, "the worker to hear it"
    )
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


#: By how many pixels a part of an id is outside of the boxes that cut it.
CUT = """link => {
  const range = document.createRange();
  range.selectNodeContents(link);
  const lines = range.getClientRects().length;
  const box = range.getBoundingClientRect();
  const row = link.closest("li").getBoundingClientRect();
  return lines > 1 ? 99 : Math.max(box.right - row.right, box.bottom - row.bottom - 2, 0);
}"""


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_ids_are_whole_on_every_screen(stack: Stack, browser: Browser, width: int) -> None:
    """An id of many digits stands in one line: cut, those of all jobs that run are the same."""
    with stack.database.autocommit() as connection:
        connection.exec_driver_sql(
            "SELECT setval('jobs_id_seq', greatest(nextval('jobs_id_seq'), 123456789012))"
        )
    (process,) = stack.workers(1)
    job_ids = stack.collector.submit("slow", 2, seconds=8.0)
    with quiet_page(browser, width=width) as page:
        page.goto(f"{stack.api_url}/dashboard/workers")
        for job_id in job_ids:
            link = page.get_by_role("link", name=str(job_id), exact=True)
            expect(link).to_be_visible(timeout=10_000)
            assert link.evaluate(CUT) == 0
        assert sideways(page) == 0
    stack.wait_until_finished(20)
    process.terminate()
    wait_until(process.has_ended, 20, "the process to end")


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
