"""What every page of the dashboard keeps, checked on one that is open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.support.dashboard.chromium import sideways

__all__ = ["WIDTHS", "faults", "scrolled_sideways", "violations"]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()

#: The levels of axe-core that no page may have.
INTOLERABLE = {"serious", "critical"}

#: The rules whose answer depends on the theme.
COLOUR_RULES = ("color-contrast", "link-in-text-block")

WIDTHS = (1280, 768, 320)


def faults(page: Page) -> list[str]:
    """What is wrong with a page, whatever it shows; empty: nothing. It is open in 1,280 px and light."""
    landmarks = page.locator("body > main, body > header").count()
    found = [] if page.locator("h1").count() == 1 and landmarks == 2 else ["not one h1, main and header"]
    # A notice that is still fading in has no contrast.
    page.emulate_media(reduced_motion="reduce")
    found += violations(page)
    page.emulate_media(color_scheme="dark")
    found += [f"dark: {one}" for one in violations(page, *COLOUR_RULES)]
    page.emulate_media(color_scheme="light")
    found += [f"{excess} px too wide at {width}" for width, excess in scrolled_sideways(page).items()]
    return found


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds that is serious. Its script is evaluated from outside: the page's policy stays."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "(options) => axe.run(document, options).then((found) => found.violations)",
        {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {}),
    )
    return [
        f"{one['id']}: {one['help']}: {json.dumps([node['html'][:200] for node in one['nodes'][:3]])}"
        for one in found
        if one["impact"] in INTOLERABLE
    ]


def scrolled_sideways(page: Page) -> dict[int, int]:
    """By how many pixels the page, or a table in it, is too wide for the window; with everything unfolded."""
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    found = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        # What a script draws is drawn anew for the width.
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if excess := sideways(page):
            found[width] = excess
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    return found
