"""Dashboards of several namespaces in a browser: the choice in the header, and pages that stay in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.checks import faults
from tests.support.dashboard.chromium import watched_page
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.namespaces import TwoNamespaces, two_namespaces


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNamespaces]:
    """Two namespaces; the second has a job."""
    with two_namespaces(tmp_path_factory.mktemp("namespaces")) as started:
        started.start_api()
        job = {"queue": QUEUE, "type": "quick", "payload": {"token": "of beta"}}
        with started.client() as client:
            client.post("/ns/beta/jobs/create", json=job).raise_for_status()
        yield started


@pytest.fixture
def tab(browser: Browser, both: TwoNamespaces) -> Iterator[Page]:
    """A tab in which nothing may go wrong."""
    with watched_page(browser, base_url=both.first.api_url) as opened:
        yield opened


def test_the_header_leads_to_another_namespace(tab: Page) -> None:
    """To the same page of it; from there on everything stays in it: links, keys, charts, polls and forms."""
    tab.goto("/dashboard/jobs")
    expect(tab.locator("[data-row]")).to_have_count(0)
    tab.locator("details.namespaces summary").click()
    tab.get_by_role("link", name="beta").click()
    expect(tab).to_have_url("/ns/beta/dashboard/jobs")
    expect(tab.locator("details.namespaces summary")).to_contain_text("beta")
    with tab.expect_response(lambda answer: "/ns/beta/dashboard/jobs" in answer.url):
        tab.bring_to_front()  # It polls.
    tab.locator("[data-row] a").first.click()
    expect(tab).to_have_url("/ns/beta/dashboard/jobs/1")
    tab.get_by_role("button", name="Cancel").click()
    expect(tab).to_have_url("/ns/beta/dashboard/jobs/1")
    expect(tab.locator("main")).to_contain_text("cancelled")
    tab.keyboard.press("g")
    tab.keyboard.press("o")
    expect(tab).to_have_url("/ns/beta/dashboard")
    expect(tab.locator("[data-chart][data-drawn]").first).to_be_visible()


def test_pages_with_the_choice_are_as_good_as_others(tab: Page) -> None:
    """By axe-core, in both themes and in three widths, with the list open."""
    tab.goto("/ns/beta/dashboard/queues")
    tab.locator("details.namespaces summary").click()
    assert faults(tab) == []
