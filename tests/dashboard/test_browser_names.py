"""Browsers are called by their names."""

from __future__ import annotations

import pytest

from goqueue.dashboard.parts.browser_names import browser_name

APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox 128 on Linux"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36", "Chrome 140 on Linux"),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0.1",
            "Edge 140 on Windows",
        ),
        (
            f"Mozilla/5.0 (iPhone; like Mac OS X) {APPLE} Version/17.0 Mobile/1 Safari/604.1",
            "Safari 17 on iPhone",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/18.1 Safari/605.1.15",
            "Safari 18 on macOS",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14) {WEBKIT} Chrome/139.0 Mobile Safari/537.36",
            "Chrome 139 on Android",
        ),
        ("curl/8.5.0", "curl/8.5.0"),
        ("<b>me</b>", "<b>me</b>"),
        ("Firefox/1", "Firefox 1"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_browser_is_named(user_agent: str | None, name: str) -> None:
    """With its version and its system, where it is a known one; else as it says itself."""
    assert browser_name(user_agent) == name
