"""How times, durations and numbers read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from markupsafe import Markup

from goqueue.dashboard.parts.presentation import (
    NOTHING,
    browser_name,
    count,
    duration,
    moment,
    number,
    per_second,
    percent,
    size,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, NOTHING),
        (float("nan"), NOTHING),
        (0.0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.035, "35 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.24, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (7_380, "2 h 3 min"),
        (183_600, "2 d 3 h"),
        (-2.5, "\N{MINUS SIGN}2.5 s"),
    ],
)
def test_durations_are_humane(seconds: float | None, text: str) -> None:
    """Two units at most, and no unit is ever full."""
    assert duration(seconds) == text


def test_a_time_is_exact_and_in_utc() -> None:
    """The element has the time for scripts and for who hovers, wherever the value came from."""
    at = datetime(2026, 2, 3, 1, 2, 3, 456_000, tzinfo=timezone(timedelta(hours=1)))
    assert moment(at) == (
        '<time datetime="2026-02-03T00:02:03.456000+00:00" title="2026-02-03 00:02:03.456 UTC">'
        "03 Feb 00:02:03</time>"
    )
    assert isinstance(moment(datetime.now(UTC)), Markup)
    assert moment(None) == NOTHING


@pytest.mark.parametrize(
    ("value", "text"), [(None, NOTHING), (0, "0"), (999, "999"), (1_234_567, "1,234,567"), (1.6, "2")]
)
def test_numbers_have_their_thousands_apart(value: float | None, text: str) -> None:
    """So that they can be read at a glance."""
    assert number(value) == text


def test_a_count_that_stopped_says_so() -> None:
    """At its limit it is "so many or more"."""
    assert (count(9_999, 10_000), count(10_000, 10_000)) == ("9,999", "10,000+")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (0, "0/s"), (0.25, "0.25/s"), (3.14, "3.1/s"), (1_250, "1,250/s")],
)
def test_rates_have_as_many_digits_as_matter(value: float | None, text: str) -> None:
    """Fewer, the larger they are."""
    assert per_second(value) == text


@pytest.mark.parametrize(("part", "text"), [(None, NOTHING), (0, "0 %"), (0.125, "12.5 %"), (1, "100 %")])
def test_parts_are_per_cent(part: float | None, text: str) -> None:
    """Of one."""
    assert percent(part) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, NOTHING), (0, "0 B"), (512, "512 B"), (1_536, "1.5 KiB"), (3 << 20, "3 MiB"), (5 << 30, "5 GiB")],
)
def test_sizes_have_binary_units(octets: int | None, text: str) -> None:
    """And three digits."""
    assert size(octets) == text


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
