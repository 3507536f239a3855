"""A real browser: Debian's Chromium, driven by Playwright. Whatever a page complains about fails the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

__all__ = ["THEMES", "chromium", "quiet_page", "sideways", "watched_page"]

EXECUTABLE = Path("/usr/bin/chromium")

THEMES = ("light", "dark")

#: Before any script of a page: what its policy stopped is said in the console, as an error.
TELL_VIOLATIONS = """
    addEventListener("securitypolicyviolation", (event) =>
      console.error("CSP violation", event.violatedDirective, event.blockedURI, event.sample));
"""

#: Of the page and of each table: these scroll by themselves, which nobody sees who does not try.
EXCESS = """Math.max(...[document.documentElement, ...document.querySelectorAll(".table")].map(
    (element) => element.scrollWidth - element.clientWidth))"""

#: What the server refuses is shown on the page, and said in the console by the browser, or by htmx.
REFUSED = ("the server responded with a status of 4", "Response Status Error Code 4")

#: A request that a new page has overtaken.
OVERTAKEN = ("net::ERR_ABORTED",)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; without one the test is skipped here, and fails in CI."""
    if not EXECUTABLE.exists():
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: run make setup-browser")
        pytest.skip("there is no Chromium: run make setup-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched_page(
    browser: Browser,
    *,
    width: int = 1280,
    scripts: bool = True,
    theme: str = "light",
    base_url: str | None = None,
) -> Iterator[Page]:
    """A tab in which nothing may go wrong: no error, no violation of the policy, no failed request.

    It says yes to every question.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        java_script_enabled=scripts,
        color_scheme=_scheme(theme),
        base_url=base_url,
    )
    context.add_init_script(TELL_VIOLATIONS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.extend(_complaint(said)))
    page.on("response", lambda answer: complaints.extend(_failure(answer)))
    page.on(
        "requestfailed",
        lambda asked: (
            None if asked.failure in OVERTAKEN else complaints.append(f"{asked.url}: {asked.failure}")
        ),
    )
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    context.close()
    assert not complaints, "\n".join(complaints)


def quiet_page(browser: Browser, *, width: int = 1280, scripts: bool = True) -> AbstractContextManager[Page]:
    """Open a tab like `watched_page`, in the light theme."""
    return watched_page(browser, width=width, scripts=scripts)


def sideways(page: Page) -> int:
    """Measure by how many pixels the page, or what scrolls in it, is too wide."""
    return int(page.evaluate(EXCESS))


def _scheme(theme: str) -> Literal["light", "dark"]:
    return "dark" if theme == "dark" else "light"


def _complaint(said: ConsoleMessage) -> Iterator[str]:
    if said.type == "error" and not any(words in said.text for words in REFUSED):
        yield said.text


def _failure(answer: Response) -> Iterator[str]:
    if answer.status >= 500:
        yield f"{answer.status} of {answer.url}"
