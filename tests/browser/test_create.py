"""Creating a job in a real browser, over real processes that run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.dashboard.chromium import quiet_page, sideways
from tests.support.processes.stack import Stack

pytestmark = pytest.mark.timeout(180)

PLACE = "/dashboard/create"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers, the API, a scheduler and a worker."""
    with Stack(tmp_path_factory.mktemp("stack")) as started:
        started.scheduler()
        started.api()
        started.workers(1)
        yield started


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_job_is_created_after_a_mistake_and_runs(browser: Browser, stack: Stack, scripts: bool) -> None:
    """The type is chosen, a wrong value is said beside its field and kept, and the job completes."""
    with quiet_page(browser, scripts=scripts) as page:
        page.goto(stack.api_url + PLACE)
        page.get_by_label("Type").select_option("slow")
        page.get_by_role("button", name="Show its form").click()
        page.get_by_label("token").fill("from the browser")
        page.get_by_label("seconds", exact=True).fill("soon")
        page.get_by_label("Priority").fill("7")
        page.get_by_role("button", name="Create the job").click()
        expect(page.get_by_text("expected a number")).to_be_visible()
        expect(page.get_by_label("seconds", exact=True)).to_have_value("soon")
        page.get_by_label("seconds", exact=True).fill("0.1")
        page.get_by_role("button", name="Create the job").click()
        page.wait_for_url("**/dashboard/jobs/*")
        job_id = int(page.url.rpartition("/")[2])
    stack.wait_until_finished(10)
    rows = stack.rows("SELECT status, priority, payload ->> 'token' FROM jobs WHERE id = %s", (job_id,))
    assert rows == [("completed", 7, "from the browser")]


def test_a_form_becomes_json_and_a_job(browser: Browser, stack: Stack) -> None:
    """What was typed is in the request; the request creates the job."""
    with quiet_page(browser) as page:
        page.goto(f"{stack.api_url}{PLACE}?type=quick")
        page.get_by_label("token").fill("as JSON")
        page.get_by_role("button", name="Edit it as JSON").click()
        request = page.get_by_label("What POST /jobs/create takes")
        expect(request).to_have_value(
            '{\n  "type": "quick",\n  "payload": {\n    "token": "as JSON"\n  },\n  "queue": "chaos"\n}'
        )
        page.get_by_role("button", name="Edit it as a form").click()
        expect(page.get_by_label("token")).to_have_value("as JSON")
        page.get_by_role("button", name="Create the job").click()
        page.wait_for_url("**/dashboard/jobs/*")


def test_it_fits_a_narrow_screen(browser: Browser, stack: Stack) -> None:
    """At 320 px nothing scrolls sideways, also with a value without an end."""
    with quiet_page(browser, width=320) as page:
        page.goto(f"{stack.api_url}{PLACE}?type=send_webhook")
        page.get_by_label("url").fill("https://example.com/" + "x" * 3_000)
        page.get_by_role("button", name="Create the job").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert sideways(page) == 0
