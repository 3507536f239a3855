"""`python -m tests.browser.screenshots`: every page, in both themes, to docs/screenshots."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.dashboard.chromium import THEMES, chromium, watched_page
from tests.support.dashboard.pages import addresses, page_routes
from tests.support.dashboard.shop import Shop, open_shop
from tests.support.dashboard.users import PROVIDER_NAME, shop_with_users
from tests.support.dashboard.webhook_rows import insert_webhook
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.namespaces import two_namespaces
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "screenshots"

#: Tracebacks name the folder of this checkout, which is nobody's business.
NAMELESS = """
folder => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, "/srv/shop");
}
"""

#: What is asked of a page to see most of it.
QUERIES = {
    "/dashboard": "?range=24h",
    "/dashboard/queues/{name:path}": "?range=24h",
    "/dashboard/types/{name:path}": "?range=24h",
    "/dashboard/create": "?type=charge_card",
    "/dashboard/operations/new": "?action=retry&status=failed&queue=payments",
}

#: A job whose handler raised something.
FAILED = """
    SELECT id::text, fingerprint FROM jobs
    WHERE type = 'charge_card' AND status = 'failed'
      AND EXISTS (SELECT FROM attempts WHERE job_id = jobs.id AND traceback IS NOT NULL)
    ORDER BY id DESC LIMIT 1
"""

#: As many as the shop would have had at the speed at which it sells now.
HISTORY_JOBS = 100_000

#: The history is counted by then; a shop that cannot is no subject.
COUNTED_SECONDS = 90


def main() -> None:
    """Write them all, over those that are there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        _write_namespaces(browser)
        _write_pages(browser)


def _write_namespaces(browser: Browser) -> None:
    """The choice in the header, where one API serves two namespaces."""
    with (
        tempfile.TemporaryDirectory(prefix="goqueue-namespaces-") as folder,
        two_namespaces(Path(folder)) as both,
    ):
        both.start_api()
        both.start_workers()
        with both.client() as client:
            for number in range(20):
                job = {"queue": QUEUE, "type": "quick", "payload": {"token": f"order {number}"}}
                client.post("/ns/beta/jobs/create", json=job).raise_for_status()
        both.stacks["beta"].wait_until_finished(COUNTED_SECONDS)
        for theme in THEMES:
            with watched_page(browser, theme=theme, base_url=both.first.api_url) as page:
                page.goto("/ns/beta/dashboard/jobs")
                page.locator("details.namespaces summary").click()
                page.screenshot(path=FOLDER / f"switcher-{theme}.png")
                sys.stdout.write(f"switcher-{theme}.png\n")


def _write_pages(browser: Browser) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="goqueue-shop-") as folder,
        open_shop(Path(folder), history=HISTORY_JOBS) as shop,
    ):
        _write_login(browser, shop)
        wait_until(lambda: _is_counted(shop), COUNTED_SECONDS, "the history to be counted")
        places = _places(shop)
        for theme in THEMES:
            with watched_page(browser, theme=theme, base_url=shop.url) as page:
                for template in page_routes():
                    page.goto(addresses(template, places)[0].partition("?")[0] + QUERIES.get(template, ""))
                    page.wait_for_load_state("networkidle")
                    page.evaluate(NAMELESS, str(ROOT))
                    name = f"{_name_of(template)}-{theme}.png"
                    page.screenshot(path=FOLDER / name)
                    sys.stdout.write(f"{name}\n")


def _write_login(browser: Browser, shop: Shop) -> None:
    """The login where users sign in at a provider, and what somebody without a role is told."""
    with shop_with_users(shop) as guarded:
        for theme in THEMES:
            with watched_page(browser, theme=theme, base_url=guarded.url) as page:
                page.goto("/dashboard/login")
                page.screenshot(path=FOLDER / f"login-{theme}.png")
                page.get_by_role("link", name=f"Sign in with {PROVIDER_NAME}").click()
                page.get_by_role("button", name="Bob").click()
                page.get_by_role("alert").wait_for()
                page.screenshot(path=FOLDER / f"login-no-role-{theme}.png")
                sys.stdout.write(f"login-{theme}.png\nlogin-no-role-{theme}.png\n")


def _is_counted(shop: Shop) -> bool:
    counted = shop.stack.rows(
        "SELECT up_to > now() - interval '2 minutes' FROM rollup_progress WHERE step_seconds < 3600"
    )
    return len(counted) >= 2 and all(row[0] for row in counted if row[0] is not None)


def _places(shop: Shop) -> dict[str, list[str]]:
    """What each page is about: what there is most to see of."""
    wait_until(lambda: shop.stack.rows(FAILED), COUNTED_SECONDS, "a job to fail")
    failed = shop.stack.rows(FAILED)
    (report,) = shop.stack.rows(
        "SELECT id::text FROM jobs WHERE type = 'build_report' AND status = 'running'"
    )
    operation = shop.request(
        "POST",
        "/bulk-operations",
        {"action": "retry", "filter": {"queue": "images", "status": "failed"}, "rate": 0.2},
    )
    shop.request("POST", "/namespaces", {"name": "acme", "max_waiting_jobs": 1000, "share": 2})
    return {
        "namespaces": ["acme"],
        "jobs": [report[0]],
        "editable": [failed[0][0]],
        "operations": [str(operation["id"])],
        "queues": ["images"],
        "types": ["send_receipt"],
        "schedules": ["stock-berlin"],
        "failures": [failed[0][1]],
        "webhooks": ["warehouse"],
        "deliveries": insert_webhook(shop.database, "warehouse", "the receiver answered 503"),
    }


def _one_of(things: str) -> str:
    return f"{things.removesuffix('ies')}y" if things.endswith("ies") else things.removesuffix("s")


def _name_of(template: str) -> str:
    """A file's name: "/dashboard/queues/{name:path}" → "queue"; the overview has no other part."""
    parts = template.split("/")[2:]
    words = [
        _one_of(part) if following.startswith("{") else part
        for part, following in zip(parts, [*parts[1:], ""], strict=False)
        if not part.startswith("{")
    ]
    return "-".join(words) or "overview"


if __name__ == "__main__":
    main()
