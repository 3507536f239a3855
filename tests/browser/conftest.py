"""What the tests of the dashboard stand on: a real Chromium, and real processes with live jobs.

`browser` (session)
    Debian's Chromium. Playwright drives one a process only: a module has no browser of its own.
`shop` (session)
    A `Shop` (tests/support/dashboard/shop.py): servers, the API with the dashboard, workers and a scheduler,
    a day of history, and jobs of every kind that keep coming. `shop.url`, `shop.create(queue, payload, …)`,
    `shop.request(method, path, body)`, `shop.stack.rows(sql, parameters)`, `shop.database`. All tests of a
    process share it: make what you change yourself. The job types are in tests/support/jobs/shop_jobs.py.
`theme`
    "light"; a test that is parametrized with it gets the other one too:
    `@pytest.mark.parametrize("theme", THEMES, indirect=True)`.
`page`
    A tab of 1,280 px in it, whose relative addresses are those of the shop:
    `page.goto("/dashboard/jobs")`. It says yes to every question. At the end of the test nothing may have
    gone wrong in it: no error of a script or in the console, no violation of the policy, no request that
    failed or was answered with 5xx.
`open_page`
    Makes more such tabs: `open_page(width=320, scripts=False, theme="dark")`.

Whoever needs processes of his own (to kill them, or with other settings) starts a `Stack` or `open_shop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.dashboard.chromium import chromium, watched_page
from tests.support.dashboard.shop import Shop, open_shop

#: A poll is sent every two seconds, and two processes of tests share the machine.
EXPECT_MILLISECONDS = 15_000

OpenPage = Callable[..., Page]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test time for the processes that it may have to start."""
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of this process."""
    with chromium() as started:
        expect.set_options(timeout=EXPECT_MILLISECONDS)
        yield started


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop of this process."""
    with open_shop(tmp_path_factory.mktemp("shop")) as opened:
        yield opened


@pytest.fixture
def theme(request: pytest.FixtureRequest) -> str:
    """The theme of the pages of a test."""
    return str(getattr(request, "param", "light"))


@pytest.fixture
def open_page(browser: Browser, shop: Shop, theme: str) -> Iterator[OpenPage]:
    """Opens tabs in which nothing may go wrong."""
    with ExitStack() as opened:

        def open_one(**options: Any) -> Page:
            options = {"theme": theme, "base_url": shop.url} | options
            return opened.enter_context(watched_page(browser, **options))

        yield open_one


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """A tab."""
    return open_page()
