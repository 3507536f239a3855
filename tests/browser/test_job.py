"""The page of a job in a browser, beside real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.dashboard.chromium import quiet_page, sideways
from tests.support.processes.stack import Stack

pytestmark = pytest.mark.timeout(180)

#: A poll is sent every two seconds.
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The API with its dashboard, a worker and a scheduler."""
    with Stack(tmp_path_factory.mktemp("stack"), actors=("tests.support.jobs.report_jobs",)) as started:
        started.api()
        started.scheduler()
        started.workers(1)
        yield started


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A tab that may use the clipboard. Nothing may go wrong in it; an id that is there twice would."""
    with quiet_page(browser) as page:
        warnings: list[str] = []
        page.on("console", lambda said: warnings.append(said.text) if said.type == "warning" else None)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stack.api_url)
        yield page
        assert warnings == []


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet: jobs wait for it."""
    return tmp_path / "gate"


def create(stack: Stack, **members: Any) -> str:
    """Create a report; the address of its page."""
    request = {"queue": "reports"} | members
    answer = httpx.post(f"{stack.api_url}/jobs/create", json=request, trust_env=False)
    assert answer.status_code == 201, answer.text
    return f"{stack.api_url}/dashboard/jobs/{answer.json()['id']}"


def test_progress_log_and_end_arrive_without_reload(page: Page, stack: Stack, gate: Path) -> None:
    """Who watches a job sees it come to its end, with its result."""
    page.goto(create(stack, payload={"gate": str(gate), "name": "weekly"}))
    page.evaluate("window.marked = true")
    expect(page.locator("#progress")).to_contain_text("50 % half of it")
    expect(page.locator("#attempt .log")).to_contain_text("began weekly")
    expect(page.locator("#timeline li.now")).to_contain_text("Attempt 1 runs")
    gate.touch()
    expect(page.locator("#head")).to_contain_text("completed")
    expect(page.locator("#attempt .log")).to_contain_text("went on with weekly")
    expect(page.locator("#timeline")).to_contain_text("Attempt 1 completed")
    expect(page.locator("#result")).to_contain_text('"name": "weekly"')
    # A page that was loaded anew has no mark.
    assert page.evaluate("window.marked") is True


def test_a_long_log_shows_its_end_and_follows_it(page: Page, stack: Stack, gate: Path) -> None:
    """The newest line is seen, also when more come; who scrolls up to read stays where they are."""
    page.goto(create(stack, payload={"gate": str(gate), "name": "long", "lines": 100}))
    log = page.locator("#attempt .log")
    expect(log.get_by_text("line 99")).to_be_visible()
    wait_for_tail = """() => { const log = document.querySelector("#attempt .log");
        return log.scrollHeight > log.clientHeight
            && log.scrollHeight - log.scrollTop - log.clientHeight < 3; }"""
    page.wait_for_function(wait_for_tail)
    page.reload()
    page.wait_for_function(wait_for_tail)
    gate.touch()
    expect(log.get_by_text("went on with long")).to_be_in_viewport()
    page.wait_for_function(wait_for_tail)


def test_who_reads_in_a_log_is_left_there(page: Page, stack: Stack, gate: Path) -> None:
    """Lines that come do not scroll away what somebody reads."""
    page.goto(create(stack, payload={"gate": str(gate), "name": "read", "lines": 100}))
    log = page.locator("#attempt .log")
    expect(log.get_by_text("line 99")).to_be_visible()
    log.evaluate("log => { log.scrollTop = 0; }")
    expect(log.get_by_text("began read")).to_be_in_viewport()
    gate.touch()
    expect(log.get_by_text("went on with read")).to_be_attached()
    assert log.evaluate("log => log.scrollTop") == 0


def test_what_was_folded_stays_folded(page: Page, stack: Stack, gate: Path) -> None:
    """The tree of the payload is as a person left it when the page changes around it."""
    page.goto(create(stack, payload={"gate": str(gate), "name": "folded"}))
    tree = page.locator("#payload details").first
    expect(page.locator("#progress")).to_contain_text("50 %")
    assert tree.get_attribute("open") is not None
    page.locator("#payload summary").first.click()
    gate.touch()
    expect(page.locator("#head")).to_contain_text("completed")
    assert tree.get_attribute("open") is None
    page.get_by_role("button", name="Unfold").first.click()
    assert tree.get_attribute("open") is not None


def test_the_buttons_copy(page: Page, stack: Stack, gate: Path) -> None:
    """The payload as JSON, and the commands, are on the clipboard."""
    gate.touch()
    place = create(stack, payload={"gate": str(gate), "name": "it's <b>"})
    page.goto(place)
    page.locator("#payload").get_by_role("button", name="Copy").click()
    expect(page.locator("#payload [data-copy-from]")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == httpx.get(f"{place}/files/payload.json", trust_env=False).text
    assert '"name": "it\'s <b>"' in copied
    page.locator("#again summary").click()
    page.locator("#again-1").get_by_role("button", name="Copy").click()
    expect(page.locator("#again-1 [data-copy]")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"curl {stack.api_url}/jobs/create ")


def test_a_failed_job_is_edited_and_run_again(page: Page, stack: Stack, gate: Path) -> None:
    """Its error is in front; the form takes another payload, and the page follows the second life."""
    gate.touch()
    page.goto(create(stack, payload={"gate": str(gate), "name": "monthly", "fails": True}))
    expect(page.locator("#attempt-error")).to_contain_text("the report monthly cannot be made")
    expect(page.locator("#attempt-error")).to_contain_text("raised in report_jobs.py:")
    page.get_by_role("link", name="Edit and retry").click()
    payload = page.get_by_label("Payload (JSON)")
    payload.fill(payload.input_value().replace("true", "false"))
    page.get_by_role("button", name="Save and run again").click()
    expect(page.get_by_role("status").filter(has_text="queued again")).to_be_visible()
    expect(page.locator("#head")).to_contain_text("completed")
    expect(page.locator("#timeline")).to_contain_text("Lay there until someone queued it again")
    expect(page.locator("#versions")).to_contain_text("/payload/fails true → false")


def test_a_running_job_is_cancelled_and_another_is_cloned_and_deleted(
    page: Page, stack: Stack, gate: Path
) -> None:
    """Each button asks before it acts, and the page says what came of it."""
    place = create(stack, payload={"gate": str(gate), "name": "cancelled"})
    page.goto(place)
    expect(page.locator("#progress")).to_contain_text("50 %")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#timeline")).to_contain_text("Asked to stop")
    expect(page.locator("#head")).to_contain_text("cancelled")
    gate.touch()
    page.get_by_role("button", name="Clone").click()
    expect(page.locator(".notice")).to_contain_text("was created like job")
    expect(page.locator("#head")).to_contain_text("completed")
    assert page.url != place
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/dashboard/jobs")


def test_a_narrow_screen_needs_no_scrolling_sideways(page: Page, stack: Stack, gate: Path) -> None:
    """Long words and text from right to left stay inside of 320 px."""
    gate.touch()
    name = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}" + "w" * 400
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto(
        create(stack, payload={"gate": str(gate), "name": name, "fails": True}, concurrency_key="k" * 200)
    )
    expect(page.locator("#head")).to_contain_text("failed")
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert sideways(page) == 0
