"""The dashboard of a service in which nothing has happened yet: it says what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.checks import faults
from tests.support.dashboard.chromium import watched_page
from tests.support.dashboard.pages import addresses, page_routes
from tests.support.processes.stack import Stack

#: The heading of what stands where there is nothing.
EMPTY = {
    "/dashboard": "No jobs yet",
    "/dashboard/jobs": "No jobs yet",
    "/dashboard/failures": "Nothing failed",
    "/dashboard/schedules": "No schedules yet",
    "/dashboard/workers": "No worker is running",
    "/dashboard/operations": "No operations yet",
    "/dashboard/namespaces": "No namespaces yet",
}

NOTHING: Mapping[str, list[str]] = {"queues": [], "types": [], "schedules": []}

#: Those that need nothing to be there.
PAGES = [template for template in page_routes() if "{" not in template]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The API alone, on an empty database."""
    with Stack(tmp_path_factory.mktemp("empty"), actors=("tests.support.jobs.shop_jobs",)) as started:
        started.api()
        yield started


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A tab."""
    with watched_page(browser, base_url=stack.api_url) as opened:
        yield opened


@pytest.mark.parametrize("template", PAGES)
def test_an_empty_page_says_what_to_do(page: Page, template: str) -> None:
    """It is as accessible as a full one, and no list is left blank."""
    answer = page.goto(addresses(template, NOTHING)[0])
    assert answer is not None
    assert answer.status == 200
    if template in EMPTY:
        expect(page.get_by_role("heading", name=EMPTY[template])).to_be_visible()
    # Rows have actions; without rows there is nothing to select.
    expect(page.get_by_role("button", name="Set priority")).to_be_hidden()
    assert faults(page) == []


def test_the_first_job_brings_the_charts(page: Page, stack: Stack) -> None:
    """The overview of nothing becomes that of something without a reload."""
    page.goto("/dashboard")
    expect(page.locator("[data-chart]")).to_have_count(0)
    page.evaluate("window.marked = true")
    job = {"queue": "mail", "payload": {"order": 1, "to": "a@b.c"}}
    httpx.post(f"{stack.api_url}/jobs/create", json=job, trust_env=False).raise_for_status()
    expect(page.locator("#chart-throughput[data-drawn]")).to_be_visible()
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_hidden()
    assert page.evaluate("window.marked") is True
    # For the tests after this one.
    stack.rows("DELETE FROM jobs RETURNING id")
